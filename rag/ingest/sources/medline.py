"""MEDLINE (NBIB), the tagged lines that PubMed exports."""

import re
from collections.abc import Iterator

from rag.ingest.sources.common.format import FileHead, Format
from rag.ingest.sources.common.raw_record import ParseFailure, RawRecord
from rag.ingest.sources.common.stream import Stream
from rag.ingest.sources.common.tagged_lines import TaggedLines, parse_tagged_records

_FIRST_LINE = re.compile(r"^PMID ?- ?\d", re.MULTILINE)
_LINE = re.compile(r"([A-Z][A-Z0-9]{1,3}) {0,2}-(?:\s(.*)|$)")
_IDENTIFIER = re.compile(r"(\S+)\s+\[(\w+)\]")


def _matches(head: FileHead) -> bool:
    return _FIRST_LINE.search(head.text) is not None


def _parse(stream: Stream) -> Iterator[RawRecord | ParseFailure]:
    for record in parse_tagged_records(stream, _LINE, first_tag="PMID"):
        yield record if isinstance(record, ParseFailure) else _map_record(record)


def _map_record(lines: TaggedLines) -> RawRecord:
    fields: dict[str, list[str]] = {}
    for tag, text in lines:
        fields.setdefault(tag, []).append(text)
    publication_types = set(map(str.lower, fields.get("PT", [])))
    organizations = [{"literal": name} for name in fields.get("CN", [])]
    return RawRecord(
        title=fields.get("TI") or fields.get("BTI"),
        abstract=fields.get("AB"),
        authors=[*(fields.get("FAU") or fields.get("AU", [])), *organizations],
        year=[fields.get("DP"), fields.get("DEP")],
        venue=(fields.get("JT") or fields.get("TA") or [""])[0],
        doi=_find_doi([*fields.get("LID", []), *fields.get("AID", [])]),
        pmid=fields.get("PMID", [""])[0],
        retracted="retracted publication" in publication_types or "RIN" in fields,
    )


def _find_doi(identifiers: list[str]) -> str:
    """Return the first identifier that is marked as DOI: `10.1234/m.1 [doi]`."""
    for identifier in identifiers:
        match = _IDENTIFIER.match(identifier)
        if match and match[2].lower() == "doi":
            return match[1]
    return ""


FORMAT = Format("medline", "MEDLINE", (".nbib", ".medline"), _matches, _parse)
