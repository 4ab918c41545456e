"""Counting the pieces of its sources that a sentence is put together from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.verification.fragments import count_fragments

HERON = "Heron counts boats with a camera and misses one boat in forty."
words = st.lists(st.sampled_from(["heron", "camera", "boat", "lamp", "canal"]), max_size=8)


@pytest.mark.parametrize(
    ("sentence", "fragments"),
    [
        ("Heron counts boats with a camera.", 1),
        ("A camera: Heron counts boats.", 2),
        ("Boats count Heron.", 3),
        ("Heron counts boats with lamps.", 2),
        ("", 0),
    ],
)
def test_words_that_stand_side_by_side_in_the_source_are_one_fragment(sentence, fragments):
    assert count_fragments(sentence, [HERON]) == fragments


def test_fragments_may_be_of_several_sources():
    sentence = "Heron counts boats on twelve canals."
    assert count_fragments(sentence, [HERON]) == 3
    assert count_fragments(sentence, [HERON, "It was tried on twelve canals."]) == 2


def test_words_that_only_the_question_has_are_left_out():
    question = "Which ship counter uses a camera?"
    assert count_fragments("The ship counter counts boats.", [HERON], question) == 1
    assert count_fragments("The ship counter counts boats.", [HERON]) == 3


@given(words, words)
def test_there_are_no_more_fragments_than_words(sentence, source):
    count = count_fragments(" ".join(sentence), [" ".join(source)])
    assert count <= len(sentence)
    assert bool(count) == bool(sentence)
