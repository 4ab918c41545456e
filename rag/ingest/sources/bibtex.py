"""BibTeX and BibLaTeX, parsed with bibtexparser.

Files are read as a whole, because a string may be used anywhere after its definition.
"""

import logging
import re
from collections.abc import Iterator
from typing import Any

from rag.ingest.sources.common.format import FileHead, Format
from rag.ingest.sources.common.latex import decode_latex
from rag.ingest.sources.common.raw_record import (
    MAX_AUTHORS,
    MAX_RAW_ABSTRACT,
    ParseFailure,
    RawRecord,
    TruncatedFile,
)
from rag.ingest.sources.common.stream import Stream
from rag.text.identifiers import parse_arxiv_id

MAX_SIZE = 64 * 1024 * 1024  # bytes
# Characters. Longer values are rejected later anyway, so they are neither joined nor decoded.
_MAX_VALUE = MAX_RAW_ABSTRACT
_MAX_ERROR = 200  # characters of the parser's message
_MAX_EXCERPT = 60  # characters of a broken entry
_ENTRY = re.compile(
    r"^[^\S\n]*@(?:(?:string|preamble|comment)\s*[{(]|[a-z]+\s*[{(]\s*+[^\s{}()=,\"']*+\s*,)",
    re.IGNORECASE | re.MULTILINE,
)
_USED_FIELDS = frozenset(
    "title subtitle abstract summary author year date journal journaltitle booktitle school "
    "institution howpublished url link doi archiveprefix eprinttype eprint arxivid pmid "
    "note".split()
)
# A piece of a concatenation: a braced text, a quoted text, or the name of a string.
_PIECE = re.compile(r"\{((?:[^{}]++|\{[^{}]*+\})*+)\}|\"([^\"]*)\"|([^\s#{}\"]+)")

# The parser logs what it cannot read; here it becomes a ParseFailure.
logging.getLogger("bibtexparser").addHandler(logging.NullHandler())

Fields = dict[str, str]


def _matches(head: FileHead) -> bool:
    return _ENTRY.search(head.text) is not None


def _parse(stream: Stream) -> Iterator[RawRecord | ParseFailure]:
    for entry in _parse_entries("".join(stream.text())):
        yield entry if isinstance(entry, ParseFailure) else _map_entry(entry)


def _parse_entries(text: str) -> Iterator[Fields | ParseFailure]:
    """Yield the fields of each entry in order. Entries with the same key are different papers."""
    from bibtexparser import middlewares, model
    from bibtexparser.library import Library

    blocks = _parse_blocks(text)
    strings: list[Any] = [block for block in blocks if isinstance(block, model.String)]
    entries: list[Any] = [block for block in blocks if isinstance(block, model.Entry)]
    for number, entry in enumerate(entries):
        entry.key = str(number)  # the library would set aside entries with the same key
    library = Library(entries + strings, fail_on_duplicate_key=False)
    library = middlewares.RemoveEnclosingMiddleware().transform(library)
    definitions = _StringDefinitions(library.strings)
    unenclosed_entries = iter(library.entries)
    for block in blocks:
        if isinstance(block, model.Entry):
            yield _read_fields(next(unenclosed_entries), definitions)
        elif isinstance(block, model.ParsingFailedBlock):
            yield ParseFailure(f"broken BibTeX: {_describe(block)}")


def _parse_blocks(text: str) -> list[Any]:
    """Return the blocks of a file: entries, strings, failures and others."""
    from bibtexparser.entrypoint import parse_string
    from bibtexparser.exceptions import ParserStateException

    try:
        blocks = parse_string(text, parse_stack=[]).blocks
    except ParserStateException as error:  # the parser then returns nothing at all
        raise TruncatedFile(f"broken BibTeX: {error.message}") from error
    return list(map(_unwrap, blocks))


def _unwrap(block: Any) -> Any:  # noqa: ANN401 - a block of the parser
    """Return the entry inside a report of a duplicate key or field, or else the block itself."""
    inner = getattr(block, "ignore_error_block", None)
    return _unwrap(inner) if inner is not None else block


def _describe(block: Any) -> str:  # noqa: ANN401
    reason = str(getattr(block.error, "abort_reason", block.error))
    reason = " ".join(reason.split())[:_MAX_ERROR].rstrip(". ")
    excerpt = " ".join((block.raw or "").split())[:_MAX_EXCERPT]
    return f"{reason}, in the entry that begins with '{excerpt}'"


class _StringDefinitions:
    """Values of the @string definitions of a file.

    They are expanded one entry at a time, and only in fields that are used, because many copies of
    a long string would fill the memory.
    """

    def __init__(self, strings: list[Any]) -> None:
        self._values: dict[str, str] = {}
        self._concatenations: set[str] = set()
        for string in strings:
            name = string.key.lower()
            self._values[name] = str(string.value)
            if string.enclosing == "no-enclosing":
                self._concatenations.add(name)

    def resolve(self, value: str) -> str:
        """Resolve a value that is a name or a concatenation such as `jan # { 2021}`."""
        name = value.lower()
        text = self._values.get(name, value)
        is_concatenation = name not in self._values or name in self._concatenations
        return self._concatenate(text) if is_concatenation and "#" in text else text

    def _concatenate(self, value: str) -> str:
        """Join the pieces of a value up to `_MAX_VALUE`."""
        pieces: list[str] = []
        length = 0
        for match in _PIECE.finditer(value):
            piece = match[1] or match[2] or self._look_up(match[3])
            pieces.append(piece)
            length += len(piece)
            if length > _MAX_VALUE:
                break
        return "".join(pieces)

    def _look_up(self, name: str | None) -> str:
        return self._values.get(name.lower(), name) if name else ""


def _read_fields(entry: Any, definitions: _StringDefinitions) -> Fields:  # noqa: ANN401
    """Return the first non-empty value of each used field, by lower-case name."""
    fields: Fields = {}
    for field in entry.fields:
        name, value = field.key.lower(), str(field.value)
        if name not in _USED_FIELDS or name in fields:
            continue
        if field.enclosing == "no-enclosing":
            value = definitions.resolve(value)
        if value.strip():
            fields[name] = value
    return fields


def _map_entry(fields: Fields) -> RawRecord:
    def decode_first(*names: str) -> str:
        return _decode(next(filter(None, map(fields.get, names)), ""))

    title = decode_first("title")
    if title and "subtitle" in fields:
        title = f"{title}: {decode_first('subtitle')}"
    archive = fields.get("archiveprefix", fields.get("eprinttype", "")).lower()
    eprint = fields.get("eprint", "")
    is_arxiv_eprint = archive == "arxiv" or (not archive and bool(parse_arxiv_id(eprint)))
    pubmed_eprint = eprint if archive in ("pubmed", "pmid") else None
    return RawRecord(
        title=title,
        abstract=decode_first("abstract", "summary"),
        authors=_split_authors(fields.get("author", "")),
        year=[fields.get("year"), fields.get("date")],
        venue=decode_first(
            "journal", "journaltitle", "booktitle", "school", "institution", "howpublished"
        ),
        url=_decode_url(fields.get("url") or fields.get("link", "")),
        doi=decode_first("doi"),
        arxiv_id=eprint if is_arxiv_eprint else fields.get("arxivid"),
        pmid=fields.get("pmid") or pubmed_eprint,
        notes=decode_first("note"),
    )


def _decode(text: str) -> str:
    return decode_latex(text) if len(text) <= _MAX_VALUE else text


def _decode_url(text: str) -> str:
    """Decode an address only if it contains a command, because in LaTeX `~` is a space."""
    return _decode(text) if "\\" in text else text


def _split_authors(text: str) -> object:
    """Split the names of authors; a name in braces belongs to an organization."""
    from bibtexparser.middlewares import names

    if len(text) > MAX_AUTHORS:
        return text
    people = names.split_multiple_persons_names(text)
    if len(people) == 1 and not people[0].startswith("{"):
        return _decode(people[0])  # some exports separate names by semicolons or commas
    return list(map(_parse_person, people))


def _parse_person(name: str) -> object:
    is_braced = name.startswith("{") and name.endswith("}")
    if is_braced and name.count("{") == name.count("}"):
        return {"literal": _decode(name)}
    return _decode(name)


FORMAT = Format("bibtex", "BibTeX", (".bib", ".bibtex"), _matches, _parse, max_size=MAX_SIZE)
