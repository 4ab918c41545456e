"""The two formats of tagged lines: RIS, which every reference manager writes, and MEDLINE (NBIB) of PubMed."""

import re
from collections.abc import Iterator
from typing import Any

from rag.ingest.sources.paper import Draft, Flaw
from rag.ingest.sources.stream import LINE_TOO_LONG, MAX_LINE, Stream
from rag.text.cleaning import value_to_text

_RIS_LINE = re.compile(r"([A-Z][A-Z0-9])  -\s?(.*)")
_MEDLINE_LINE = re.compile(r"([A-Z][A-Z0-9]{1,3}) {0,2}-(?:\s(.*)|$)")
_IDENTIFIER = re.compile(r"(\S+)\s+\[(\w+)\]")

# What a line takes in memory besides its characters, so that millions of empty ones count, too.
_ROOM_OF_LINE = 16

Lines = list[tuple[str, str]]


class _Record:
    """The lines of one record, each continuation joined to what it continues."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, list[str]]] = []
        self._size = 0
        self._flaw = ""

    def __bool__(self) -> bool:
        return bool(self._lines or self._flaw)

    def add(self, tag: str, text: str) -> None:
        self._size += len(text) + _ROOM_OF_LINE
        if self._size > MAX_LINE:
            self.spoil("record longer than 8 MB")
        elif tag and not self._flaw:
            self._lines.append((tag, [text]))
        elif self._lines:
            self._lines[-1][1].append(text)

    def spoil(self, why: str) -> None:
        self._flaw = self._flaw or why
        self._lines.clear()

    def end(self) -> Lines | Flaw:
        return (
            Flaw(self._flaw)
            if self._flaw
            else [(tag, "\n".join(texts)) for tag, texts in self._lines]
        )


def _records(
    stream: Stream, form: re.Pattern[str], first: str, last: str
) -> Iterator[Lines | Flaw]:
    """Records from their first tag to their last, or to the next first one: the end tag is often forgotten."""
    record = _Record()
    for line in stream.lines():
        if line is None:
            record.spoil(LINE_TOO_LONG)
            continue
        found = form.match(line)
        tag = found[1] if found else ""
        if record and tag and tag in (first, last):
            yield record.end()
            record = _Record()
        if found and tag != last:
            record.add(tag, (found[2] or "").strip())
        elif not found and line.strip():
            record.add("", line.strip())
    if record:
        yield record.end()


def read_ris(stream: Stream) -> Iterator[Draft | Flaw]:
    for record in _records(stream, _RIS_LINE, first="TY", last="ER"):
        yield record if isinstance(record, Flaw) else _ris_draft(record)


def _ris_draft(lines: Lines) -> Draft:
    import rispy

    start = [] if lines[0][0] == "TY" else ["TY  - GEN"]
    parser = rispy.RisParser(
        skip_unknown_tags=True, enforce_list_tags=False, delimiter_tags_mapping={}
    )
    text = iter([*start, *(f"{tag}  - {text}" for tag, text in lines), "ER  - "])
    fields: dict[str, Any] = next(iter(parser.parse_lines(text)), {})

    def first(*names: str) -> object:
        return next((fields[name] for name in names if fields.get(name)), None)

    number, database = (
        first("accession_number"),
        value_to_text(first("name_of_database", "database_provider")).lower(),
    )
    return Draft(
        title=first("title", "primary_title", "short_title"),
        abstract=first("abstract", "notes_abstract"),
        authors=first("authors", "first_authors"),
        year=[first("year"), first("publication_year"), first("date")],
        venue=first("alternate_title3", "secondary_title", "journal_name", "alternate_title2"),
        url=first("urls"),
        doi=first("doi"),
        arxiv_id=number,
        pmid=number if "pubmed" in database or "medline" in database else None,
        notes=first("notes"),
        retracted="retracted" in value_to_text(first("type_of_work")).lower(),
    )


def read_medline(stream: Stream) -> Iterator[Draft | Flaw]:
    for record in _records(stream, _MEDLINE_LINE, first="PMID", last=""):
        yield record if isinstance(record, Flaw) else _medline_draft(record)


def _medline_draft(lines: Lines) -> Draft:
    fields: dict[str, list[str]] = {}
    for tag, text in lines:
        fields.setdefault(tag, []).append(text)
    kinds = {kind.lower() for kind in fields.get("PT", [])}
    groups = [{"literal": name} for name in fields.get("CN", [])]
    return Draft(
        title=fields.get("TI") or fields.get("BTI"),
        abstract=fields.get("AB"),
        authors=[*(fields.get("FAU") or fields.get("AU", [])), *groups],
        year=[fields.get("DP"), fields.get("DEP")],
        venue=(fields.get("JT") or fields.get("TA") or [""])[0],
        doi=_medline_doi(fields),
        pmid=fields.get("PMID", [""])[0],
        retracted="retracted publication" in kinds or "RIN" in fields,
    )


def _medline_doi(fields: dict[str, list[str]]) -> str:
    found = (_IDENTIFIER.match(text) for text in (*fields.get("LID", []), *fields.get("AID", [])))
    return next((match[1] for match in found if match and match[2].lower() == "doi"), "")
