"""JSON: an array of records, an object that contains one, or a single record. Parsed with ijson.

Files are parsed event by event, so their size does not matter.
"""

import re
from collections.abc import Iterator
from typing import Any

from rag.ingest.sources.common.format import FileHead, Format
from rag.ingest.sources.common.json_mappings import (
    JsonObject,
    is_paper_key,
    map_object,
    map_value,
)
from rag.ingest.sources.common.raw_record import ParseFailure, RawRecord, TruncatedFile
from rag.ingest.sources.common.stream import MAX_LINE, RECORD_TOO_LONG, Stream

_MAX_DEPTH = 64
_VALUE_OVERHEAD = 8  # characters counted for each value besides its text
_ARRAY = re.compile(r"\[\s*(?:[{\]\[]|null\b|$)")
# Paths of keys at which services and tools put their lists of records.
_LIST_PATHS = frozenset(
    {
        ("results",),
        ("data",),
        ("papers",),
        ("items",),
        ("records",),
        ("docs",),
        ("response", "docs"),
        ("message", "items"),
        ("data", "papers"),
        ("data", "results"),
    }
)
_WRAPPER_PATHS = frozenset({("response",), ("message",), ("data",)})
_STARTS = ("start_map", "start_array")
_ENDS = ("end_map", "end_array")

Event = tuple[str, Any]


def _matches(head: FileHead) -> bool:
    return head.text.startswith("{") or _ARRAY.match(head.text) is not None


def _parse(stream: Stream) -> Iterator[RawRecord | ParseFailure]:
    events = _Events(_parse_events(stream))
    for event, value in events:
        if event == "start_array":
            yield from _parse_array(events)
        elif event == "start_map":
            yield from _parse_object(events)
        else:
            yield map_value(value)


def _parse_array(events: "_Events") -> Iterator[RawRecord | ParseFailure]:
    for event, value in events:
        if event == "end_array":
            return
        record = _build_value(event, value, events)
        yield record if isinstance(record, ParseFailure) else map_value(record)


def _parse_object(
    events: "_Events", path: tuple[str, ...] = ()
) -> Iterator[RawRecord | ParseFailure]:
    """Yield the records in the list of an object, or the object itself if it is a record."""
    record = _ObjectBuilder()
    has_list = False
    for event, key in events:
        if event == "end_map":
            break
        size_before = events.size
        kind, value = next(events)
        key_path = (*path, key)
        if kind == "start_array" and key_path in _LIST_PATHS:
            has_list = True
            yield from _parse_array(events)
        elif kind == "start_map" and key_path in _WRAPPER_PATHS:
            yield from _parse_object(events, key_path)
        else:
            built = _build_value(kind, value, events)
            record.add(key, built, events.size - size_before)
    if not has_list and record.is_paper:
        yield record.finish()


class _ObjectBuilder:
    """Object that is read key by key. Its fields are dropped when they grow too large."""

    def __init__(self) -> None:
        self.is_paper = False
        self._fields: JsonObject = {}
        self._failure: ParseFailure | None = None
        self._size = 0

    def add(self, key: str, value: Any, size: int) -> None:  # noqa: ANN401 - JSON or ParseFailure
        """Add a field; `size` is that of the value in characters."""
        self.is_paper = self.is_paper or is_paper_key(key)
        self._size += size + len(key) + _VALUE_OVERHEAD
        if isinstance(value, ParseFailure):
            self._failure = self._failure or value
        elif self._size <= MAX_LINE:
            self._fields[key] = value
        else:
            self._failure = self._failure or ParseFailure(RECORD_TOO_LONG)
            self._fields.clear()

    def finish(self) -> RawRecord | ParseFailure:
        """Return the record of the object, or the first failure."""
        return self._failure or map_object(self._fields)


def _build_value(event: str, value: Any, events: "_Events") -> Any:  # noqa: ANN401
    """Build the value that begins with an event; return a ParseFailure if it exceeds a limit."""
    if event not in _STARTS:
        return value
    builder = _ValueBuilder(event, max_size=events.size + MAX_LINE)
    for kind, inner_value in events:
        builder.add(kind, inner_value, events.size)
        if builder.is_complete:
            return builder.result
    raise TruncatedFile("the file ends within a record")


class _ValueBuilder:
    """Array or object that is built from its events, and dropped once it exceeds a limit."""

    def __init__(self, event: str, max_size: int) -> None:
        self._open_values: list[Any] = [_empty_value(event)]
        self._keys = [""]
        self._depth = 1
        self._max_size = max_size
        self._failure: ParseFailure | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the array or object has ended."""
        return self._depth == 0

    @property
    def result(self) -> Any:  # noqa: ANN401 - JSON or ParseFailure
        """Complete value, or the reason why it was dropped."""
        return self._failure or self._open_values[0]

    def add(self, event: str, value: Any, size: int) -> None:  # noqa: ANN401 - a value of JSON
        """Add the next event; `size` is the number of characters up to here."""
        self._depth += (event in _STARTS) - (event in _ENDS)
        if self._failure:
            return
        if self._depth > _MAX_DEPTH:
            self._fail("JSON nested too deeply")
        elif size > self._max_size:
            self._fail(RECORD_TOO_LONG)
        elif self._depth:
            self._place(event, value)

    def _fail(self, reason: str) -> None:
        self._failure = ParseFailure(reason)
        self._open_values.clear()

    def _place(self, event: str, value: Any) -> None:  # noqa: ANN401
        if event == "map_key":
            self._keys[-1] = value
        elif event in _ENDS:
            self._open_values.pop()
            self._keys.pop()
        elif event in _STARTS:
            opened = _empty_value(event)
            self._append(opened)
            self._open_values.append(opened)
            self._keys.append("")
        else:
            self._append(value)

    def _append(self, value: Any) -> None:  # noqa: ANN401
        parent = self._open_values[-1]
        if isinstance(parent, dict):
            parent[self._keys[-1]] = value
        else:
            parent.append(value)


def _empty_value(event: str) -> dict[str, Any] | list[Any]:
    return {} if event == "start_map" else []


class _Events:
    """Iterator over events that counts the size of their values in characters."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self.size = 0

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = next(self._events)
        self.size += _VALUE_OVERHEAD
        if isinstance(event[1], str):
            self.size += len(event[1])
        return event


def _parse_events(stream: Stream) -> Iterator[Event]:
    """Yield the events of ijson.

    Its parser buffers a value of any length, so the text that it may buffer is limited here.
    """
    import ijson

    events = ijson.sendable_list()
    parser = ijson.basic_parse_coro(events, multiple_values=True, use_float=True)
    length_without_event = 0
    try:
        for text in stream.text():
            parser.send(text.encode("utf-8", "replace"))
            length_without_event = 0 if events else length_without_event + len(text)
            yield from events
            del events[:]
            if length_without_event > MAX_LINE:
                raise TruncatedFile("a value longer than 8 MB; the rest of the file was not read")
        parser.close()
    except ijson.JSONError as error:
        yield from events
        raise TruncatedFile(_describe(error)) from error


def _describe(error: Exception) -> str:
    message = str(error).split("\n")[0].strip()
    if "EOF" in message or "ncomplete" in message:
        return "broken JSON: the file ends within a record or before its closing bracket"
    return f"broken JSON, the rest of the file cannot be read: {message}"


FORMAT = Format("json", "JSON", (".json",), _matches, _parse)
