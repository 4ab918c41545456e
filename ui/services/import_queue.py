"""Adding what was dropped on the page: one adding after the other, each in a thread that no browser ends."""

import logging
import shutil
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from filelock import FileLock, Timeout

from rag import AddReport, Assistant, FootnoteError, Rejection, UsageError
from rag.config import data_folder
from ui.render.html import add_report_html, error_html
from ui.render.mathematics import plain_text
from ui.render.text import format_count, format_duration

MOST_FILES = 20
LARGEST_FILE_BYTES = 100 << 20
KEPT = 5
_POLL_SECONDS = 0.2
_LOG = logging.getLogger("footnote")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an adding is: bytes done and in all, records done, the seconds they took, and those since then."""

    done: int = 0
    total: int = 0
    records: int = 0
    seconds: float = 0.0
    since: float = 0.0
    waits_for: str = ""

    @property
    def seconds_left(self) -> float:
        """By the pace so far; 0 where there is none, or when it was slower than that."""
        left = self.seconds * (self.total - self.done) / self.done if self.done else 0.0
        return max(0.0, left - self.since)


def progress_html(progress: Progress, library: str) -> str:
    """One line: a bar, what is being done, and how long it may yet take."""
    bar = f' max="{progress.total}" value="{progress.done}"' if progress.done else ""
    return (
        f'<div class="progress"><progress{bar} aria-label="Adding papers"></progress> '
        f"Adding to {escape(plain_text(library))}: {_said(progress)}</div>"
    )


def _said(progress: Progress) -> str:
    if progress.waits_for:
        return f"{progress.waits_for}; waiting"
    if not progress.records:
        return "reading the files"
    left = f", about {format_duration(progress.seconds_left)} left" if progress.seconds_left >= 1 else ""
    return format_count(progress.records, "record") + left


def _outcome(report: AddReport) -> str:
    not_taken = f", {len(report.rejected):,} not taken" if report.rejected else ""
    return f"{report.added:,} new of {format_count(report.read, 'record')}{not_taken}"


def safe_name(name: str) -> str:
    """A file's name, the same for the same file at any time, that can stand in any folder."""
    composed = unicodedata.normalize("NFC", name)
    shown = "".join(char if char.isprintable() and char not in "/\\" else "_" for char in composed)
    return shown.lstrip(".") or "file"


def take_over(uploads: Iterable[str], folder: Path) -> tuple[list[Path], list[Rejection]]:
    """Move what was uploaded into an emptied folder, where a file's name alone tells where its records are from.

    Gives the files there, and those that were not taken. Raises `FootnoteError` when the folder cannot be written.
    """
    files: list[Path] = []
    refused: list[Rejection] = []
    try:
        shutil.rmtree(folder, ignore_errors=True)  # what a kill left there
        folder.mkdir(parents=True, exist_ok=True)
        for upload in map(Path, uploads):
            target = folder / safe_name(upload.name)
            if why := _why_not(upload, target):
                refused.append(Rejection(target.name, 0, why))
            else:
                files.append(Path(shutil.move(upload, target)))
    except OSError as error:
        raise FootnoteError(f"what was uploaded cannot be moved to {folder}: {error}") from error
    return files, refused


def _why_not(upload: Path, target: Path) -> str:
    if target.exists():
        return "another file of this name was dropped with it; rename one of them and drop it again"
    if not upload.is_file():
        return "its upload is gone: it was dropped before already, or has to be dropped again"
    if upload.stat().st_size > LARGEST_FILE_BYTES:
        return f"{upload.stat().st_size / 2**20:,.0f} MB; at most {LARGEST_FILE_BYTES >> 20} MB are taken"
    return ""


class Adding:
    """Uploaded files on their way into a library, in a thread of its own: it goes on when nobody looks any more."""

    def __init__(
        self, assistant: Assistant, library: str, uploads: list[str], before: "Adding | None" = None
    ) -> None:
        """Begin, once the adding `before` has ended: files of one name would take each other's place."""
        self._assistant = assistant
        self._library = library
        self._uploads = uploads
        self._before = before
        self._began = time.monotonic()
        self._progress = (
            Progress(waits_for="other files were dropped before") if before else Progress()
        )
        self._outcome: AddReport | Exception | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._work, name="footnote: adding", daemon=True).start()

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def result(self) -> AddReport:
        """The report, waited for. Raises what went wrong."""
        self.wait()
        if isinstance(self._outcome, AddReport):
            return self._outcome
        assert self._outcome, "what has ended has an outcome"  # noqa: S101 - tells the type checker
        raise self._outcome

    def html(self, *, is_open: bool = True) -> str:
        """What it has come to: a line of progress, the report, open or not, or what went wrong."""
        if isinstance(self._outcome, AddReport):
            said = f"Added to {escape(plain_text(self._library))}: {_outcome(self._outcome)}"
            shown = " open" if is_open else ""
            return f'<details class="adding"{shown}><summary>{said}</summary>{add_report_html(self._outcome)}</details>'
        if isinstance(self._outcome, FootnoteError):
            return error_html(self._outcome)
        if self._outcome:
            return error_html(
                "The adding broke off; the terminal says why. What was added until then is kept."
            )
        since = time.monotonic() - self._began - self._progress.seconds
        return progress_html(replace(self._progress, since=since), self._library)

    def wait(self) -> None:
        """Until it has ended."""
        self._ended.wait()

    def _work(self) -> None:
        try:
            if self._before:
                self._before.wait()
            self._before = None
            self._outcome = self._added()
        except Exception as error:  # told to whoever looks
            if not isinstance(error, FootnoteError):
                _LOG.exception("adding to %s broke off", self._library)
            self._outcome = error
        finally:
            self._assistant.library.close()
            self._ended.set()

    def _added(self) -> AddReport:
        if len(self._uploads) > MOST_FILES:
            raise UsageError(
                f"{len(self._uploads)} files were dropped; at most {MOST_FILES} are added at a time"
            )
        folder = data_folder() / "uploads"
        with _alone(folder.with_suffix(".lock"), self._wait):
            files, refused = take_over(self._uploads, folder)
            try:
                report = self._assistant.add(*files, on_progress=self._note, on_wait=self._wait)
            finally:
                for file in files:
                    file.unlink(missing_ok=True)
        return replace(report, rejected=(*refused, *report.rejected))

    def _note(self, done: int, total: int, records: int) -> None:
        if not records:
            self._began = time.monotonic()
        self._progress = Progress(done, total, records, time.monotonic() - self._began)

    def _wait(self) -> None:
        self._progress = replace(self._progress, waits_for="another process is writing")


class ImportQueue:
    """What was dropped, one adding after the other; the last ones are kept, so that their reports can be read."""

    def __init__(self) -> None:
        self._known: list[Adding] = []
        self._starting = threading.Lock()

    def start(self, assistant: Assistant, library: str, uploads: list[str]) -> Adding:
        with self._starting:
            before = next((one for one in reversed(self._known) if one.running), None)
            adding = Adding(assistant, library, uploads, before)
            kept = [one for one in self._known[: 1 - KEPT] if one.running]
            self._known = [*kept, *self._known[1 - KEPT :], adding]
        return adding

    @property
    def running(self) -> bool:
        return any(adding.running for adding in self._known)

    def html(self) -> str:
        """What they have come to, the newest first; only its report is open."""
        return "".join(
            adding.html(is_open=adding is self._known[-1]) for adding in reversed(self._known)
        )


@contextmanager
def _alone(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock that all processes of this user respect; `on_wait` is called when another one holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire(poll_interval=_POLL_SECONDS)
    except OSError as error:
        raise FootnoteError(f"{path} cannot be written: {error}") from error
    try:
        yield
    finally:
        lock.release()
