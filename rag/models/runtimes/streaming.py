"""Generate in a background thread, so the text can be streamed and stopped."""

import atexit
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from rag.errors import FootnoteError, ModelFailed, ModelTooSlow
from rag.models.language_model import GenerationLimits

# Interval for checking the stop event and the deadline while no piece arrives.
_POLL_SECONDS = 0.05
# Limits memory when a server sends pieces faster than they are consumed.
_MAX_QUEUED_PIECES = 256
_END = object()
# At exit, generations get this long to stop.
_EXIT_SECONDS = 10.0
# Thread of each running generation, and the function that stops it.
_RUNNING: dict[threading.Thread, Callable[[], None]] = {}

Emit = Callable[[str], bool]
_Result = TypeVar("_Result")


def stream_from_thread(
    name: str,
    generate: Callable[[Emit], None],
    limits: GenerationLimits,
    stop: threading.Event,
    on_close: Callable[[], None] = lambda: None,
) -> Iterator[str]:
    """Run `generate(emit)` in a thread and yield the pieces that it emits.

    `emit` returns False once the generation should end; `emit("")` only checks that. A generation
    may be stuck inside a library when the consumer leaves, so its thread is not joined. `on_close`
    is then called, possibly more than once, to close whatever the thread waits for. Raises
    `ModelFailed` or `ModelTooSlow` for the model `name`.
    """
    pieces: queue.Queue[object] = queue.Queue(_MAX_QUEUED_PIECES)
    closed = threading.Event()

    def emit(piece: str) -> bool:
        if piece:
            _put(piece, pieces, closed)
        return not closed.is_set()

    def work() -> None:
        try:
            if not closed.is_set():
                generate(emit)
            _put(_END, pieces, closed)
        except Exception as error:  # a library may raise anything; the consumer gets it
            _put(error, pieces, closed)
        finally:
            _RUNNING.pop(threading.current_thread(), None)

    def close() -> None:
        closed.set()
        on_close()

    thread = threading.Thread(target=work, name=f"footnote: {name}", daemon=True)
    _RUNNING[thread] = close
    thread.start()
    try:
        yield from _read(name, pieces, limits, stop)
    finally:
        close()


def run_in_thread(
    name: str,
    compute: Callable[[Emit], _Result],
    limits: GenerationLimits,
    stop: threading.Event,
) -> _Result | None:
    """Return the result of `compute(emit)`, run as `stream_from_thread` does; nothing is emitted.

    Returns None once `stop` is set.
    """
    results: list[_Result] = []
    for _ in stream_from_thread(name, lambda emit: results.append(compute(emit)), limits, stop):
        pass
    return None if stop.is_set() else results[0]


def _put(piece: object, pieces: "queue.Queue[object]", closed: threading.Event) -> None:
    """Queue a piece as soon as there is room, unless the consumer has left."""
    while not closed.is_set():
        with contextlib.suppress(queue.Full):
            pieces.put(piece, timeout=_POLL_SECONDS)
            return


def _read(
    name: str, pieces: "queue.Queue[object]", limits: GenerationLimits, stop: threading.Event
) -> Iterator[str]:
    """Yield queued pieces until the end, a stop, an error or the deadline."""
    deadline = time.monotonic() + limits.seconds
    while not stop.is_set():
        try:
            piece = pieces.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            if time.monotonic() > deadline:
                raise ModelTooSlow(name, limits.seconds) from None
            continue
        if piece is _END:
            return
        if isinstance(piece, FootnoteError):
            raise piece
        if isinstance(piece, Exception):
            raise ModelFailed(name, f"{type(piece).__name__}: {piece}") from piece
        if time.monotonic() > deadline:
            raise ModelTooSlow(name, limits.seconds)
        yield str(piece)


@atexit.register
def _stop_all() -> None:
    """Stop all generations: a C++ callback into an exiting Python would abort the process."""
    running = dict(_RUNNING)
    for close in running.values():
        close()
    deadline = time.monotonic() + _EXIT_SECONDS
    for thread in running:
        thread.join(max(0.0, deadline - time.monotonic()))
