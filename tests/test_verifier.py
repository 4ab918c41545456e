"""Verification: details are compared exactly, and the entailment model decides on the meaning."""

import json
import math

import pytest
from conftest import PAPERS
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.models.reader import Reading
from rag.models.registry import load_entailment_model
from rag.verification.details import check_details
from rag.verification.entailment import entailment_log_odds
from rag.verification.verifier import Source


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


# --- details --------------------------------------------------------------------------------------


def find_reason(sentence, *quotes, title=""):
    """Return why details rule a sentence out, or nothing."""
    support = check_details(sentence, [Source(quote, title) for quote in quotes])
    return support.reason if support else ""


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
    ],
)
def test_number_or_name_in_another_form_is_found(sentence, quote):
    assert find_reason(sentence, quote) == ""


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
        ("It depends.", "The cache shrinks on average.", "too short"),
        ("", "The cache shrinks on average.", "too short"),
    ],
)
def test_number_or_name_that_the_source_lacks_is_the_reason(sentence, quote, reason):
    assert reason in find_reason(sentence, quote)


def test_names_may_come_from_the_title_but_numbers_may_not():
    quote, title = "The cache shrinks.", "KIVI: 2bit caches"
    assert find_reason("KIVI shrinks the cache.", quote, title=title) == ""
    assert "number 2" in find_reason("The cache shrinks to 2 bits.", quote, title=title)


def test_two_quotations_hold_the_details_together():
    quotes = ("Ledger shrinks the cache by 71%.", "Rotation needs no calibration data.")
    sentence = "Like Rotation, Ledger shrinks the cache by 71% [1][2]."
    assert find_reason(sentence, *quotes) == ""
    assert "mention Rotation" in find_reason(sentence, quotes[0])


@given(
    st.sampled_from(SENTENCES),
    st.integers(10_000, 10**12),
    st.sampled_from(["", "%", "x", " GB", " bananas"]),
)
def test_any_foreign_number_is_found(sentence, number, unit):
    assert "number" in find_reason(f"{sentence[:-1]} with {number}{unit}.", sentence)


# --- meaning --------------------------------------------------------------------------------------

CLAIM = "Plants endure salty ground."
QUOTE = "Barley tolerates salt."


def test_details_are_told_without_the_meaning():
    assert "number 9" in find_reason("Plants endure 9 salty weeks.", QUOTE)
    assert "mention USDA" in find_reason("So the USDA says plants.", QUOTE)
    assert check_details(CLAIM, []).reason == "no source was cited"
    assert check_details(CLAIM, [Source(QUOTE)]) is None


@given(texts.filter(lambda text: any(c.isalnum() for c in text.replace("[3]", ""))))
def test_literal_copy_is_always_supported(text):
    assert check_details(f"{text} [4]", [Source("Wheat."), Source(text)]).supported


class NotingReader:
    """Reader that notes what it read."""

    fingerprint = "noting"

    def __init__(self):
        self.asked = []

    def read(self, question, abstracts):
        self.asked.append((question, *abstracts))
        return [Reading(0.0, 1.5, ()) for _ in abstracts]


def test_entailment_model_reads_all_quotations_and_no_footnote_mark():
    reader = NotingReader()
    sources = [Source(QUOTE, "Salt"), Source("Wheat does not.", "Salt")]
    assert entailment_log_odds(reader, f"{CLAIM} [1][2]", sources) == 1.5
    [(question, abstract)] = reader.asked
    assert (question, abstract.title) == (CLAIM, "Salt")
    assert abstract.sentences == (QUOTE, "Wheat does not.")


def test_title_is_left_out_where_sources_have_several():
    reader = NotingReader()
    entailment_log_odds(reader, CLAIM, [Source(QUOTE, "Salt"), Source("Wheat does not.", "Rye")])
    assert reader.asked[0][1].title == ""


@pytest.mark.parametrize(
    ("true", "false", "quote"),
    [
        (
            "Barley grows on salty ground.",
            "Barley cannot grow on salty ground.",
            "Barley tolerates salt and grows well on salty ground.",
        ),
        (
            "Readers liked the short summaries more.",
            "Readers liked the long summaries more.",
            "Readers preferred the short summaries over the long ones.",
        ),
        (
            "The parser was trained on letters.",
            "The parser was trained because letters are rare.",
            "We train a parser on a corpus of letters from merchants.",
        ),
    ],
)
def test_entailment_model_that_is_shipped_prefers_what_a_quotation_says(true, false, quote):
    model = load_entailment_model()
    by_true, by_false = (
        entailment_log_odds(model, text, [Source(quote)]) for text in (true, false)
    )
    assert by_true > by_false


@settings(max_examples=30)
@given(texts, texts, texts)
def test_any_text_can_be_checked(sentence, quote, title):
    sources = [Source(quote, title)]
    support = check_details(sentence, sources)
    assert support is None or support.supported == (support.reason == "")
    assert math.isfinite(entailment_log_odds(load_entailment_model(), sentence, sources))
