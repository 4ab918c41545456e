"""JSON Lines, one record a line, and JSON: an array of records, an object that holds one, or a single record."""

import json
from collections.abc import Iterator
from typing import Any

from rag.ingest.sources.paper import BrokenOff, Draft, Flaw
from rag.ingest.sources.shapes import Record, draft_of, is_record
from rag.ingest.sources.stream import LINE_TOO_LONG, MAX_LINE, Stream

_DEEPEST = 64
_ROOM = 8  # what a value takes besides its characters, at the least
# Where services and tools put their lists, as paths of keys from the top.
_LISTS = frozenset(
    [(key,) for key in ("results", "data", "papers", "items", "records", "docs")]
    + [("response", "docs"), ("message", "items"), ("data", "papers"), ("data", "results")]
)
_WRAPPERS = frozenset(path[:1] for path in _LISTS if len(path) > 1)

Event = tuple[str, Any]


def read_lines(stream: Stream) -> Iterator[Draft | Flaw]:
    for line in stream.lines():
        if line is None:
            yield Flaw(LINE_TOO_LONG)
        elif text := line.strip():
            yield _of_line(text)


def _of_line(text: str) -> Draft | Flaw:
    try:
        record = json.loads(text)
    except RecursionError:
        return Flaw("JSON nested too deeply")
    except ValueError as error:
        return Flaw(f"broken JSON: {error}")
    return _draft(record)


def read_document(stream: Stream) -> Iterator[Draft | Flaw]:
    events = _Events(_events(stream))
    for event, value in events:
        if event == "start_array":
            yield from _array(events)
        elif event == "start_map":
            yield from _object(events)
        else:
            yield _draft(value)


def _draft(record: object) -> Draft | Flaw:
    return draft_of(record) if isinstance(record, dict) else Flaw("not a JSON object")


def _array(events: "_Events") -> Iterator[Draft | Flaw]:
    for event, value in events:
        if event == "end_array":
            return
        record = _build(event, value, events)
        yield record if isinstance(record, Flaw) else _draft(record)


def _object(events: "_Events", path: tuple[str, ...] = ()) -> Iterator[Draft | Flaw]:
    """The records in an object: those of its list, or the object itself where it is one."""
    record = _Record()
    has_list = False
    for event, key in events:
        if event == "end_map":
            break
        before = events.size
        kind, value = next(events)
        where = (*path, key)
        if kind == "start_array" and where in _LISTS:
            has_list = True
            yield from _array(events)
        elif kind == "start_map" and where in _WRAPPERS:
            yield from _object(events, where)
        else:
            built = _build(kind, value, events)
            record.add(key, built, events.size - before)
    if not has_list and record.is_paper:
        yield record.flaw or draft_of(record.fields)


class _Record:
    """The fields of an object that is read piece by piece; beyond the limit they are let go."""

    def __init__(self) -> None:
        self.fields: Record = {}
        self.flaw: Flaw | None = None
        self.is_paper = False
        self._size = 0

    def add(self, key: str, value: Any, size: int) -> None:  # noqa: ANN401 - a JSON value, or a Flaw
        """`size`: what the value took, in characters."""
        self.is_paper = self.is_paper or is_record({key: value})
        self._size += size + len(key) + _ROOM
        if isinstance(value, Flaw):
            self.flaw = self.flaw or value
        elif self._size <= MAX_LINE:
            self.fields[key] = value
        else:
            self.flaw = self.flaw or Flaw("record longer than 8 MB")
            self.fields.clear()


def _build(event: str, value: Any, events: "_Events") -> Any:  # noqa: ANN401 - a JSON value, or a Flaw
    """The value that begins with an event; one too large or too deep is read over, and never held."""
    if event not in ("start_map", "start_array"):
        return value
    open_values: list[Any] = [{} if event == "start_map" else []]
    keys: list[str] = [""]
    depth, flaw = 1, None
    most = events.size + MAX_LINE
    for kind, inner in events:
        depth += {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}.get(kind, 0)
        if flaw is None and (depth > _DEEPEST or events.size > most):
            flaw = Flaw("JSON nested too deeply" if depth > _DEEPEST else "record longer than 8 MB")
            open_values.clear()
        if not depth:
            return flaw or open_values[0]
        if flaw is None:
            _place(kind, inner, open_values, keys)
    raise BrokenOff("the file breaks off within a record")


def _place(kind: str, value: Any, open_values: list[Any], keys: list[str]) -> None:  # noqa: ANN401
    if kind == "map_key":
        keys[-1] = value
    elif kind in ("end_map", "end_array"):
        open_values.pop()
        keys.pop()
    else:
        new: Any = {"start_map": {}, "start_array": []}.get(kind, value)
        if isinstance(open_values[-1], dict):
            open_values[-1][keys[-1]] = new
        else:
            open_values[-1].append(new)
        if kind in ("start_map", "start_array"):
            open_values.append(new)
            keys.append("")


class _Events:
    """Events one by one, and the size of all their values so far, in characters."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self.size = 0

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = next(self._events)
        self.size += len(event[1]) + _ROOM if isinstance(event[1], str) else _ROOM
        return event


def _events(stream: Stream) -> Iterator[Event]:
    """The events of ijson's parser. The parser holds a single value whole, so that its size is limited here."""
    import ijson

    events = ijson.sendable_list()
    parser = ijson.basic_parse_coro(events, multiple_values=True, use_float=True)
    silent = 0
    try:
        for text in stream.text():
            parser.send(text.encode("utf-8", "replace"))
            silent = 0 if events else silent + len(text)
            yield from events
            del events[:]
            if silent > MAX_LINE:
                raise BrokenOff("a value longer than 8 MB; the rest of the file was not read")
        parser.close()
    except ijson.JSONError as error:
        yield from events
        raise BrokenOff(_told(error)) from error


def _told(error: Exception) -> str:
    message = str(error).split("\n")[0].strip()
    if "EOF" in message or "ncomplete" in message:
        return "broken JSON: the file breaks off within a record or before its end"
    return f"broken JSON, the rest of the file cannot be read: {message}"
