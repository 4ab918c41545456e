"""Atom feeds, as returned by the arXiv API."""

import re
from collections.abc import Iterator

from rag.ingest.sources.common.format import FileHead, Format
from rag.ingest.sources.common.raw_record import ParseFailure, RawRecord
from rag.ingest.sources.common.stream import Stream
from rag.ingest.sources.common.xml_records import (
    Element,
    find_all,
    first_text,
    parse_xml_records,
)

_ATOM = "{http://www.w3.org/2005/Atom}"
_ARXIV = "{http://arxiv.org/schemas/atom}"
_FEED = re.compile(r"<feed[\s>][^<>]*http://www\.w3\.org/2005/Atom|<(\w+):feed\s")
_MAX_ERROR = 200  # characters


def _matches(head: FileHead) -> bool:
    return _FEED.search(head.text) is not None


def _parse(stream: Stream) -> Iterator[RawRecord | ParseFailure]:
    return parse_xml_records(stream, (f"{_ATOM}entry",), _map_entry)


def _map_entry(entry: Element) -> RawRecord | ParseFailure:
    address = first_text(entry, f"{_ATOM}id")
    if "/api/errors" in address:
        error = first_text(entry, f"{_ATOM}summary")[:_MAX_ERROR]
        return ParseFailure(f"arXiv reported an error: {error}")
    authors = find_all(entry, f"{_ATOM}author")
    return RawRecord(
        title=first_text(entry, f"{_ATOM}title"),
        abstract=first_text(entry, f"{_ATOM}summary", f"{_ATOM}content"),
        authors=[first_text(author, f"{_ATOM}name") for author in authors],
        year=[first_text(entry, f"{_ATOM}published"), first_text(entry, f"{_ATOM}updated")],
        venue=first_text(entry, f"{_ARXIV}journal_ref"),
        url=[address, *_alternate_links(entry)],
        doi=first_text(entry, f"{_ARXIV}doi"),
        arxiv_id=address,
        notes=first_text(entry, f"{_ARXIV}comment"),
    )


def _alternate_links(entry: Element) -> Iterator[str | None]:
    for link in find_all(entry, f"{_ATOM}link"):
        if link.get("rel", "alternate") == "alternate":
            yield link.get("href")


FORMAT = Format("atom", "Atom (arXiv)", (), _matches, _parse, is_markup=True)
