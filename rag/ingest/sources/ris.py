"""RIS, the format that every reference manager exports. Parsed with rispy."""

import re
from collections.abc import Iterator
from typing import Any

from rag.ingest.sources.common.format import FileHead, Format
from rag.ingest.sources.common.raw_record import ParseFailure, RawRecord
from rag.ingest.sources.common.stream import Stream
from rag.ingest.sources.common.tagged_lines import TaggedLines, parse_tagged_records
from rag.text.cleaning import value_to_text

_FIRST_LINE = re.compile(r"^TY  -(?:\s|$)", re.MULTILINE)
_LINE = re.compile(r"([A-Z][A-Z0-9])  -\s?(.*)")


def _matches(head: FileHead) -> bool:
    return _FIRST_LINE.search(head.text) is not None


def _parse(stream: Stream) -> Iterator[RawRecord | ParseFailure]:
    for record in parse_tagged_records(stream, _LINE, first_tag="TY", last_tag="ER"):
        yield record if isinstance(record, ParseFailure) else _map_record(record)


def _map_record(lines: TaggedLines) -> RawRecord:
    fields = _parse_fields(lines)

    def first(*names: str) -> object:
        return next(filter(None, map(fields.get, names)), None)

    accession_number = first("accession_number")
    database = value_to_text(first("name_of_database", "database_provider")).lower()
    is_pubmed = "pubmed" in database or "medline" in database
    return RawRecord(
        title=first("title", "primary_title", "short_title"),
        abstract=first("abstract", "notes_abstract"),
        authors=first("authors", "first_authors"),
        year=[first("year"), first("publication_year"), first("date")],
        venue=first("alternate_title3", "secondary_title", "journal_name", "alternate_title2"),
        url=first("urls"),
        doi=first("doi"),
        arxiv_id=accession_number,
        pmid=accession_number if is_pubmed else None,
        notes=first("notes"),
        retracted="retracted" in value_to_text(first("type_of_work")).lower(),
    )


def _parse_fields(lines: TaggedLines) -> dict[str, Any]:
    """Return the fields of a record by rispy's names; a missing type is filled in."""
    import rispy

    parser = rispy.RisParser(
        skip_unknown_tags=True, enforce_list_tags=False, delimiter_tags_mapping={}
    )
    text = [] if lines[0][0] == "TY" else ["TY  - GEN"]
    text += [f"{tag}  - {line}" for tag, line in lines]
    text.append("ER  - ")
    return next(iter(parser.parse_lines(iter(text))), {})


FORMAT = Format("ris", "RIS", (".ris",), _matches, _parse)
