"""JSON Lines: one record per line."""

import json
from collections.abc import Iterator

from rag.ingest.sources.common.format import FileHead, Format
from rag.ingest.sources.common.json_mappings import map_value
from rag.ingest.sources.common.raw_record import ParseFailure, RawRecord
from rag.ingest.sources.common.stream import LINE_TOO_LONG, Stream

_SUFFIXES = (".jsonl", ".ndjson")


def _matches(head: FileHead) -> bool:
    """Recognize objects on lines of their own, even if the first one is broken or very long."""
    lines = list(filter(str.strip, head.text.split("\n")))
    objects = sum(map(_may_be_object, lines))
    if head.suffix in _SUFFIXES:
        return objects > 0 or not head.text.startswith(("[", "@"))
    if len(lines) == 1:
        return False
    return objects > 0.5 * len(lines) or (objects > 1 and _is_object(lines[0]))


def _may_be_object(line: str) -> bool:
    return line.startswith("{") and len(line) > 1


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _parse(stream: Stream) -> Iterator[RawRecord | ParseFailure]:
    for line in stream.lines():
        if line is None:
            yield ParseFailure(LINE_TOO_LONG)
        elif text := line.strip():
            yield _parse_line(text)


def _parse_line(text: str) -> RawRecord | ParseFailure:
    try:
        value = json.loads(text)
    except RecursionError:
        return ParseFailure("JSON nested too deeply")
    except ValueError as error:
        return ParseFailure(f"broken JSON: {error}")
    return map_value(value)


FORMAT = Format("jsonl", "JSON Lines", _SUFFIXES, _matches, _parse)
