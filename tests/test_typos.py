"""Typos are corrected to words of the papers; everything else stays as it was typed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag import Assistant
from rag.retrieval.typos import correct_typos, find_typos

TEXTS = [
    "Attention is pruned. Throughput rises by 40% on CIFAR-100 with LightningDiT.",
    "Specialized networks, and one more message about inference.",
]
WORDS = {"overtook", "throughout", "massage"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("troughput", "throughput"),  # missing letter
        ("throughputt", "throughput"),  # doubled letter
        ("trhoughput", "throughput"),  # swapped letters
        ("throughpit", "throughput"),  # wrong letter
        ("Troughput", "Throughput"),
        ("LightingDiT", "LightningDiT"),
        ("specialised", "specialized"),
        ("inferrence", "inference"),
        ("throughputs", "throughputs"),  # another form of a known word
        ("hroughput", "hroughput"),  # the first letter must match
        ("trughput", "trughput"),  # two edits away
        ("CIFAR-101", "CIFAR-101"),  # digits must match
        ("massage", "massage"),  # an English word, although "message" is near
        ("throughout", "throughout"),
        ("atten", "atten"),  # too short
        ("overtook", "overtook"),
        ("zzzzzzzz", "zzzzzzzz"),
    ],
)
def test_typo_is_corrected_to_a_word_of_the_papers(typed, meant):
    question = f"What about {typed}, in 2024?"
    typos = find_typos(question, TEXTS, WORDS.__contains__)
    assert correct_typos(question, typos) == f"What about {meant}, in 2024?"


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=3))
def test_only_typos_are_changed(question, texts):
    typos = find_typos(question, texts, lambda _: False)
    assert all(word in question for word in typos)
    assert find_typos(question, texts, lambda _: True) == {}
    assert find_typos(question, [question], lambda _: False) == {}
    assert correct_typos(question, {}) == question


def test_answer_to_a_misspelt_question_says_how_it_was_interpreted(small_library, footnote):
    assistant = Assistant.open(small_library, language_model="none")
    correct = assistant.ask("How much perplexity do Sliding Ledgers cost?")
    misspelt = assistant.ask("How much perplexty do Slidding Ledgers cost?")
    typos = {"perplexty": "perplexity", "Slidding": "Sliding"}
    assert misspelt.trace.spelling == typos
    assert misspelt.text == correct.text
    assert correct.trace.spelling == {}
    assert json.loads(misspelt.to_json())["trace"]["spelling"] == typos
    question = "How much perplexty do Sliding Ledgers cost?"
    run = footnote("ask", question, "--library", small_library, "--model", "none")
    assert "interpreted “perplexty” as “perplexity”" in " ".join((run.out + run.err).split())
