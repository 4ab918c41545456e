"""Queue for the language model: on this machine, it writes one answer at a time.

The runtimes would also make answers wait for each other, but in no order, without a word, and at
the expense of their time limit.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from rag.records import Waiting

_POLL_SECONDS = 0.05
# An answer that nobody reads on for this long lets the others pass. A stream that was left open in
# a notebook must not block every later question.
_MAX_PAUSE_SECONDS = 2.0

_Event = TypeVar("_Event")


@dataclass(slots=True, eq=False)
class _Place:
    """Place of an answer in the queue; `paused_at` is the time since which nobody reads on."""

    paused_at: float | None = None

    def pause_over(self, events: Iterator[_Event]) -> Iterator[_Event]:
        """Yield events, and note when their reader takes time."""
        for event in events:
            self.paused_at = time.monotonic()
            yield event
            self.paused_at = None

    @property
    def is_active(self) -> bool:
        """Whether others have to wait for this answer."""
        paused_at = self.paused_at
        return paused_at is None or time.monotonic() - paused_at < _MAX_PAUSE_SECONDS


class WriterQueue:
    """Queue for a language model, first come, first served. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: list[_Place] = []

    def in_turn(
        self, events: Iterator[_Event], stop: threading.Event
    ) -> Iterator[_Event | Waiting]:
        """Yield the events of an answer when it is its turn; before that, its place in the queue.

        The place is yielded when it changes, at last as 0, and never if there is no need to wait.
        When `stop` is set, the wait ends.
        """
        place = _Place()
        with self._lock:
            self._places.append(place)
        try:
            yield from place.pause_over(self._wait(place, stop))
            yield from place.pause_over(events)
        finally:
            with self._lock:
                self._places.remove(place)

    def _wait(self, place: _Place, stop: threading.Event) -> Iterator[Waiting]:
        shown = 0
        while not stop.is_set():
            ahead = self._count_ahead(place)
            if ahead != shown:
                shown = ahead
                yield Waiting(ahead)
            elif not ahead:
                return
            else:
                stop.wait(_POLL_SECONDS)

    def _count_ahead(self, place: _Place) -> int:
        with self._lock:
            before = self._places[: self._places.index(place)]
        return sum(other.is_active for other in before)


# All assistants of a process share the processor, so they share the queue.
WRITER_QUEUE = WriterQueue()
