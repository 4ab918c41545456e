"""Example questions, made from titles of a library. Only questions that it answers are shown."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice, pairwise

from rag import Assistant, FootnoteError, Paper

_MAX_EXAMPLES = 4
# Questions are about the newest papers.
_MAX_PAPERS = 500
_MAX_CANDIDATES = 10
# "KIVI" of "KIVI: A Tuning-Free ..."; and words long enough to name a subject.
_NAME = re.compile(r"([\w.+-]*[A-Z][\w.+-]*(?: [\w.+-]+)?): ")
_WORD = re.compile(r"[a-z][a-z-]{4,}")


def example_questions(assistant: Assistant) -> list[str]:
    """Return up to four questions; they stay the same until the library changes."""
    return list(_examples(assistant, assistant.library.digest))


# The digest is a parameter so that a changed library is not served from the cache.
@lru_cache(maxsize=16)
def _examples(assistant: Assistant, digest: str) -> tuple[str, ...]:
    papers = list(assistant.papers(max(0, assistant.count() - _MAX_PAPERS)))
    examples: list[str] = []
    for question in islice(_candidates(papers), _MAX_CANDIDATES):
        if len(examples) == _MAX_EXAMPLES:
            break
        if _is_answered(assistant, question):
            examples.append(question)
    return tuple(examples)


def _is_answered(assistant: Assistant, question: str) -> bool:
    try:
        answer = assistant.ask(question, style="quote")
    except FootnoteError:
        return False
    return not answer.abstained and answer.confidence_label != "low"


def _candidates(papers: Sequence[Paper]) -> Iterator[str]:
    """Yield questions about named methods and about subjects of several titles, alternating."""
    names = _method_names(papers)
    names = names[:: max(1, len(names) // _MAX_CANDIDATES)]
    subjects = _shared_subjects(papers)
    for number in range(_MAX_CANDIDATES):
        if number < len(names):
            name = names[number]
            yield f"How well does {name} work?" if number % 2 else f"What does {name} do?"
        if number < len(subjects):
            yield f"What is known about {subjects[number]}?"


def _method_names(papers: Sequence[Paper]) -> list[str]:
    """Return the names before the colon of titles, each once."""
    matches = [_NAME.match(paper.title) for paper in papers]
    return list(dict.fromkeys(match[1] for match in matches if match))


def _shared_subjects(papers: Sequence[Paper]) -> list[str]:
    """Return the most common pairs of adjacent words in titles."""
    pairs: Counter[tuple[str, str]] = Counter()
    for paper in papers:
        words = _WORD.findall(paper.title.lower())
        pairs.update(dict.fromkeys(pairwise(words), 1))
    return [" ".join(pair) for pair, _ in pairs.most_common(_MAX_CANDIDATES)]
