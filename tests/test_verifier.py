"""Verification: true sentences are supported, and sentences made false by one word are not."""

import json

import pytest
from conftest import PAPERS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_models import save_tiny_nli_model

from rag.errors import ModelUnavailable
from rag.models.nli import NliProbabilities, label_indices, load_nli_model
from rag.verification.verifier import LexicalVerifier, NliVerifier, Source


def load_sentences():
    sentences = []
    for line in PAPERS.read_text(encoding="utf-8").splitlines():
        parts = json.loads(line).get("abstract", "").split(". ")
        sentences += [f"{part.rstrip('.')}." for part in parts if part]
    return sentences


SENTENCES = load_sentences()
WORDS = (
    "GPT-4 50% 2x not no without $L^2$ \\href \\footnote 10^-3 0^-1 .5 - − [3] than beats less "
    "half 1e999 ½ ٣ %"
).split()
texts = st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=12).map(" ".join)


def check(sentence, *quotes, title=""):
    return LexicalVerifier().check(sentence, [Source(quote, title) for quote in quotes])


def test_title_alone_does_not_support_a_sentence():
    title = "Reed beds: the most rigorous study of rivers by the Lantern pioneers"
    quote = "Upkeep takes 5 hours a week."
    praise = "The Lantern pioneers made the most rigorous study of rivers."
    reason = "only the title of the source mentions this"
    assert check(praise, quote, title=title).reason == reason
    assert check("Reed beds take 5 hours of upkeep a week.", quote, title=title).supported


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
def test_true_sentence_is_supported(sentence, quote):
    assert check(sentence, quote).reason == ""


@pytest.mark.parametrize(
    ("sentence", "quote", "reason"),
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
            "does not cover",
        ),
        ("It depends.", "The cache shrinks on average.", "too short"),
        ("", "The cache shrinks on average.", "too short"),
    ],
)
def test_false_sentence_is_not_supported_and_has_a_reason(sentence, quote, reason):
    support = check(sentence, quote)
    assert not support.supported
    assert reason in support.reason


def test_names_may_come_from_the_title_but_numbers_may_not():
    quote, title = "The cache shrinks.", "KIVI: 2bit caches"
    assert check("KIVI shrinks the cache.", quote, title=title).supported
    assert not check("The cache shrinks to 2 bits.", quote, title=title).supported


def test_two_quotations_support_a_sentence_together():
    quotes = ("Ledger shrinks the cache by 71%.", "Rotation needs no calibration data.")
    sentence = "Ledger shrinks the cache by 71% and rotation needs no calibration data [1][2]."
    assert check(sentence, *quotes).supported
    assert not check(sentence, quotes[0]).supported


def test_score_is_the_weighted_share_of_words_in_the_source():
    sources = [Source("Barley tolerates salt.")]
    weight = {"barley": 3.0, "drought": 1.0}.__getitem__
    assert LexicalVerifier().check("Barley drought", sources).score == 0.5
    assert LexicalVerifier(weight).check("Barley drought", sources).score == 0.75
    strict = LexicalVerifier(weight, threshold=0.8)
    assert not strict.check("Barley drought", sources).supported


def test_nothing_is_supported_without_a_source():
    assert not LexicalVerifier().check("Barley tolerates salt.", []).supported


def test_every_sentence_supports_itself_with_marks_and_introductions():
    for sentence in SENTENCES:
        assert check(f"{sentence[:-1]} [4].", sentence).supported, sentence
        assert check(f"Here {sentence[0].lower()}{sentence[1:]}", sentence).supported, sentence


@given(texts.filter(lambda text: any(c.isalnum() for c in text.replace("[3]", ""))))
def test_literal_copy_is_always_supported(text):
    assert check(text, text).supported


@given(
    st.sampled_from(SENTENCES),
    st.integers(10_000, 10**12),
    st.sampled_from(["", "%", "x", " GB", " bananas"]),
)
def test_number_that_the_source_lacks_is_the_reason(sentence, number, unit):
    assert "number" in check(f"{sentence[:-1]} with {number}{unit}.", sentence).reason


@settings(max_examples=60)
@given(st.sampled_from(SENTENCES), st.permutations(SENTENCES[:4]))
def test_order_of_the_sources_does_not_matter(sentence, quotes):
    assert check(f"So {sentence}", *quotes) == check(f"So {sentence}", *sorted(quotes))


@given(texts, texts, texts)
@example("0^-5 10^-999 1e-999", "9" * 9000 + "k", "\\href{a} \\frac")
def test_any_text_can_be_checked(sentence, quote, title):
    support = check(sentence, quote, title=title)
    assert 0 <= support.score <= 1
    assert support.supported == (support.reason == "")


# --- natural-language inference -----------------------------------------------------------------

CLAIM = "Plants endure salty ground."
QUOTE = "Barley tolerates salt."


class FixedNliModel:
    """NLI model with fixed probabilities for each premise, given by its first word."""

    name = "fixed"
    fingerprint = "fixed-1"

    def __init__(self, **probabilities):
        self._probabilities = probabilities

    def predict(self, pairs):
        neutral = NliProbabilities(0.1, 0.8, 0.1)
        first_words = [premise.split()[0].lower() for premise, _ in pairs]
        return [self._probabilities.get(word, neutral) for word in first_words]


def infer(sentence, *quotes, **probabilities):
    verifier = NliVerifier(FixedNliModel(**probabilities))
    return verifier.check(sentence, [Source(quote) for quote in quotes])


def test_likeliest_relation_decides():
    entailed = infer(CLAIM, QUOTE, barley=NliProbabilities(0.6, 0.3, 0.1))
    assert (entailed.supported, entailed.score) == (True, 0.6)
    neutral = infer(CLAIM, QUOTE, barley=NliProbabilities(0.4, 0.5, 0.1))
    assert neutral.reason == "the source does not say this"
    contradicted = infer(CLAIM, QUOTE, barley=NliProbabilities(0.1, 0.2, 0.7))
    assert contradicted.reason == "the source says the opposite"


def test_contradiction_outweighs_a_weaker_entailment():
    quotes = (QUOTE, "Wheat suffers from salt.")
    entailed, contradicted = NliProbabilities(0.7, 0.2, 0.1), NliProbabilities(0.05, 0.05, 0.9)
    neutral = NliProbabilities(0, 1, 0)
    assert not infer(CLAIM, *quotes, barley=entailed, wheat=contradicted).supported
    assert infer(CLAIM, *quotes, barley=entailed, wheat=neutral).supported


def test_numbers_and_names_are_checked_whatever_the_model_predicts():
    certain = NliProbabilities(1.0, 0.0, 0.0)
    number = infer("Plants endure 9 salty weeks.", QUOTE, barley=certain)
    assert "number 9" in number.reason
    name = infer("So the USDA says plants.", QUOTE, barley=certain)
    assert "mention USDA" in name.reason


def test_missing_source_and_copy_need_no_model():
    assert infer(CLAIM).reason == "no source was cited"
    assert infer("Barley tolerates salt [1].", QUOTE, barley=NliProbabilities(0, 0, 1)).supported


def test_labels_are_recognized_by_name():
    assert label_indices("m", {0: "CONTRADICTION", 1: "entailment", 2: "Neutral"}) == (1, 2, 0)


@pytest.mark.parametrize(
    "labels", [{0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, {0: "entailment", 1: "neutral"}, {}]
)
def test_unknown_labels_are_refused(labels):
    with pytest.raises(ModelUnavailable, match="entailment, neutral and contradiction"):
        label_indices("m", labels)


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    """Folder of a tiny model that always predicts a contradiction; its label order is unusual."""
    labels = ("NEUTRAL", "Contradiction", "entailment")
    return save_tiny_nli_model(tmp_path_factory.mktemp("nli"), labels)


def test_model_from_a_folder_predicts_probabilities_by_label(cross_encoder):
    model = load_nli_model(str(cross_encoder))
    pairs = [(QUOTE, "Plants endure salt."), ("word " * 300, "Plants.")]
    for probabilities in model.predict(pairs):
        # Softmax of (0, 1, 2).
        assert probabilities.entailment == pytest.approx(0.0900, abs=1e-3)
        assert probabilities.neutral == pytest.approx(0.2447, abs=1e-3)
        assert probabilities.contradiction == pytest.approx(0.6652, abs=1e-3)
    assert model.predict([]) == []
    assert not NliVerifier(model).check(CLAIM, [Source(QUOTE)]).supported


def test_missing_nli_model_is_named():
    with pytest.raises(ModelUnavailable, match="nobody/no-such-model"):
        load_nli_model("nobody/no-such-model")
