"""What identifies a paper and when it appeared, read from the many ways in which people write it down."""

import re
from itertools import islice
from urllib.parse import unquote, urlsplit

from rag.text.cleaning import clean, visible

_DOI_LEAD = re.compile(r"(?:https?://)?(?:dx\.|www\.)?doi\.org/|doi\s*[:=]?\s*", re.IGNORECASE)
_DOI = re.compile(r"10\.\d{4,9}/\S+")
_DOI_IN_URL = re.compile(
    r"(?:doi\.org|/doi(?:/(?:abs|full|pdf|epdf|pdfdirect|book))?)/(10\.\d{4,9}/[^\s?#]+)",
    re.IGNORECASE,
)
_DOI_OF_ARXIV = re.compile(r"10\.48550/arxiv\.(.+)", re.IGNORECASE)
_ARXIV = r"(\d\d(?:0[1-9]|1[0-2])\.\d{4,5}|[a-z]+(?:-[a-z]+)?(?:\.[A-Za-z]+(?:-[A-Za-z]+)?)?/\d{7})(?:v\d{1,3})?(?!\d)"
_ARXIV_ID = re.compile(rf"(?:arxiv\s*[:.]?\s*)?{_ARXIV}(?:\.pdf)?(?:\s.*)?", re.IGNORECASE)
_ARXIV_IN_URL = re.compile(
    rf"(?:arxiv\.org/(?:abs|pdf|html|e-print|format)|alphaxiv\.org/abs|huggingface\.co/papers|^/papers)/{_ARXIV}",
    re.IGNORECASE,
)
_ARXIV_IN_NOTES = re.compile(rf"\barxiv\s*[:.]\s*{_ARXIV}", re.IGNORECASE)
_SUBJECT_CLASS = re.compile(r"\.[A-Za-z-]+(?=/)")
_PMID = re.compile(
    r"(?:pmid\s*:?\s*|.*pubmed\.ncbi\.nlm\.nih\.gov/|.*ncbi\.nlm\.nih\.gov/pubmed/)?0*([1-9]\d{0,8})(?:\.0|/)?",
    re.IGNORECASE,
)
_PMID_IN_NOTES = re.compile(r"\bPMID\s*:\s*([1-9]\d{0,8})(?!\d)")
_YEAR = re.compile(r"(?<!\d)(1[5-9]\d\d|20\d\d|2100)(?!\d)")
_COMPACT_DATE = re.compile(r"(1[5-9]\d\d|20\d\d|2100)(?:0[1-9]|1[0-2])[0-3]\d")
# Characters; no identifier and no address is longer.
_LONGEST = 2_000
_MOST_ADDRESSES = 100
_CLOSERS = {")": "(", "]": "[", "}": "{", ">": "<"}


def plain(value: object) -> str:
    """A loose value as text: the pieces of a list joined, and nothing for what is no text at all."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return " ".join(
            filter(None, (plain(item) for item in value if not isinstance(item, (list, tuple))))
        )
    if value is None or isinstance(value, (bool, dict)):
        return ""
    return str(value)


def parse_doi(value: object) -> str:
    """A bare, lower-case DOI, or nothing. arXiv's own DOIs are given as arXiv ids elsewhere."""
    text = plain(value)[:_LONGEST]
    if "10." not in text:
        return ""
    text = visible(unquote(clean(text)))
    while lead := _DOI_LEAD.match(text):
        text = text[lead.end() :]
    found = _DOI.match(text)
    return _trim(found[0]).lower() if found else ""


def doi_in_url(url: str) -> str:
    found = _DOI_IN_URL.search(visible(unquote(url)))
    return _trim(found[1]).lower() if found else ""


def _trim(doi: str) -> str:
    """Without the punctuation of the sentence around it; a bracket that the DOI itself opened stays."""
    while doi and (
        doi[-1] in ".,;:'\""
        or (doi[-1] in _CLOSERS and doi.count(_CLOSERS[doi[-1]]) < doi.count(doi[-1]))
    ):
        doi = doi[:-1]
    return doi


def parse_arxiv_id(value: object) -> str:
    """An arXiv id without version and subject class, from an id, an address or a DOI of arXiv."""
    text = plain(value)[:_LONGEST].strip()
    if not text:
        return ""
    text = clean(text)
    if doi := _DOI_OF_ARXIV.fullmatch(parse_doi(text)):
        text = doi[1]
    if "/" in text and (found := _ARXIV_IN_URL.search(text)):
        return _bare(found[1])
    whole = _ARXIV_ID.fullmatch(text)
    return _bare(whole[1]) if whole else ""


def arxiv_in_notes(text: str) -> str:
    """The id from a remark such as `arXiv:2301.12345 [cs]`, as reference managers keep it."""
    found = _ARXIV_IN_NOTES.search(text)
    return _bare(found[1]) if found else ""


def _bare(arxiv_id: str) -> str:
    return _SUBJECT_CLASS.sub("", arxiv_id).lower()


def parse_pmid(value: object) -> str:
    found = _PMID.fullmatch(plain(value).strip()[:200])
    return found[1] if found else ""


def pmid_in_notes(text: str) -> str:
    found = _PMID_IN_NOTES.search(text)
    return found[1] if found else ""


def web_address(value: object) -> str:
    """The first of the addresses that a browser may be sent to; nothing but http and https."""
    values = value if isinstance(value, (list, tuple)) else [value]
    words = (word for item in values for word in plain(item).split())
    return next(filter(None, map(_http, islice(words, _MOST_ADDRESSES))), "")


def _http(text: str) -> str:
    text = text.rstrip(",;")
    if not text.lower().startswith("http") or len(text) > 4 * _LONGEST:
        return ""
    text = clean(text)
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    return (
        text if parts.scheme in ("http", "https") and parts.netloc and len(text) <= _LONGEST else ""
    )


def parse_year(value: object, depth: int = 6) -> int | None:
    """The year in a number, a date of whatever style, or CSL's `{"date-parts": [[2021, 3]]}`."""
    if isinstance(value, dict):
        value = [value.get(key) for key in ("date-parts", "raw", "literal")]
    if isinstance(value, (list, tuple)):
        items = value[:8] if depth else ()
        return next(
            (year for item in items if (year := parse_year(item, depth - 1)) is not None), None
        )
    text = plain(value).strip()[:200]
    found = _COMPACT_DATE.fullmatch(text) or _YEAR.search(text)
    return int(found[1]) if found else None
