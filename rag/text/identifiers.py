"""Identifiers, addresses and years of papers, parsed from the many ways people write them."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from urllib.parse import unquote, urlsplit

from rag.text.cleaning import clean, remove_invisible, value_to_text

_DOI_PREFIX = re.compile(r"(?:https?://)?(?:dx\.|www\.)?doi\.org/|doi\s*[:=]?\s*", re.IGNORECASE)
_DOI = re.compile(r"10\.\d{4,9}/\S+")
_DOI_IN_URL = re.compile(
    r"(?:doi\.org|/doi(?:/(?:abs|full|pdf|epdf|pdfdirect|book))?)/(10\.\d{4,9}/[^\s?#]+)",
    re.IGNORECASE,
)
_ARXIV_DOI = re.compile(r"10\.48550/arxiv\.(.+)", re.IGNORECASE)
_ARXIV = (
    r"(\d\d(?:0[1-9]|1[0-2])\.\d{4,5}|"
    r"[a-z]+(?:-[a-z]+)?(?:\.[A-Za-z]+(?:-[A-Za-z]+)?)?/\d{7})(?:v\d{1,3})?(?!\d)"
)
_ARXIV_ID = re.compile(rf"(?:arxiv\s*[:.]?\s*)?{_ARXIV}(?:\.pdf)?(?:\s.*)?", re.IGNORECASE)
_ARXIV_IN_URL = re.compile(
    r"(?:arxiv\.org/(?:abs|pdf|html|e-print|format)|alphaxiv\.org/abs|huggingface\.co/papers|"
    rf"^/papers)/{_ARXIV}",
    re.IGNORECASE,
)
_ARXIV_IN_NOTES = re.compile(rf"\barxiv\s*[:.]\s*{_ARXIV}", re.IGNORECASE)
_SUBJECT_CLASS = re.compile(r"\.[A-Za-z-]+(?=/)")
_PMID = re.compile(
    r"(?:pmid\s*:?\s*|.*pubmed\.ncbi\.nlm\.nih\.gov/|.*ncbi\.nlm\.nih\.gov/pubmed/)?"
    r"0*([1-9]\d{0,8})(?:\.0|/)?",
    re.IGNORECASE,
)
_PMID_IN_NOTES = re.compile(r"\bPMID\s*:\s*([1-9]\d{0,8})(?!\d)")
_YEAR = re.compile(r"(?<!\d)(1[5-9]\d\d|20\d\d|2100)(?!\d)")
_COMPACT_DATE = re.compile(r"(1[5-9]\d\d|20\d\d|2100)(?:0[1-9]|1[0-2])[0-3]\d")
_MAX_IDENTIFIER = 2_000  # characters of a field that are searched for a DOI or arXiv id
_MAX_SHORT_FIELD = 200  # characters of a field that are searched for a PubMed id or a year
_MAX_URL = 2_000  # characters
_MAX_URLS = 100  # candidates of one record that are tried
_MAX_DATE_PARTS = 8
_BRACKETS = {")": "(", "]": "[", "}": "{", ">": "<"}


def parse_doi(value: object) -> str:
    """Return the bare, lower-case DOI in a field, or an empty string."""
    text = value_to_text(value)[:_MAX_IDENTIFIER]
    if "10." not in text:
        return ""
    text = remove_invisible(unquote(clean(text)))
    while prefix := _DOI_PREFIX.match(text):
        text = text[prefix.end() :]
    match = _DOI.match(text)
    return _strip_punctuation(match[0]).lower() if match else ""


def find_doi_in_url(url: str) -> str:
    """Return the DOI in the address of a publisher's page or of doi.org, or an empty string."""
    match = _DOI_IN_URL.search(remove_invisible(unquote(url)))
    return _strip_punctuation(match[1]).lower() if match else ""


def _strip_punctuation(doi: str) -> str:
    """Remove trailing punctuation, except for brackets that are opened within the DOI."""
    while doi and (doi[-1] in ".,;:'\"" or _ends_with_stray_bracket(doi)):
        doi = doi[:-1]
    return doi


def _ends_with_stray_bracket(doi: str) -> bool:
    opening = _BRACKETS.get(doi[-1])
    return opening is not None and doi.count(opening) < doi.count(doi[-1])


def parse_arxiv_id(value: object) -> str:
    """Return the arXiv id, without version and subject class, in an id, address or arXiv DOI.

    Return an empty string if there is none.
    """
    text = value_to_text(value)[:_MAX_IDENTIFIER].strip()
    if not text:
        return ""
    text = clean(text)
    if doi := _ARXIV_DOI.fullmatch(parse_doi(text)):
        text = doi[1]
    if "/" in text and (match := _ARXIV_IN_URL.search(text)):
        return _normalize_arxiv_id(match[1])
    match = _ARXIV_ID.fullmatch(text)
    return _normalize_arxiv_id(match[1]) if match else ""


def find_arxiv_id_in_notes(text: str) -> str:
    """Return the id in a remark such as `arXiv:2301.12345 [cs]`, or an empty string."""
    match = _ARXIV_IN_NOTES.search(text)
    return _normalize_arxiv_id(match[1]) if match else ""


def _normalize_arxiv_id(arxiv_id: str) -> str:
    return _SUBJECT_CLASS.sub("", arxiv_id).lower()


def parse_pmid(value: object) -> str:
    """Return the PubMed id that a field consists of, or an empty string."""
    match = _PMID.fullmatch(value_to_text(value).strip()[:_MAX_SHORT_FIELD])
    return match[1] if match else ""


def find_pmid_in_notes(text: str) -> str:
    """Return the id in a remark such as `PMID: 4713`, or an empty string."""
    match = _PMID_IN_NOTES.search(text)
    return match[1] if match else ""


def parse_url(value: object) -> str:
    """Return the first http or https address in a field or list, or an empty string."""
    values = value if isinstance(value, (list, tuple)) else [value]
    candidates = islice(_split_words(values), _MAX_URLS)
    return next(filter(None, map(_validate_url, candidates)), "")


def _split_words(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        yield from value_to_text(value).split()


def _validate_url(text: str) -> str:
    """Return a cleaned web address, or an empty string when the text is not one."""
    text = text.rstrip(",;")
    # Escaped markup may make an address longer than it is. Far longer texts are not even cleaned.
    if not text.lower().startswith("http") or len(text) > 4 * _MAX_URL:
        return ""
    text = clean(text)
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    is_web_address = parts.scheme in ("http", "https") and bool(parts.netloc)
    return text if is_web_address and len(text) <= _MAX_URL else ""


def parse_year(value: object, max_depth: int = 6) -> int | None:
    """Return the year in a number, a date of any style or CSL's `{"date-parts": [[2021, 3]]}`.

    Years before 1500 and after 2100 are ignored. Lists may be nested to a depth of `max_depth`.
    """
    if isinstance(value, dict):
        value = [value.get(key) for key in ("date-parts", "raw", "literal")]
    if isinstance(value, (list, tuple)):
        return _first_year(value[:_MAX_DATE_PARTS], max_depth - 1) if max_depth else None
    text = value_to_text(value).strip()[:_MAX_SHORT_FIELD]
    match = _COMPACT_DATE.fullmatch(text) or _YEAR.search(text)
    return int(match[1]) if match else None


def _first_year(items: Iterable[object], max_depth: int) -> int | None:
    for item in items:
        year = parse_year(item, max_depth)
        if year is not None:
            return year
    return None
