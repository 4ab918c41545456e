"""Verification: true sentences pass, and sentences made false by one word do not."""

import json

import pytest
from conftest import PAPERS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag.errors import ModelUnavailable
from rag.models.nli import NliProbabilities, label_indices, load_nli_model
from rag.verification.verifier import LexicalVerifier, NliVerifier, Source

ABSTRACTS = [
    json.loads(line).get("abstract", "") for line in PAPERS.read_text(encoding="utf-8").splitlines()
]
SENTENCES = [
    f"{sentence.rstrip('.')}."
    for abstract in ABSTRACTS
    for sentence in abstract.split(". ")
    if sentence
]
WORDS = "GPT-4 50% 2x not no without $L^2$ \\href \\footnote 10^-3 0^-1 .5 - − [3] than beats less half 1e999 ½ ٣ %".split()
texts = st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=12).map(" ".join)


def check(sentence, *quotes, title=""):
    return LexicalVerifier().check(sentence, [Source(quote, title) for quote in quotes])


def test_a_title_alone_carries_nothing():
    title = "Reed beds: the most rigorous study of rivers by the Lantern pioneers"
    said = "The Lantern pioneers made the most rigorous study of rivers."
    assert (
        check(said, "Upkeep takes 5 hours a week.", title=title).reason
        == "only the title of the source speaks of this"
    )
    assert check(
        "Reed beds take 5 hours of upkeep a week.", "Upkeep takes 5 hours a week.", title=title
    ).supported


@pytest.mark.parametrize(
    ("sentence", "quote"),
    [
        (
            "KIVI lowers peak memory by 2.6x [1].",
            "With KIVI, peak memory drops by a factor of 2.6, weights included.",
        ),
        ("The cache shrinks by 50 percent [2].", "The cache shrinks by 50% on average."),
        (
            "Throughput rises 2-fold on long prompts.",
            "On long prompts the throughput rises by 2 times.",
        ),
        ("Throughput doubles on long prompts.", "On long prompts the throughput is twice as high."),
        ("Throughput rises 2 to 3 times.", "Throughput rises 2-3x on long prompts."),
        (
            "Two models were trained on 10,000 slides.",
            "We trained 2 models on 10000 slides of tissue.",
        ),
        ("The rate was 3e-4 in all runs.", "All runs have a rate of 3 × 10⁻⁴."),
        ("GPT 4 answers most questions.", "GPT-4 answers most of the questions."),
        ("CIFAR-10 accuracy stays level.", "Accuracy stays level on CIFAR10/100."),
        ("LLMs tolerate sparse keys.", "Large language models tolerate sparse keys."),
        ("Calibration data is not needed.", "No calibration data is needed."),
        ("The method needs no tuning of keys.", "A tuning-free method for keys."),
        ("The estimate has errors in winter.", "The estimate is not without errors in winter."),
        ("The loss of accuracy is small.", "The loss of accuracy is small, and no speed is lost."),
        ("Ledger reduces error on slides.", "Ledger improves error on slides."),
        ("Mistral is worse than Falcon on slides.", "On slides, Falcon is better than Mistral."),
        (
            "Falcon beats Mistral on slides.",
            "We show that Falcon beats Mistral on slides of tissue.",
        ),
    ],
)
def test_a_true_sentence_is_supported(sentence, quote):
    assert check(sentence, quote).reason == ""


@pytest.mark.parametrize(
    ("sentence", "quote", "why"),
    [
        (
            "The cache shrinks by 27 on average.",
            "The cache shrinks by 1.27 on average.",
            "number 27",
        ),
        (
            "The cache shrinks by 50x on average.",
            "The cache shrinks by 50% on average.",
            "number 50x",
        ),
        ("The cache takes 5 GB in memory.", "The cache takes 5 MB in memory.", "number 5 GB"),
        (
            "The score changes by -5% in memory tests.",
            "The score changes by 5% in memory tests.",
            "number -5%",
        ),
        ("Throughput rises 2-3% on prompts.", "Throughput rises 2-3x on prompts.", "number"),
        (
            "Three models were trained on slides.",
            "Two models were trained on slides.",
            "number Three",
        ),
        (
            "The model has 4 layers of attention.",
            "GPT-4 has layers of attention in its model.",
            "number 4",
        ),
        (
            "ResNet-101 segments liver tissue well.",
            "ResNet-50 segments liver tissue well.",
            "mention ResNet-101",
        ),
        (
            "We find that Falcon keeps its quality.",
            "We find that Mistral keeps its quality.",
            "mention Falcon",
        ),
        (
            "Calibration data is needed for keys.",
            "No calibration data is needed for keys.",
            "denies this",
        ),
        (
            "FP8 does not suit inference on devices.",
            "FP8 suits inference on devices.",
            "does not deny",
        ),
        ("It isn't trained on liver tissue.", "It is trained on liver tissue.", "does not deny"),
        (
            "Accuracy falls when keys are merged.",
            "Accuracy rises when keys are merged.",
            "opposite",
        ),
        (
            "Inference is slower with merged keys.",
            "Inference is faster with merged keys.",
            "opposite",
        ),
        ("Ledger raises error on slides.", "Ledger improves error on slides.", "opposite"),
        ("We see Mistral beats Falcon.", "We see Falcon beats Mistral.", "other way round"),
        (
            "With MCMC error is lower than with VI.",
            "With VI error is lower than with MCMC.",
            "other way round",
        ),
        (
            "The parliament voted on railway budgets.",
            "The cache shrinks on average.",
            "does not speak",
        ),
        ("It depends.", "The cache shrinks on average.", "too little"),
        ("", "The cache shrinks on average.", "too little"),
    ],
)
def test_a_sentence_made_false_is_not_supported_and_says_why(sentence, quote, why):
    support = check(sentence, quote)
    assert not support.supported
    assert why in support.reason


def test_names_may_come_from_the_title_and_numbers_may_not():
    assert check(
        "KIVI shrinks the cache.", "The cache shrinks.", title="KIVI: 2bit caches"
    ).supported
    assert not check(
        "The cache shrinks to 2 bits.", "The cache shrinks.", title="KIVI: 2bit caches"
    ).supported


def test_two_quotations_carry_a_sentence_together():
    quotes = ("Ledger shrinks the cache by 71%.", "Rotation needs no calibration data.")
    sentence = "Ledger shrinks the cache by 71% and rotation needs no calibration data [1][2]."
    assert check(sentence, *quotes).supported
    assert not check(sentence, quotes[0]).supported


def test_the_score_is_the_weighted_share_of_the_words_that_are_carried():
    quote = Source("Barley tolerates salt.")
    weights = {"barley": 3.0, "drought": 1.0}
    assert LexicalVerifier().check("Barley drought", [quote]).score == 0.5
    assert LexicalVerifier(weights.__getitem__).check("Barley drought", [quote]).score == 0.75
    assert (
        not LexicalVerifier(weights.__getitem__, threshold=0.8)
        .check("Barley drought", [quote])
        .supported
    )


def test_no_source_supports_nothing():
    assert not LexicalVerifier().check("Barley tolerates salt.", []).supported


@pytest.mark.parametrize("sentence", SENTENCES)
def test_every_sentence_supports_itself_also_among_others_and_when_marked(sentence):
    assert check(f"{sentence[:-1]} [4].", sentence).supported
    assert check(f"Here {sentence[0].lower()}{sentence[1:]}", sentence).supported


@given(texts.filter(lambda text: any(c.isalnum() for c in text.replace("[3]", ""))))
def test_a_literal_copy_is_always_supported(text):
    assert check(text, text).supported


@given(
    st.sampled_from(SENTENCES),
    st.integers(10_000, 10**12),
    st.sampled_from(["", "%", "x", " GB", " bananas"]),
)
def test_a_number_that_the_source_lacks_breaks_support(sentence, number, unit):
    assert "number" in check(f"{sentence[:-1]} with {number}{unit}.", sentence).reason


@settings(max_examples=60)
@given(st.sampled_from(SENTENCES), st.permutations(SENTENCES[:4]))
def test_the_order_of_the_sources_does_not_matter(sentence, quotes):
    assert check(f"So {sentence}", *quotes) == check(f"So {sentence}", *sorted(quotes))


@given(texts, texts, texts)
@example("0^-5 10^-999 1e-999", "9" * 9000 + "k", "\\href{a} \\frac")
def test_no_text_breaks_the_check(sentence, quote, title):
    support = check(sentence, quote, title=title)
    assert 0 <= support.score <= 1
    assert support.supported == (support.reason == "")


# --- natural-language inference ---------------------------------------------------------------------------


class FixedRelations:
    """Gives each premise the relation that the test fixed for it, whatever the sentence."""

    name = "fixed"
    fingerprint = "fixed-1"

    def __init__(self, **relations):
        self._relations = relations

    def predict(self, pairs):
        return [
            self._relations.get(premise.split()[0].lower(), NliProbabilities(0.1, 0.8, 0.1))
            for premise, _ in pairs
        ]


def inferred(sentence, *quotes, **relations):
    return NliVerifier(FixedRelations(**relations)).check(
        sentence, [Source(quote) for quote in quotes]
    )


def test_the_likeliest_relation_decides():
    sentence, quote = "Plants endure salty ground.", "Barley tolerates salt."
    assert inferred(sentence, quote, barley=NliProbabilities(0.6, 0.3, 0.1)).score == 0.6
    assert inferred(sentence, quote, barley=NliProbabilities(0.6, 0.3, 0.1)).supported
    assert (
        inferred(sentence, quote, barley=NliProbabilities(0.4, 0.5, 0.1)).reason
        == "the source does not say this"
    )
    assert (
        inferred(sentence, quote, barley=NliProbabilities(0.1, 0.2, 0.7)).reason
        == "the source says the opposite"
    )


def test_a_quotation_that_contradicts_outweighs_one_that_entails_less():
    quotes = ("Barley tolerates salt.", "Wheat suffers from salt.")
    entailed, contradicted = NliProbabilities(0.7, 0.2, 0.1), NliProbabilities(0.05, 0.05, 0.9)
    assert not inferred(
        "Plants endure salty ground.", *quotes, barley=entailed, wheat=contradicted
    ).supported
    assert inferred(
        "Plants endure salty ground.", *quotes, barley=entailed, wheat=NliProbabilities(0, 1, 0)
    ).supported


def test_numbers_and_names_are_checked_whatever_the_model_finds():
    sure = NliProbabilities(1.0, 0.0, 0.0)
    assert (
        "number 9"
        in inferred("Plants endure 9 salty weeks.", "Barley tolerates salt.", barley=sure).reason
    )
    assert (
        "mention USDA"
        in inferred("So the USDA says plants.", "Barley tolerates salt.", barley=sure).reason
    )


def test_inference_without_a_source_or_of_a_copy_asks_no_model():
    assert inferred("Plants endure salty ground.").reason == "there is no source"
    assert inferred(
        "Barley tolerates salt [1].", "Barley tolerates salt.", barley=NliProbabilities(0, 0, 1)
    ).supported


def test_labels_are_told_by_their_names():
    assert label_indices("m", {0: "CONTRADICTION", 1: "entailment", 2: "Neutral"}) == (1, 2, 0)


@pytest.mark.parametrize(
    "labels", [{0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, {0: "entailment", 1: "neutral"}, {}]
)
def test_labels_that_say_nothing_are_refused(labels):
    with pytest.raises(ModelUnavailable, match="entailment, neutral and contradiction"):
        label_indices("m", labels)


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    """A tiny BERT with random weights that always finds a contradiction, its labels in an unusual order."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("nli")
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(WordPiece({name: n for n, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **special
    ).save_pretrained(folder)
    labels = {0: "NEUTRAL", 1: "Contradiction", 2: "entailment"}
    config = BertConfig(
        vocab_size=len(names), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, id2label=labels, label2id={label: n for n, label in labels.items()},
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    torch.nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data = torch.tensor([1.0, 2.0, 0.0])
    model.save_pretrained(folder)
    return folder


def test_a_model_in_a_folder_gives_probabilities_in_the_order_of_its_labels(cross_encoder):
    model = load_nli_model(str(cross_encoder))
    pairs = [("Barley tolerates salt.", "Plants endure salt."), ("word " * 300, "Plants.")]
    for relation in model.predict(pairs):
        # The softmax of (0, 1, 2).
        assert relation.entailment == pytest.approx(0.0900, abs=1e-3)
        assert relation.neutral == pytest.approx(0.2447, abs=1e-3)
        assert relation.contradiction == pytest.approx(0.6652, abs=1e-3)
    assert model.predict([]) == []
    assert (
        not NliVerifier(model)
        .check("Plants endure salty ground.", [Source("Barley tolerates salt.")])
        .supported
    )


def test_an_inference_model_that_is_not_there_is_named():
    with pytest.raises(ModelUnavailable, match="nobody/no-such-model"):
        load_nli_model("nobody/no-such-model")
