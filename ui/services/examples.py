"""Example questions, made from titles of a library. Only questions that it answers are shown."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, groupby, islice
from math import log2

from rag import Assistant, FootnoteError, Paper
from rag.text.terms import STOP_WORDS, content_terms

_MAX_EXAMPLES = 4
# Questions are about the newest papers.
_MAX_PAPERS = 500
_MAX_CANDIDATES = 10
# "KIVI" of "KIVI: A Tuning-Free ..."
_NAME = re.compile(r"([\w.+-]*[A-Z][\w.+-]*(?: [\w.+-]+)?): ")
# Words long enough to be part of a subject, with nothing but a space between them.
_WORDS = re.compile(r"[a-z][a-z-]{3,}(?: [a-z][a-z-]{3,})+")
_MAX_SUBJECT_WORDS = 4
_MIN_TITLES = 2
# A subject of more titles than this share is too wide to ask about.
_MAX_SHARE = 0.04


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
    return not answer.abstained


def _candidates(papers: Sequence[Paper]) -> Iterator[str]:
    """Yield questions about named methods and about subjects of several titles, alternating."""
    names = _method_names(papers)
    names = names[:: max(1, len(names) // _MAX_CANDIDATES)]
    subjects = _shared_subjects(papers)
    for number in range(_MAX_CANDIDATES):
        is_odd = number % 2
        if number < len(names):
            name = names[number]
            yield f"How well does {name} work?" if is_odd else f"What does {name} do?"
        if number < len(subjects):
            subject = subjects[number]
            yield (
                f"How many of my papers mention {subject}?"
                if is_odd
                else f"Which papers study {subject}?"
            )


def _method_names(papers: Sequence[Paper]) -> list[str]:
    """Return the names before the colon of titles, each once."""
    names: dict[str, None] = {}
    for paper in papers:
        match = _NAME.match(paper.title)
        if match and match[1].split()[0].lower() not in STOP_WORDS:
            names[match[1]] = None
    return list(names)


def _shared_subjects(papers: Sequence[Paper]) -> list[str]:
    """Return subjects that several titles share, best first, each in one wording only.

    What counts is how often a subject stands on its own: "large language" is nearly always part of
    "large language models". Longer ones count more, as in the C-value of Frantzi, Ananiadou and
    Mima (2000, "Automatic recognition of multi-word terms").
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for paper in papers:
        counts.update(set(_phrases(paper.title)))
    in_longer: dict[tuple[str, ...], int] = defaultdict(int)
    for phrase, count in counts.items():
        for part in _word_ranges(phrase[1:]) | _word_ranges(phrase[:-1]):
            in_longer[part] = max(in_longer[part], count)
    values = {}
    for phrase, count in counts.items():
        if _MIN_TITLES <= count <= max(_MIN_TITLES, _MAX_SHARE * len(papers)):
            values[phrase] = log2(len(phrase)) * (count - in_longer[phrase])
    by_terms: dict[frozenset[str], str] = {}
    for phrase in sorted(values, key=lambda phrase: (-values[phrase], phrase)):
        text = " ".join(phrase)
        by_terms.setdefault(frozenset(content_terms(text)), text)
    return list(by_terms.values())[:_MAX_CANDIDATES]


def _phrases(title: str) -> Iterator[tuple[str, ...]]:
    """Yield all pairs, triples and so on of adjacent words without a stop word."""
    for run in _WORDS.findall(title.lower()):
        for is_stop_word, words in groupby(run.split(), STOP_WORDS.__contains__):
            if not is_stop_word:
                yield from _word_ranges(tuple(words))


def _word_ranges(words: tuple[str, ...]) -> set[tuple[str, ...]]:
    ranges = set()
    for start, end in combinations(range(len(words) + 1), 2):
        if 2 <= end - start <= _MAX_SUBJECT_WORDS:
            ranges.add(words[start:end])
    return ranges
