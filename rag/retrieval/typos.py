"""Slips of the keyboard: a word that nobody knows, one letter away from a word of the papers found."""

import re
from collections.abc import Callable, Iterable

from rag.text.terms import content_terms

_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
# Shorter words lie one letter away from too many others.
_SHORTEST = 6
# A question holds fewer words that nobody knows; each is compared with every word of the papers found.
_MOST = 20


def find_typos(
    question: str, texts: Iterable[str], is_word: Callable[[str], bool]
) -> dict[str, str]:
    """Misspelt words of the question, each with the word of the texts that is meant.

    A slip is one letter wrong, missing, doubled or swapped with the next (optimal string alignment, distance 1), not
    the first one, and never a digit: CIFAR-100 is no misspelt CIFAR-10. What `is_word` knows is none.
    """
    known = {word for text in texts for word in _WORD.findall(text)}
    stems = {stem for word in known for stem in content_terms(word)}
    unknown = [
        word
        for word in dict.fromkeys(_WORD.findall(question))
        if len(word) >= _SHORTEST
        and not stems.issuperset(content_terms(word))
        and not is_word(word)
    ]
    meant = {
        word: sorted(other for other in known if _is_slip(word.casefold(), other.casefold()))
        for word in unknown[:_MOST]
    }
    return {word: _in_case_of(word, others[0]) for word, others in meant.items() if others}


def corrected(question: str, spelling: dict[str, str]) -> str:
    """The question with its slips put right."""
    return _WORD.sub(lambda found: spelling.get(found[0], found[0]), question)


def _is_slip(word: str, other: str) -> bool:
    from rapidfuzz.distance import OSA

    if len(other) < _SHORTEST or word[0] != other[0] or _digits(word) != _digits(other):
        return False
    return bool(OSA.distance(word, other, score_cutoff=1) == 1)


def _digits(word: str) -> str:
    return "".join(filter(str.isdigit, word))


def _in_case_of(word: str, other: str) -> str:
    """A capital at the beginning of a sentence of a paper is none of the question's."""
    return other.casefold() if word.islower() else other
