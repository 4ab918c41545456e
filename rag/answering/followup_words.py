"""Read the few words of a follow-up that its kind leaves open: ordinals, years, counts, topics."""

import re
from collections.abc import Iterable, Sequence

from rag.answering.followup_kinds import paper_terms
from rag.records import Paper
from rag.text.terms import content_terms

_POSITIONS = {"first": 0, "1st": 0, "former": 0, "second": 1, "2nd": 1, "latter": 1, "last": -1}
_POSITIONS |= {"third": 2, "3rd": 2, "fourth": 3, "4th": 3, "fifth": 4, "5th": 4}
_NUMBERS = {"one": 0, "two": 1, "three": 2, "1": 0, "2": 1, "3": 2, "4": 3, "5": 4}
_NOUNS = "one|paper|study|work|article|document|source|result|hit|item|of (?:these|those|them)"
_ORDINAL = re.compile(
    rf"(?:\bthe )?\b({'|'.join(_POSITIONS)})(?= (?:{_NOUNS})\b)"
    rf"|\bthe ({'|'.join(_POSITIONS)})(?=,|\W*$)"
    rf"|(?:#|\b(?:number|no\.|paper) )({'|'.join(_NUMBERS)})\b",
    re.IGNORECASE,
)
_YEARS = re.compile(
    r"(?:\b(?:since|before|after|until|from|in|between|up to|of|and|to)\s+)*\b(?:19|20)\d\d\b",
    re.IGNORECASE,
)
_COUNT_PREFIX = re.compile(
    r"^(?:(?:and|but|so|then|what about|how about)\s+)*"
    r"(?:how many\s*)?(?:papers|are there|were)?\s*",
    re.IGNORECASE,
)


def find_position(question: str) -> int | None:
    """Return which paper "the second one" means, from 0; -1 for the last one."""
    ordinal = _ORDINAL.search(question.casefold())
    return (_POSITIONS | _NUMBERS)[ordinal[ordinal.lastindex or 0]] if ordinal else None


def move_position(earlier: str, question: str) -> str:
    """Return "who wrote the second one?" for "who wrote the first one?" and "and the second?"."""
    ordinal = _ORDINAL.search(question)
    if not (ordinal and _ORDINAL.search(earlier)):
        return question
    return _ORDINAL.sub(ordinal[0], earlier, count=1)


def name_score(question: str, paper: Paper, papers: Sequence[Paper]) -> float:
    """Return how many words of a question belong to one of several papers.

    A word counts less if others of the papers have it, and twice if it is in the title.
    """
    title = content_terms(paper.title)
    score = 0.0
    for term in set(content_terms(question)) & paper_terms(paper):
        owners = sum(term in paper_terms(other) for other in papers)
        score += (2 if term in title else 1) / owners
    return score


def remove_years(question: str) -> str:
    """Return a question without years and the words that belong to them: "since 2019"."""
    return _YEARS.sub("", question)


def remove_count_words(question: str) -> str:
    """Return what restricts a count: "since 2019" of "and how many since 2019?"."""
    return _COUNT_PREFIX.sub("", question).strip()


def join_new(words: Iterable[str], text: str) -> str:
    """Join words, each once, without those that a text already contains."""
    seen = set(content_terms(text))
    new_words = []
    for word in words:
        terms = content_terms(word)
        if not terms or not seen.issuperset(terms):
            new_words.append(word)
            seen.update(terms)
    return " ".join(new_words)
