"""Find the paper that a question about a record means, and say what the record holds."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rag.library.filters import only_papers
from rag.records import Hit, Paper
from rag.retrieval.question_types import QuestionType, find_subject
from rag.retrieval.retriever import RetrievalResult
from rag.text.cleaning import title_key
from rag.text.counts import format_count
from rag.text.prompt_injection import title_is_injection
from rag.text.terms import content_terms, index_text

if TYPE_CHECKING:
    from rag.library.library import Library

_MAX_LISTED_AUTHORS = 12
# A described paper is meant if it scores this high, and this much higher than the next one. It is
# the right one for 0.86 of the descriptions, half of them of papers that the library lacks.
_MIN_SCORE, _MIN_MARGIN = 0.5, 0.1
_MIN_TITLE_WORDS = 3
# A paper whose abstract says this about a name introduces it, unlike one that only uses it.
_INTRODUCES = frozenset(
    content_terms(
        "introduce present call name term dub release describe develop build create new novel"
    )
)
_MAX_WORDS_TO_NAME = 4
_FIRST = re.compile(r"\b(?:first|lead|leading) author", re.IGNORECASE)
_LAST = re.compile(r"\b(?:last|final|senior) author", re.IGNORECASE)
# Asks for a second field: "who wrote it, and when?".
_ALSO_ASKED: dict[QuestionType, re.Pattern[str]] = {
    "authors": re.compile(r"\band (?:by )?who\b", re.IGNORECASE),
    "year": re.compile(r"\band (?:when\b|(?:in )?(?:what|which) year\b)", re.IGNORECASE),
    "venue": re.compile(r"\band (?:where\b|(?:in )?(?:what|which) (?:venue|journal)\b)", re.I),
}
_HOW_MANY = re.compile(r"\bhow many\b", re.IGNORECASE)
# Pattern in the question, what it asks for, and the field of the record.
_IDENTIFIERS = (
    (re.compile(r"\bdoi\b", re.IGNORECASE), "DOI", "doi"),
    (re.compile(r"\barxiv\b", re.IGNORECASE), "arXiv id", "arxiv_id"),
    (re.compile(r"\b(?:pubmed|pmid)\b", re.IGNORECASE), "PubMed id", "pmid"),
)
# Pattern in the question, and the fact about a paper that no record holds.
_UNRECORDED = (
    (re.compile(r"\bcit|\bimpact\b|h-index", re.IGNORECASE), "citations"),
    (re.compile(r"\bpage|\bhow long\b|\bvolume\b|\bissue\b", re.IGNORECASE), "volume and pages"),
    (re.compile(r"\bfund|\bgrant|\bpaid\b|\bsponsor", re.IGNORECASE), "funding"),
    (re.compile(r"\bpublisher|\bedit", re.IGNORECASE), "publisher and editors"),
    (re.compile(r"mail\b|\bcontact|\bcorrespond|\breach\b", re.IGNORECASE), "contacts"),
    (re.compile(r"\breview|\baward|\bprize", re.IGNORECASE), "reviews and awards"),
)
_AFFILIATIONS = "authors' affiliations"


def find_meant_papers(
    question: str,
    type_: QuestionType,
    search: Callable[[str], RetrievalResult],
    library: "Library",
    paper_ids: Sequence[str] = (),
) -> list[Paper]:
    """Return the papers that a question means: those with `paper_ids`, unless it describes one.

    `search` retrieves papers. The list is empty if it is not clear which paper is meant. Call it
    inside `Library.snapshot()`.
    """
    subject = find_subject(question, type_)
    if len(paper_ids) == 1 or not content_terms(subject):
        by_id = {paper.id: paper for paper in library.papers(only_papers(paper_ids))}
        return [by_id[id_] for id_ in paper_ids if id_ in by_id]
    paper = _find_described(subject, search, library)
    return [paper] if paper else []


def _find_described(
    subject: str, search: Callable[[str], RetrievalResult], library: "Library"
) -> Paper | None:
    """Return the paper that is clearly meant: by title, by name, or by description."""
    hits = search(subject).hits
    papers = [hit.paper for hit in hits]
    return (
        _find_by_title(subject, papers)
        or _find_by_name(subject, papers, library)
        or _find_by_title_words(subject, papers)
        or _find_by_score(hits)
    )


def _find_by_title(subject: str, papers: Iterable[Paper]) -> Paper | None:
    """Return the only paper with this title, the part of it before a colon, or its first words."""
    key = title_key(subject)
    matches = []
    for paper in papers:
        head, _, _ = paper.title.partition(":")
        is_beginning = len(key.split()) >= _MIN_TITLE_WORDS and title_key(paper.title).startswith(
            key
        )
        if key in (title_key(paper.title), title_key(head)) or is_beginning:
            matches.append(paper)
    return matches[0] if len(matches) == 1 else None


def _find_by_name(subject: str, papers: Iterable[Paper], library: "Library") -> Paper | None:
    """Return the only paper that introduces a name of one word, in its title or its abstract."""
    terms = content_terms(subject)
    if len(terms) != 1:
        return None
    mentioning = library.match_full_text(terms)
    by_title = [paper for paper in papers if _is_in_head(terms[0], paper)]
    if len(by_title) == 1:
        return by_title[0]
    if len(mentioning) == 1 and not by_title:
        (paper,) = library.papers_by_key(mentioning).values()
        return paper if _introduces(paper, terms[0]) else None
    return None


def _is_in_head(term: str, paper: Paper) -> bool:
    """Return True for a title that names its system before a colon: "KIVI: A Tuning-Free …"."""
    head, colon, _ = paper.title.partition(":")
    return bool(colon) and content_terms(head) == [term]


def _introduces(paper: Paper, term: str) -> bool:
    """Return True when a name is in the title, or the abstract introduces it a few words before."""
    if term in index_text(paper.title).split():
        return True
    terms = content_terms(paper.abstract)
    for position, other in enumerate(terms):
        before = terms[max(0, position - _MAX_WORDS_TO_NAME) : position]
        if other == term and not _INTRODUCES.isdisjoint(before):
            return True
    return False


def _find_by_title_words(subject: str, papers: Iterable[Paper]) -> Paper | None:
    """Return the only paper with all words of the subject, two or more, in its title."""
    terms = set(content_terms(subject))
    matches = []
    for paper in papers:
        if len(terms) > 1 and terms <= set(index_text(paper.title).split()):
            matches.append(paper)
    return matches[0] if len(matches) == 1 else None


def _find_by_score(hits: Sequence[Hit]) -> Paper | None:
    if not hits or hits[0].score < _MIN_SCORE:
        return None
    next_score = hits[1].score if len(hits) > 1 else 0.0
    return hits[0].paper if hits[0].score - next_score >= _MIN_MARGIN else None


# --- words ------------------------------------------------------------------------------------


def describe_record(paper: Paper, type_: QuestionType, question: str) -> str:
    """Return a sentence that answers from the fields of a record, or says what it lacks."""
    title = "this paper" if title_is_injection(paper.title) else f"“{paper.title.rstrip('.')}”"
    describe = _DESCRIPTIONS.get(type_, _describe_unrecorded)
    sentences = [describe(paper, title, question)]
    for other, pattern in _ALSO_ASKED.items():
        if other != type_ and pattern.search(question):
            sentences.append(_DESCRIPTIONS[other](paper, "it", question))
    return " ".join(_capitalize(sentence) for sentence in sentences)


def _capitalize(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _lacks(title: str, fact: str) -> str:
    return f"The record of {title} does not give its {fact}."


def _describe_authors(paper: Paper, title: str, question: str) -> str:
    names = paper.authors
    if not names:
        return _lacks(title, "authors")
    if len(names) > 1 and _FIRST.search(question):
        return f"The first author of {title} is {names[0]}."
    if len(names) > 1 and _LAST.search(question):
        return f"The last author of {title} is {names[-1]}."
    if _HOW_MANY.search(question):
        return f"{title} has {format_count(len(names), 'author')}: {_join(names)}."
    return f"{title} was written by {_join(names)}."


def _join(names: Sequence[str]) -> str:
    """Join names with commas and a final "and"; many names are cut."""
    if len(names) > _MAX_LISTED_AUTHORS:
        rest = len(names) - _MAX_LISTED_AUTHORS
        names = (*names[:_MAX_LISTED_AUTHORS], format_count(rest, "other"))
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def _describe_year(paper: Paper, title: str, question: str) -> str:
    return f"{title} was published in {paper.year}." if paper.year else _lacks(title, "year")


def _describe_venue(paper: Paper, title: str, question: str) -> str:
    year = f" ({paper.year})" if paper.year else ""
    return f"{title} appeared in “{paper.venue}”{year}." if paper.venue else _lacks(title, "venue")


def _describe_identifier(paper: Paper, title: str, question: str) -> str:
    """Give the identifier that is asked for; if the record lacks it, the paper's address."""
    address = f"The address of {title} is {paper.link}." if paper.link else ""
    for pattern, name, field in _IDENTIFIERS:
        if pattern.search(question):
            value = getattr(paper, field)
            if value:
                return f"The {name} of {title} is {value}."
            return f"{_lacks(title, name)} {address}".rstrip()
    return address or _lacks(title, "address")


def _describe_unrecorded(paper: Paper, title: str, question: str) -> str:
    for pattern, fact in _UNRECORDED:
        if pattern.search(question):
            return _lacks(title, fact)
    return _lacks(title, _AFFILIATIONS)


_DESCRIPTIONS = {
    "authors": _describe_authors,
    "year": _describe_year,
    "venue": _describe_venue,
    "identifier": _describe_identifier,
}
