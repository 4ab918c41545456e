"""Slips of the keyboard are read as what is meant; everything else is left as it was typed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag import Assistant
from rag.retrieval.typos import corrected, find_typos

TEXTS = [
    "Attention is pruned. Throughput rises by 40% on CIFAR-100 with LightningDiT.",
    "Specialized networks, and one more message about inference.",
]
WORDS = {"overtook", "throughout", "massage"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("troughput", "throughput"),  # a letter is missing
        ("throughputt", "throughput"),  # one is doubled
        ("trhoughput", "throughput"),  # two are swapped
        ("throughpit", "throughput"),  # one is wrong
        ("Troughput", "Throughput"),
        ("LightingDiT", "LightningDiT"),
        ("specialised", "specialized"),
        ("inferrence", "inference"),
        ("throughputs", "throughputs"),  # another form of a word that they know
        ("hroughput", "hroughput"),  # nobody misses the first letter
        ("trughput", "trughput"),  # two letters away
        ("CIFAR-101", "CIFAR-101"),  # a digit is no slip
        ("massage", "massage"),  # a word, if another one
        ("throughout", "throughout"),
        ("atten", "atten"),  # too short
        ("overtook", "overtook"),
        ("zzzzzzzz", "zzzzzzzz"),
    ],
)
def test_a_slip_is_read_as_the_word_of_the_papers(typed, meant):
    question = f"What about {typed}, in 2024?"
    assert (
        corrected(question, find_typos(question, TEXTS, WORDS.__contains__))
        == f"What about {meant}, in 2024?"
    )


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=3))
def test_whatever_was_typed_only_slips_are_changed(question, texts):
    spelling = find_typos(question, texts, lambda _: False)
    assert all(word in question for word in spelling)
    assert find_typos(question, texts, lambda _: True) == {}
    assert find_typos(question, [question], lambda _: False) == {}, (
        "what the papers say is never wrong"
    )
    assert corrected(question, {}) == question


def test_a_misspelt_question_is_answered_and_the_answer_says_how_it_was_read(
    small_library, footnote
):
    assistant = Assistant.open(small_library, language_model="none")
    right = assistant.ask("How much perplexity do Sliding Ledgers cost?")
    slip = assistant.ask("How much perplexty do Slidding Ledgers cost?")
    assert slip.trace.spelling == {"perplexty": "perplexity", "Slidding": "Sliding"}
    assert slip.text == right.text
    assert right.trace.spelling == {}
    assert json.loads(slip.to_json())["trace"]["spelling"] == {
        "perplexty": "perplexity",
        "Slidding": "Sliding",
    }
    shown = footnote(
        "ask",
        "How much perplexty do Sliding Ledgers cost?",
        "--library",
        small_library,
        "--model",
        "none",
    )
    assert "read “perplexty” as “perplexity”" in " ".join((shown.out + shown.err).split())
