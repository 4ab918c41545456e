"""A generation that blocks, run in a thread of its own, so that its text can be had piece by piece and be stopped."""

import atexit
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator

from rag.errors import FootnoteError, ModelFailed, ModelTooSlow
from rag.models.language_model import GenerationLimits

# How soon a stop is noticed while no piece comes, in seconds.
_POLL = 0.05
# Pieces that may wait for their listener; a server may send faster than they are read.
_MOST_WAITING = 256
_END = object()
# How long the end of the process waits for generations to notice that nobody listens, in seconds.
_FAREWELL = 10.0
# The generations under way, each with what ends it.
_RUNNING: dict[threading.Thread, Callable[[], None]] = {}

Emit = Callable[[str], bool]


def stream_from_thread(
    name: str,
    generate: Callable[[Emit], None],
    limits: GenerationLimits,
    stop: threading.Event,
    on_end: Callable[[], None],
) -> Iterator[str]:
    """The pieces that `generate` emits. `emit(piece)` says whether to go on, also for an empty piece.

    `generate` may be stuck inside a library when the listener leaves: the thread is left to end by itself, and
    `on_end`, which is called when nobody listens and may be called again, can close what it waits for.
    Raises `ModelFailed` or `ModelTooSlow`, naming the model.
    """
    pieces: queue.Queue[object] = queue.Queue(_MOST_WAITING)
    left = threading.Event()

    def emit(piece: str) -> bool:
        if piece:
            _offer(piece, pieces, left)
        return not left.is_set()

    def work() -> None:
        try:
            if not left.is_set():
                generate(emit)
            _offer(_END, pieces, left)
        except Exception as error:  # whatever a model's library raises is told to the listener
            _offer(error, pieces, left)
        finally:
            _RUNNING.pop(threading.current_thread(), None)

    def leave() -> None:
        left.set()
        on_end()

    thread = threading.Thread(target=work, name=f"footnote: {name}", daemon=True)
    _RUNNING[thread] = leave
    thread.start()
    try:
        yield from _listen(name, pieces, limits, stop)
    finally:
        leave()


def _offer(piece: object, pieces: "queue.Queue[object]", left: threading.Event) -> None:
    """Put the piece where it is listened for, as soon as there is room, or nobody listens any more."""
    while not left.is_set():
        with contextlib.suppress(queue.Full):
            pieces.put(piece, timeout=_POLL)
            return


@atexit.register
def _end_all() -> None:
    """A thread that calls back from C++ while Python is taken down would abort the process."""
    running = dict(_RUNNING)
    for leave in running.values():
        leave()
    deadline = time.monotonic() + _FAREWELL
    for thread in running:
        thread.join(max(0.0, deadline - time.monotonic()))


def _listen(
    name: str, pieces: "queue.Queue[object]", limits: GenerationLimits, stop: threading.Event
) -> Iterator[str]:
    deadline = time.monotonic() + limits.seconds
    while not stop.is_set():
        try:
            piece = pieces.get(timeout=_POLL)
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
