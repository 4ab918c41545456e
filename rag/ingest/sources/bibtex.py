"""BibTeX and BibLaTeX, by bibtexparser.

The one format that is read whole: a string defined anywhere may be used anywhere after it.
"""

import logging
import re
from collections.abc import Iterator
from typing import Any

from rag.ingest.sources.latex import decode
from rag.ingest.sources.paper import MAX_ABSTRACT, MAX_AUTHORS, BrokenOff, Draft, Flaw
from rag.ingest.sources.stream import Stream
from rag.text.identifiers import parse_arxiv_id

MAX_SIZE = 64 * 1024 * 1024

_LONGEST = 4 * MAX_ABSTRACT  # characters; a longer text is refused later anyway, and is not decoded
_USED = frozenset(
    "title subtitle abstract summary author year date journal journaltitle booktitle school institution howpublished "
    "url link doi archiveprefix eprinttype eprint arxivid pmid note".split()
)
_PIECE = re.compile(r"\{((?:[^{}]++|\{[^{}]*+\})*+)\}|\"([^\"]*)\"|([^\s#{}\"]+)")

# The parser reports by logging on what it could not read; here that becomes Flaws.
logging.getLogger("bibtexparser").addHandler(logging.NullHandler())

Fields = dict[str, str]


def read(stream: Stream) -> Iterator[Draft | Flaw]:
    for entry in _entries("".join(stream.text())):
        yield entry if isinstance(entry, Flaw) else _draft(entry)


def _entries(text: str) -> Iterator[Fields | Flaw]:
    """The fields of each entry, in the order of the file. Entries of one key are papers of their own."""
    from bibtexparser import middlewares, model
    from bibtexparser.entrypoint import parse_string
    from bibtexparser.exceptions import ParserStateException
    from bibtexparser.library import Library

    try:
        blocks = parse_string(text, parse_stack=[]).blocks
    except (
        ParserStateException
    ) as error:  # the parser lost its way, and gives nothing of what it read
        raise BrokenOff(f"broken BibTeX, it cannot be read: {error.message}") from error
    records = [_unwrapped(block) for block in blocks]
    strings: list[Any] = [record for record in records if isinstance(record, model.String)]
    entries: list[Any] = [record for record in records if isinstance(record, model.Entry)]
    for number, entry in enumerate(entries):
        entry.key = str(number)  # the parser would set aside entries of the same key, as they are
    library = Library(entries + strings, fail_on_duplicate_key=False)
    library = middlewares.RemoveEnclosingMiddleware().transform(library)
    named = _Strings(library.strings)
    parsed = iter(library.entries)
    for record in records:
        if isinstance(record, model.Entry):
            yield _fields(next(parsed), named)
        elif isinstance(record, model.ParsingFailedBlock):
            yield Flaw(f"broken BibTeX: {_told(record)}")


def _unwrapped(block: Any) -> Any:  # noqa: ANN401 - a block of the parser
    """The entry behind a complaint about a duplicate key or field; anything else as it is."""
    inner = getattr(block, "ignore_error_block", None)
    return _unwrapped(inner) if inner is not None else block


def _told(block: Any) -> str:  # noqa: ANN401
    reason = " ".join(str(getattr(block.error, "abort_reason", block.error)).split())
    return f"{reason[:200].rstrip('. ')}, in the entry that begins with '{' '.join((block.raw or '').split())[:60]}'"


class _Strings:
    """The strings of a file by their names.

    They are put in for one entry at a time, and only where a field is used: copies of a long one would fill the memory.
    """

    def __init__(self, strings: list[Any]) -> None:
        self._values = {string.key.lower(): str(string.value) for string in strings}
        self._joined = {
            string.key.lower() for string in strings if string.enclosing == "no-enclosing"
        }

    def claim_text(self, value: str) -> str:
        """The text of a value that no braces and no quotation marks enclose: a string's name, or `jan # { 2021}`."""
        name = value.lower()
        text = self._values.get(name, value)
        return (
            self._concatenated(text)
            if "#" in text and (text is value or name in self._joined)
            else text
        )

    def _concatenated(self, value: str) -> str:
        """What is too long for a text ends there."""
        pieces: list[str] = []
        size = 0
        for braced, quoted, name in (match.groups() for match in _PIECE.finditer(value)):
            pieces.append(
                braced or quoted or (self._values.get(name.lower(), name) if name else "")
            )
            size += len(pieces[-1])
            if size > _LONGEST:
                break
        return "".join(pieces)


def _fields(entry: Any, named: _Strings) -> Fields:  # noqa: ANN401
    """Of each field that is used the first value that is not empty, names in lower case."""
    fields: Fields = {}
    for field in entry.fields:
        name, value = field.key.lower(), str(field.value)
        if name not in _USED or name in fields:
            continue
        if field.enclosing == "no-enclosing":
            value = named.claim_text(value)
        if value.strip():
            fields[name] = value
    return fields


def _draft(fields: Fields) -> Draft:
    def text(*names: str) -> str:
        return _decoded(next((fields[name] for name in names if name in fields), ""))

    title = text("title")
    if title and "subtitle" in fields:
        title = f"{title}: {text('subtitle')}"
    archive = fields.get("archiveprefix", fields.get("eprinttype", "")).lower()
    eprint = fields.get("eprint", "")
    return Draft(
        title=title,
        abstract=text("abstract", "summary"),
        authors=_authors(fields.get("author", "")),
        year=[fields.get("year"), fields.get("date")],
        venue=text("journal", "journaltitle", "booktitle", "school", "institution", "howpublished"),
        url=_address(fields.get("url") or fields.get("link", "")),
        doi=text("doi"),
        arxiv_id=eprint
        if archive == "arxiv" or (not archive and parse_arxiv_id(eprint))
        else fields.get("arxivid"),
        pmid=fields.get("pmid") or (eprint if archive in ("pubmed", "pmid") else None),
        notes=text("note"),
    )


def _decoded(text: str) -> str:
    return decode(text) if len(text) <= _LONGEST else text


def _address(text: str) -> str:
    """An address as it is: to LaTeX its `~` would be a space."""
    return _decoded(text) if "\\" in text else text


def _authors(text: str) -> object:
    """Names one by one; braces around a whole name say that it is not to be taken apart."""
    from bibtexparser.middlewares import names

    if len(text) > MAX_AUTHORS:
        return text
    people = names.split_multiple_persons_names(text)
    if len(people) == 1 and not people[0].startswith("{"):
        return _decoded(people[0])  # some exports part names by semicolons or commas instead
    return [_person(person) for person in people]


def _person(name: str) -> object:
    if name.startswith("{") and name.endswith("}") and name.count("{") == name.count("}"):
        return {"literal": _decoded(name)}
    return _decoded(name)
