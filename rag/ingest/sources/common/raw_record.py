"""Raw records as parsers yield them, and the rules that turn them into papers."""

import re
from dataclasses import dataclass

from rag.ingest.sources.common.author_names import parse_author_names
from rag.records import Paper
from rag.text.cleaning import clean, value_to_text
from rag.text.identifiers import (
    find_arxiv_id_in_notes,
    find_doi_in_url,
    find_pmid_in_notes,
    parse_arxiv_id,
    parse_doi,
    parse_pmid,
    parse_url,
    parse_year,
)

# All in characters. The names of the largest collaborations take up a third of MAX_AUTHORS.
MAX_TITLE = 2_000
MAX_ABSTRACT = 100_000
MAX_VENUE = 2_000
MAX_AUTHORS = 1_000_000
# Markup may make a raw text longer. Beyond this factor it is rejected without cleaning.
_MARKUP_FACTOR = 4
MAX_RAW_ABSTRACT = _MARKUP_FACTOR * MAX_ABSTRACT
_MAX_RETRACTION_NOTES = 2_000  # characters that are searched for a withdrawal

_RETRACTED_TITLE = re.compile(
    r"\W*(?:retracted|withdrawn)(?:\s+(?:article|paper|chapter))?\s*(?:[:\]]|[-–—]\s|$)",
    re.IGNORECASE,
)
_WITHDRAWN = re.compile(
    r"\b(?:this|the) (?:paper|article|submission|manuscript|preprint|work) (?:has been|was|is) "
    r"(?:temporarily )?(?:withdrawn|retracted)\b",
    re.IGNORECASE,
)
# Placeholders for a missing abstract, which would otherwise be quoted as evidence.
_PLACEHOLDER = re.compile(
    r"\W*(?:no abstract(?: is)?(?: available)?|abstract (?:is )?not available|"
    r"n/?a|nan|none|null|-+)\W*",
    re.IGNORECASE,
)
_MAX_PLACEHOLDER = 100  # characters
# A colon or the like must follow: papers on Abstract Meaning Representation begin with that word.
_LABEL = re.compile(r"(?:abstract|summary)\s*(?:[:—–]|\.(?=\s[A-Z]))\s*", re.IGNORECASE)
_JATS_LABEL = re.compile(
    r"\s*<(?:jats:)?title>\s*(?:abstract|summary)\s*</(?:jats:)?title>", re.IGNORECASE
)


@dataclass(slots=True)
class RawRecord:
    """Fields of one record as its format gives them: texts, numbers, lists or nothing.

    `notes` are remarks that may contain an identifier or announce a withdrawal.
    """

    title: object = ""
    abstract: object = ""
    authors: object = ()
    year: object = None
    venue: object = ""
    url: object = ""
    doi: object = ""
    arxiv_id: object = ""
    pmid: object = ""
    notes: object = ""
    retracted: bool = False


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """Record that could not be parsed, and the reason."""

    reason: str


class InvalidRecord(Exception):
    """Record that is not a valid paper."""


class TruncatedFile(Exception):
    """File that cannot be read any further."""


class WrongFormat(Exception):
    """File that is not in the format that it is read as."""


def build_paper(record: RawRecord, source: str) -> Paper:
    """Return the valid paper that a record describes.

    Raises:
        InvalidRecord: The title is missing, or a field is too long.
    """
    title = _clean_within("title", value_to_text(record.title), MAX_TITLE)
    if not any(map(str.isalnum, title)):
        raise InvalidRecord("no title")
    markup = _strip_jats_label(value_to_text(record.abstract))
    abstract = _strip_label(_clean_within("abstract", markup, MAX_ABSTRACT))
    venue = _clean_within("venue", value_to_text(record.venue), MAX_VENUE)
    notes = value_to_text(record.notes)
    url = parse_url(record.url)
    return Paper(
        title=title,
        abstract=abstract,
        authors=_parse_authors(record.authors),
        year=parse_year(record.year),
        venue=venue,
        url=url,
        doi=_choose_doi(record, url),
        arxiv_id=_choose_arxiv_id(record, url, venue, notes),
        pmid=parse_pmid(record.pmid) or parse_pmid(url) or find_pmid_in_notes(notes),
        source=source,
        retracted=record.retracted or _is_retracted(title, abstract, notes),
    )


def _clean_within(field: str, text: str, max_length: int) -> str:
    if len(text) <= _MARKUP_FACTOR * max_length:
        text = clean(text)
    if len(text) > max_length:
        raise InvalidRecord(f"{field} longer than {max_length:,} characters")
    return text


def _parse_authors(value: object) -> tuple[str, ...]:
    is_too_long = isinstance(value, str) and len(value) > _MARKUP_FACTOR * MAX_AUTHORS
    names = () if is_too_long else parse_author_names(value)
    if is_too_long or sum(map(len, names)) > MAX_AUTHORS:
        raise InvalidRecord(f"authors longer than {MAX_AUTHORS:,} characters")
    return names


def _strip_jats_label(markup: str) -> str:
    label = _JATS_LABEL.match(markup)
    return markup[label.end() :] if label else markup


def _strip_label(abstract: str) -> str:
    """Remove a label such as "Abstract:"; a mere placeholder becomes empty."""
    if _PLACEHOLDER.fullmatch(abstract[:_MAX_PLACEHOLDER]):
        return ""
    label = _LABEL.match(abstract)
    return abstract[label.end() :] if label else abstract


def _choose_doi(record: RawRecord, url: str) -> str:
    """Return the DOI. One that arXiv issued is left to `_choose_arxiv_id`."""
    doi = parse_doi(record.doi) or find_doi_in_url(url)
    return "" if parse_arxiv_id(doi) else doi


def _choose_arxiv_id(record: RawRecord, url: str, venue: str, notes: str) -> str:
    return (
        parse_arxiv_id(record.arxiv_id)
        or parse_arxiv_id(record.doi)
        or parse_arxiv_id(url)
        or find_arxiv_id_in_notes(venue)
        or find_arxiv_id_in_notes(notes)
    )


def _is_retracted(title: str, abstract: str, notes: str) -> bool:
    if _RETRACTED_TITLE.match(title):
        return True
    # Only at the start, because an abstract about retractions may say so of other papers.
    is_withdrawn = _WITHDRAWN.match(abstract.lstrip("([* "))
    return bool(is_withdrawn or _WITHDRAWN.search(notes[:_MAX_RETRACTION_NOTES]))
