"""Count papers of the library for a question, and say in words what was counted and how."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.library.filters import Condition, join_conditions
from rag.retrieval.mentions import Mentions, find_mentions
from rag.retrieval.question_types import find_subject
from rag.retrieval.restrictions import Restriction, find_restrictions
from rag.text.counts import format_count

if TYPE_CHECKING:
    from rag.library.library import Library

MAX_LISTED_PAPERS = 10
_MAX_LISTED_NAMES = 4
# A longer topic that no paper mentions is a question about what a paper says.
_MAX_UNKNOWN_TOPIC_TERMS = 4
# A count that ignores these words would answer another question.
_NOT_COUNTABLE = re.compile(
    r"\b(?:no|not|without|except|excluding|neither|never|per|each|every|recently|cites?|cited|"
    r"at least|at most|(?:more|fewer|less) than|"
    r"(?:recent|latest|newest|oldest) (?:papers|articles|works|publications)|"
    r"(?:this|last|past|recent|current|previous) (?:\w+ )?(?:years?|months?|weeks?|decades?))\b|"
    r"n['’]t\b",
    re.IGNORECASE,
)
_ASKS_SHARE = re.compile(r"\b(?:share|fraction|percentage|percent|proportion)\b", re.IGNORECASE)
_ABOUT_TITLES = re.compile(r"\btitles?\b", re.IGNORECASE)
# Condition for records that lack a field.
_UNKNOWN = {"year": "year IS NULL", "venue": "venue = ''", "author": "authors IN ('', '[]')"}


@dataclass(frozen=True, slots=True)
class PaperCount:
    """Result of a count: what to say, and the papers that were counted, by row number.

    At most `MAX_LISTED_PAPERS` of them are in `listed`, best first. `wordings` are the words that
    they mention. `remarks` say how the papers were counted and what may be missing.
    """

    text: str
    remarks: tuple[str, ...]
    listed: tuple[int, ...]
    wordings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _CountQuery:
    """What a question restricts its count to. `subject` is empty when it names no topic."""

    subject: str
    column: str
    restrictions: tuple[Restriction, ...]


def count_papers(
    question: str,
    allowed: Condition | None,
    library: "Library",
    restriction: str = "that your filters allow",
) -> PaperCount | None:
    """Count the papers that a question asks for, among those `allowed`: the papers `restriction`.

    Return None when there are no papers, or when a part of the question cannot be counted. Call it
    inside `Library.snapshot()`.
    """
    query = _read_question(question, library)
    total = len(library.paper_keys(allowed))
    if query is None or not total:
        return None
    conditions = [allowed, *(restriction.condition for restriction in query.restrictions)]
    keys = library.paper_keys(join_conditions(conditions))
    remarks = _describe_gaps(query.restrictions, allowed, library)
    mentions = None
    if query.subject:
        mentions = find_mentions(query.subject, library, query.column)
        if not mentions.wordings:
            return None
        remarks = [*_describe_apart(mentions, keys), *remarks]
        keys = [key for key in keys if key in mentions.papers]
        if not keys and len(mentions.terms) > _MAX_UNKNOWN_TOPIC_TERMS:
            return None
    share = f" ({100 * len(keys) / total:.1f}%)" if _ASKS_SHARE.search(question) else ""
    denominator = f"{_denominator(total, allowed, restriction)}{share}"
    text = _describe(query, mentions, len(keys), denominator)
    return PaperCount(
        text,
        tuple(remarks),
        _best(keys, mentions, library),
        mentions.wordings if mentions else (),
    )


def _read_question(question: str, library: "Library") -> _CountQuery | None:
    """Return what to count; None when the question cannot be read completely."""
    restrictions = tuple(find_restrictions(question, library))
    spans = [restriction.span for restriction in restrictions]
    subject = find_subject(question, "count", spans)
    if _NOT_COUNTABLE.search(question):
        return None
    is_about_titles = _ABOUT_TITLES.search(question.replace(subject, ""))
    return _CountQuery(subject, "title" if is_about_titles else "", restrictions)


def _best(keys: Sequence[int], mentions: Mentions | None, library: "Library") -> tuple[int, ...]:
    """Return the papers to list: the best by BM25, or the first ones when there is no topic."""
    if mentions is None:
        return tuple(keys[:MAX_LISTED_PAPERS])
    ranked = library.search_full_text(mentions.terms, MAX_LISTED_PAPERS, keys)
    return tuple(dict.fromkeys([*ranked, *keys]))[:MAX_LISTED_PAPERS]


# --- words ------------------------------------------------------------------------------------


def _denominator(total: int, allowed: Condition | None, restriction: str) -> str:
    if allowed is None:
        return f"your {format_count(total, 'paper')}"
    return f"the {format_count(total, 'paper')} {restriction}"


def _size(denominator: str) -> str:
    """Return a denominator as a noun phrase of its own: `2,000 papers in your library`."""
    determiner, _, papers = denominator.partition(" ")
    return papers if determiner == "the" else f"{papers} in your library"


def _describe(query: _CountQuery, mentions: Mentions | None, count: int, denominator: str) -> str:
    """Return the sentence that gives the count."""
    listed = f" (the first {MAX_LISTED_PAPERS} are listed)" if count > MAX_LISTED_PAPERS else ""
    if mentions is None and not query.restrictions:
        return f"There {'is' if count == 1 else 'are'} {_size(denominator)}{listed}."
    number = f"{count:,}" if count else "None"
    predicates = []
    if query.restrictions:
        predicates.append(_describe_restrictions(query.restrictions, count == 1))
    if mentions:
        predicates.append(_describe_topic(mentions, query.column, count == 1))
    return f"{number} of {denominator} {' and '.join(predicates)}{listed}."


def _describe_restrictions(restrictions: Iterable[Restriction], is_singular: bool) -> str:
    words = [_restriction_words(restriction) for restriction in restrictions]
    are_authors = all(restriction.field == "author" for restriction in restrictions)
    singular, plural = ("is", "are") if are_authors else ("was published", "were published")
    verb = singular if is_singular else plural
    return f"{verb} {' '.join(words)}"


def _restriction_words(restriction: Restriction) -> str:
    """Return a restriction in words, with the authors that a name stands for."""
    names = restriction.matches
    if restriction.field != "author" or len(names) == 1:
        return restriction.words
    if not names:
        return restriction.words.replace("by ", "by an author called ", 1)
    shown = ", ".join(names[:_MAX_LISTED_NAMES])
    return f"{restriction.words} ({shown}{', …' if len(names) > _MAX_LISTED_NAMES else ''})"


def _describe_topic(mentions: Mentions, column: str, is_singular: bool) -> str:
    wordings = " or ".join(map("“{}”".format, mentions.wordings))
    place = "the title" if column else "title or abstract"
    return f"{'mentions' if is_singular else 'mention'} {wordings} in {place}"


def _describe_apart(mentions: Mentions, allowed: Iterable[int]) -> list[str]:
    """Say how many other papers have all words of the topic, but not side by side."""
    count = len(mentions.apart.intersection(allowed))
    if not count:
        return []
    others = format_count(count, "other has", "others have")
    return [f"{others} all these words in one sentence or in the title, but not side by side."]


def _describe_gaps(
    restrictions: Iterable[Restriction], allowed: Condition | None, library: "Library"
) -> list[str]:
    """Say how many records lack a field that the question restricts."""
    sentences = []
    for field in dict.fromkeys(restriction.field for restriction in restrictions):
        unknown = join_conditions([allowed, Condition(_UNKNOWN[field], ())])
        if count := len(library.paper_keys(unknown)):
            sentences.append(f"{format_count(count, 'record gives', 'records give')} no {field}.")
    return sentences
