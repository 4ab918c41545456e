"""Registry of the file formats. Each is defined as `FORMAT` in a module of its own."""

from pathlib import PurePath

from rag.ingest.sources import (
    atom,
    bibtex,
    csv,
    html,
    json,
    jsonl,
    listing,
    medline,
    pubmed_xml,
    ris,
)
from rag.ingest.sources.common.format import FileHead, Format
from rag.ingest.sources.common.stream import Stream

# In order of precedence: the first format that matches a file is used.
_FORMATS = (
    jsonl.FORMAT,
    json.FORMAT,
    ris.FORMAT,
    medline.FORMAT,
    csv.FORMAT,
    bibtex.FORMAT,
    pubmed_xml.FORMAT,
    atom.FORMAT,
    html.FORMAT,
    listing.FORMAT,
)
FORMATS: dict[str, Format] = {format_.name: format_ for format_ in _FORMATS}


def detect_format(stream: Stream, name: str) -> Format | None:
    """Return the format of a file, or None for XML of an unknown kind.

    Content decides, then the suffix of the name. Any other text is taken for a listing.
    """
    head = FileHead(stream.head_text.strip("\ufeff \t\n"), PurePath(name).suffix.lower())
    is_markup = head.text.startswith("<")
    for format_ in _FORMATS:
        if format_.is_markup == is_markup and format_.matches(head):
            return format_
    if is_markup:
        return None
    for format_ in _FORMATS:
        if head.suffix in format_.suffixes:
            return format_
    return listing.FORMAT
