"""Find typos in a question: unknown words that are one edit away from a word of the papers."""

import re
from collections.abc import Callable, Iterable, Mapping

from rag.text.terms import content_terms

_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
# Shorter words are one edit away from too many others.
_MIN_WORD_CHARS = 6
# Limits time, because each unknown word is compared with every word of the papers.
MAX_UNKNOWN_WORDS = 20


def find_typos(
    question: str, texts: Iterable[str], is_word: Callable[[str], bool]
) -> dict[str, str]:
    """Map misspelt words of a question to the intended words of the texts.

    A typo has one letter wrong, missing, doubled or swapped with the next one (optimal string
    alignment distance 1). The first letter and digits must match: CIFAR-100 is not a typo for
    CIFAR-10. Words that `is_word` accepts are never typos.
    """
    vocabulary: set[str] = set()
    for text in texts:
        vocabulary.update(_WORD.findall(text))
    typos = {}
    for word in _unknown_words(question, vocabulary, is_word)[:MAX_UNKNOWN_WORDS]:
        matches = [other for other in vocabulary if _is_typo(word.casefold(), other.casefold())]
        if matches:
            typos[word] = _match_case(word, min(matches))
    return typos


def correct_typos(question: str, typos: Mapping[str, str]) -> str:
    """Return the question with its typos replaced."""
    return _WORD.sub(lambda match: typos.get(match[0], match[0]), question)


def _unknown_words(
    question: str, vocabulary: Iterable[str], is_word: Callable[[str], bool]
) -> list[str]:
    stems: set[str] = set()
    for word in vocabulary:
        stems.update(content_terms(word))
    unknown = []
    for word in dict.fromkeys(_WORD.findall(question)):
        is_known = stems.issuperset(content_terms(word))
        if len(word) >= _MIN_WORD_CHARS and not is_known and not is_word(word):
            unknown.append(word)
    return unknown


def _is_typo(word: str, correct: str) -> bool:
    from rapidfuzz.distance import OSA

    if len(correct) < _MIN_WORD_CHARS or word[0] != correct[0]:
        return False
    if _digits(word) != _digits(correct):
        return False
    return bool(OSA.distance(word, correct, score_cutoff=1) == 1)


def _digits(word: str) -> str:
    return "".join(filter(str.isdigit, word))


def _match_case(word: str, correct: str) -> str:
    """Return the correct word in lower case if the misspelt one is."""
    return correct.casefold() if word.islower() else correct
