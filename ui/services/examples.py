"""Questions to begin with, made from the titles of the library at hand; only such as it answers."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

from rag import Assistant, FootnoteError, Paper

_MOST = 4
# So many papers are looked at, the newest, and so many questions are tried.
_LOOKED_AT = 500
_TRIED = 10
# "KIVI" of "KIVI: A Tuning-Free ...", and words long enough to tell of a subject.
_NAME = re.compile(r"([\w.+-]*[A-Z][\w.+-]*(?: [\w.+-]+)?): ")
_WORD = re.compile(r"[a-z][a-z-]{4,}")


def questions_for(assistant: Assistant) -> list[str]:
    """Up to four questions, the same ones as long as the library is the same."""
    return list(_questions(assistant, assistant.library.digest))


# The digest is there to end what was kept when the library changes.
@lru_cache(maxsize=16)
def _questions(assistant: Assistant, digest: str) -> tuple[str, ...]:
    count = assistant.count()
    papers = list(assistant.papers(max(0, count - _LOOKED_AT)))
    found: list[str] = []
    for tried, question in enumerate(_candidates(papers)):
        if len(found) == _MOST or tried == _TRIED:
            break
        if _is_answered(assistant, question):
            found.append(question)
    return tuple(found)


def _is_answered(assistant: Assistant, question: str) -> bool:
    try:
        answer = assistant.ask(question, style="quote")
    except FootnoteError:
        return False
    return not answer.abstained and answer.confidence_label != "low"


def _candidates(papers: Sequence[Paper]) -> Iterator[str]:
    """Questions on methods by their names and on subjects that several titles share, in turns."""
    names = list(dict.fromkeys(found[1] for paper in papers if (found := _NAME.match(paper.title))))
    names = names[:: max(1, len(names) // _TRIED)]
    subjects = _subjects(papers)
    for number in range(_TRIED):
        if number < len(names):
            yield (f"What does {names[number]} do?", f"How well does {names[number]} work?")[
                number % 2
            ]
        if number < len(subjects):
            yield f"What is known about {subjects[number]}?"


def _subjects(papers: Sequence[Paper]) -> list[str]:
    pairs = Counter(
        pair for paper in papers for pair in set(pairwise(_WORD.findall(paper.title.lower())))
    )
    return [" ".join(pair) for pair, _ in pairs.most_common(_TRIED)]
