"""Where loose fields become a Paper. Readers hand over Drafts; what a paper must be is decided here alone."""

import re
from dataclasses import dataclass

from rag.ingest.sources.names import author_names
from rag.records import Paper
from rag.text.cleaning import clean, value_to_text
from rag.text.identifiers import (
    find_arxiv_id_in_notes,
    find_doi_in_url,
    parse_arxiv_id,
    parse_doi,
    parse_pmid,
    parse_year,
    find_pmid_in_notes,
    parse_url,
)

MAX_TITLE = 2_000
MAX_ABSTRACT = 100_000
MAX_VENUE = 2_000
MAX_AUTHORS = 1_000_000  # all names together; the largest collaborations need a third of it

_RETRACTED_TITLE = re.compile(
    r"\W*(?:retracted|withdrawn)(?:\s+(?:article|paper|chapter))?\s*(?:[:\]]|[-–—]\s|$)",
    re.IGNORECASE,
)
_WITHDRAWN = re.compile(
    r"\b(?:this|the) (?:paper|article|submission|manuscript|preprint|work) (?:has been|was|is) "
    r"(?:temporarily )?(?:withdrawn|retracted)\b",
    re.IGNORECASE,
)
# What stands where an abstract should be; quoted as evidence it would be nonsense.
_NO_ABSTRACT = re.compile(
    r"\W*(?:no abstract(?: is)?(?: available)?|abstract (?:is )?not available|n/?a|nan|none|null|-+)\W*",
    re.IGNORECASE,
)
# Only with a colon or the like after it: papers on Abstract Meaning Representation begin with that word.
_LABEL = re.compile(r"(?:abstract|summary)\s*(?:[:—–]|\.(?=\s[A-Z]))\s*", re.IGNORECASE)
_JATS_LABEL = re.compile(
    r"\s*<(?:jats:)?title>\s*(?:abstract|summary)\s*</(?:jats:)?title>", re.IGNORECASE
)


@dataclass(slots=True)
class Draft:
    """The fields of one record as its format gives them: text, numbers, lists, or nothing.

    `notes` are remarks in which an identifier or a withdrawal may be told.
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
class Flaw:
    """A record that a reader could not even draft, and why."""

    reason: str


class Unfit(Exception):
    """A draft that cannot become a paper."""


class BrokenOff(Exception):
    """The rest of the file cannot be read."""


class NotPapers(Exception):
    """The file as a whole is not what its format promises."""


def paper_of(draft: Draft, source: str) -> Paper:
    """The paper that a draft describes; raises Unfit where a paper cannot be made of it."""
    title = _bounded(value_to_text(draft.title), MAX_TITLE, "title")
    if not any(map(str.isalnum, title)):
        raise Unfit("no title")
    abstract = _abstract(_bounded(_unlabelled(value_to_text(draft.abstract)), MAX_ABSTRACT, "abstract"))
    venue = _bounded(value_to_text(draft.venue), MAX_VENUE, "venue")
    notes, url = value_to_text(draft.notes), parse_url(draft.url)
    arxiv_id = _arxiv_id(draft, url, venue, notes)
    return Paper(
        title=title,
        abstract=abstract,
        authors=_authors(draft.authors),
        year=parse_year(draft.year),
        venue=venue,
        url=url,
        doi=_doi(draft, url),
        arxiv_id=arxiv_id,
        pmid=parse_pmid(draft.pmid) or parse_pmid(url) or find_pmid_in_notes(notes),
        source=source,
        retracted=draft.retracted or _is_retracted(title, abstract, notes),
    )


def _bounded(text: str, limit: int, what: str) -> str:
    # Mark-up is allowed for before cleaning, so that a hostile text is not even cleaned.
    if len(text) > 4 * limit or len(text := clean(text)) > limit:
        raise Unfit(f"{what} longer than {limit:,} characters")
    return text


def _authors(value: object) -> tuple[str, ...]:
    is_short = not isinstance(value, str) or len(value) <= 4 * MAX_AUTHORS
    names = author_names(value) if is_short else ()
    if not is_short or sum(map(len, names)) > MAX_AUTHORS:
        raise Unfit(f"authors longer than {MAX_AUTHORS:,} characters")
    return names


def _unlabelled(markup: str) -> str:
    label = _JATS_LABEL.match(markup)
    return markup[label.end() :] if label else markup


def _abstract(text: str) -> str:
    if _NO_ABSTRACT.fullmatch(text[:100]):
        return ""
    label = _LABEL.match(text)
    return text[label.end() :] if label else text


def _doi(draft: Draft, url: str) -> str:
    doi = parse_doi(draft.doi) or find_doi_in_url(url)
    return "" if parse_arxiv_id(doi) else doi


def _arxiv_id(draft: Draft, url: str, venue: str, notes: str) -> str:
    given = parse_arxiv_id(draft.arxiv_id) or parse_arxiv_id(draft.doi)
    return (
        given
        or (parse_arxiv_id(url) if url else "")
        or find_arxiv_id_in_notes(venue)
        or find_arxiv_id_in_notes(notes)
    )


def _is_retracted(title: str, abstract: str, notes: str) -> bool:
    # Only where the abstract begins: one about retractions may say the same of other papers.
    withdrawn = _WITHDRAWN.match(abstract.lstrip("([* ")) or _WITHDRAWN.search(notes[:2000])
    return bool(_RETRACTED_TITLE.match(title) or withdrawn)
