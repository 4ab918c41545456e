"""Registry of the file formats. Each is defined as `FORMAT` in a module of its own."""

from importlib import import_module
from pathlib import PurePath

from rag.ingest.sources.common.format import FileHead, Format
from rag.ingest.sources.common.stream import Stream

# Modules in order of precedence: the first format that matches a file is used.
_MODULES = (
    "jsonl",
    "json",
    "ris",
    "medline",
    "csv",
    "bibtex",
    "pubmed_xml",
    "atom",
    "html",
    "listing",
)


def _load_formats() -> dict[str, Format]:
    formats: dict[str, Format] = {}
    for module in _MODULES:
        format_: Format = import_module(f"{__package__}.{module}").FORMAT
        formats[format_.name] = format_
    return formats


FORMATS = _load_formats()


def detect_format(stream: Stream, name: str) -> Format | None:
    """Return the format of a file, or None for XML of an unknown kind.

    Content decides first, then the suffix of the name. Any other text counts as a listing.
    """
    head = FileHead(stream.head_text.strip("\ufeff \t\n"), PurePath(name).suffix.lower())
    is_markup = head.text.startswith("<")
    for format_ in FORMATS.values():
        if format_.is_markup == is_markup and format_.matches(head):
            return format_
    if is_markup:
        return None
    for format_ in FORMATS.values():
        if head.suffix in format_.suffixes:
            return format_
    return FORMATS["listing"]
