"""Which format a file has: told from how it begins; its name breaks ties only."""

import json
import re
from pathlib import PurePath

from rag.ingest.sources import table
from rag.ingest.sources.stream import Stream

_BY_NAME = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".bib": "bibtex",
    ".bibtex": "bibtex",
    ".ris": "ris",
    ".nbib": "medline",
    ".medline": "medline",
    ".html": "html",
    ".htm": "html",
}
_ARCHIVES = (
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!",
    b"\x28\xb5\x2f\xfd",
)
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\x0b\x1b\x08\x1a")

_PUBMED = re.compile(r"<Pubmed(?:Article|BookArticle)(?:Set)?[\s>]")
_ATOM = re.compile(r"<feed[\s>][^<>]*http://www\.w3\.org/2005/Atom|<(\w+):feed\s")
_HTML = re.compile(
    r"<(?:!doctype\s+html|html|head|body|main|article|section|div|p|h[1-6]|ul|ol|table)[\s>/]",
    re.IGNORECASE,
)
_BIBTEX = re.compile(
    r"^[^\S\n]*@(?:(?:string|preamble|comment)\s*[{(]|[a-z]+\s*[{(]\s*+[^\s{}()=,\"']*+\s*,)",
    re.IGNORECASE | re.MULTILINE,
)
_RIS = re.compile(r"^TY  -(?:\s|$)", re.MULTILINE)
_MEDLINE = re.compile(r"^PMID ?- ?\d", re.MULTILINE)
_JSON_ARRAY = re.compile(r"\[\s*(?:[{\]\[]|null\b|$)")


def why_not_text(stream: Stream, name: str) -> str:
    """What a file is that no reader can read; empty for a text."""
    head = stream.head
    if not head.strip():
        return "the file is empty"
    if b"%PDF-" in head[:1024]:
        return "a PDF; Footnote reads abstracts: export the records from your reference manager as BibTeX, RIS or CSL-JSON"
    if PurePath(name).suffix.lower() in (".xlsx", ".docx", ".odt", ".ods") and head.startswith(
        b"PK\x03\x04"
    ):
        return "a binary file of an office program; save it as CSV or as text first"
    if head.startswith(_ARCHIVES):
        return "an archive; unpack it first"
    controls = sum(byte < 32 and byte not in _TEXT_CONTROLS for byte in head[:4096])
    if not stream.has_wide_mark and (b"\x00" in head or controls > 0.05 * len(head[:4096])):
        return "a binary file, not text; Footnote reads exports of references and saved pages"
    return ""


def format_of(stream: Stream, name: str) -> str:
    """The name of the format, or nothing where it is none that is read here."""
    head = stream.head_text.strip("\ufeff \t\n")
    by_name = _BY_NAME.get(PurePath(name).suffix.lower(), "")
    if head.startswith("<"):
        return _markup(head, by_name)
    for form, found in (
        ("jsonl", _is_json_lines(head, by_name)),
        ("json", head.startswith("{") or _JSON_ARRAY.match(head)),
        ("ris", _RIS.search(head)),
        ("medline", _MEDLINE.search(head)),
        ("csv", _is_table(head)),
        ("bibtex", _BIBTEX.search(head)),
    ):
        if found:
            return form
    return by_name or "listing"


def _markup(head: str, by_name: str) -> str:
    if _PUBMED.search(head):
        return "pubmed-xml"
    if _ATOM.search(head):
        return "atom"
    return "html" if _HTML.search(head) or by_name == "html" else ""


def _is_json_lines(head: str, by_name: str) -> bool:
    """Objects one a line. A broken first line does not hide the others, nor does one larger than the head."""
    lines = [line for line in head.split("\n") if line.strip()]
    objects = sum(line.startswith("{") and len(line) > 1 for line in lines)
    if by_name == "jsonl":
        return objects > 0 or not head.startswith(("[", "@"))
    if len(lines) == 1:
        return False
    return objects > 0.5 * len(lines) or (objects > 1 and _is_object(lines[0]))


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _is_table(head: str) -> bool:
    """A header line that names a title and more. A single column is believed on the word of the file's name."""
    first = next((line for line in head.split("\n") if not table.is_preamble(line)), "")
    columns, _ = table.header_of(first)
    return "title" in columns and len(columns) > 1
