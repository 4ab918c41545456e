"""Imports of dropped files, one at a time; they continue when the browser is closed."""

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
from rag.text.counts import format_count
from ui.render.html import add_report_html, error_html
from ui.render.mathematics import plain_text
from ui.render.text import format_duration

MAX_FILES = 20
MAX_FILE_BYTES = 100 << 20
MAX_REPORTS = 5
_POLL_SECONDS = 0.2
_LOG = logging.getLogger("footnote")


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of an import: bytes done and in total, records done, and times in seconds.

    `seconds` is the time that the work so far took, `seconds_since` the time since then, and
    `wait_reason` what the import waits for.
    """

    done: int = 0
    total: int = 0
    records: int = 0
    seconds: float = 0.0
    seconds_since: float = 0.0
    wait_reason: str = ""

    @property
    def seconds_left(self) -> float:
        """Estimated remaining seconds; 0 when unknown or exceeded."""
        left = self.seconds * (self.total - self.done) / self.done if self.done else 0.0
        return max(0.0, left - self.seconds_since)


def progress_html(progress: Progress, library: str) -> str:
    """Return one line: a progress bar, the current step and the remaining time."""
    bar = f' max="{progress.total}" value="{progress.done}"' if progress.done else ""
    name = escape(plain_text(library))
    return (
        f'<div class="progress"><progress{bar} aria-label="Adding papers"></progress> '
        f"Adding to {name}: {_describe_progress(progress)}</div>"
    )


def _describe_progress(progress: Progress) -> str:
    if progress.wait_reason:
        return f"{progress.wait_reason}; waiting"
    if not progress.records:
        return "reading the files"
    count = format_count(progress.records, "record")
    if progress.seconds_left < 1:
        return count
    return f"{count}, about {format_duration(progress.seconds_left)} left"


def _describe_report(report: AddReport) -> str:
    skipped = f", {len(report.rejected):,} skipped" if report.rejected else ""
    return f"{report.added:,} new of {format_count(report.read, 'record')}{skipped}"


def safe_name(name: str) -> str:
    """Return a file name that is valid in any folder, the same for the same name every time."""
    composed = unicodedata.normalize("NFC", name)
    replaced = "".join(map(_safe_char, composed))
    return replaced.lstrip(".") or "file"


def _safe_char(char: str) -> str:
    return char if char.isprintable() and char not in "/\\" else "_"


def move_uploads(uploads: Iterable[str], folder: Path) -> tuple[list[Path], list[Rejection]]:
    """Move uploads into an emptied folder: files of one name always have the same path.

    Records are identified by the path of their file. Returns the moved files and the rejections.
    Raises `FootnoteError` if the folder cannot be written.
    """
    files: list[Path] = []
    rejected: list[Rejection] = []
    try:
        shutil.rmtree(folder, ignore_errors=True)  # a killed process may have left files
        folder.mkdir(parents=True, exist_ok=True)
        for upload in map(Path, uploads):
            target = folder / safe_name(upload.name)
            if reason := _rejection_reason(upload, target):
                rejected.append(Rejection(target.name, 0, reason))
            else:
                files.append(Path(shutil.move(upload, target)))
    except OSError as error:
        raise FootnoteError(f"cannot move the uploads to {folder}: {error}") from error
    return files, rejected


def _rejection_reason(upload: Path, target: Path) -> str:
    if target.exists():
        return "another file has the same name; rename one of them and drop it again"
    if not upload.is_file():
        return "the upload no longer exists; drop the file again"
    size = upload.stat().st_size
    if size > MAX_FILE_BYTES:
        return f"{size / 2**20:,.0f} MB; the limit is {MAX_FILE_BYTES >> 20} MB"
    return ""


class ImportJob:
    """Import of uploaded files in its own thread; it continues when nobody is watching."""

    def __init__(
        self,
        assistant: Assistant,
        library: str,
        uploads: list[str],
        previous: "ImportJob | None" = None,
    ) -> None:
        """Start once the `previous` import has ended: they share the upload folder."""
        self._assistant = assistant
        self._library = library
        self._uploads = uploads
        self._previous = previous
        self._started = time.monotonic()
        self._progress = Progress(wait_reason="another import is running" if previous else "")
        self._outcome: AddReport | Exception | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._work, name="footnote: import", daemon=True).start()

    @property
    def is_running(self) -> bool:
        """True until the import has ended."""
        return not self._ended.is_set()

    def result(self) -> AddReport:
        """Wait for the report and return it. Raises the error that ended the import."""
        self.wait()
        if isinstance(self._outcome, AddReport):
            return self._outcome
        assert self._outcome, "an ended import has an outcome"  # noqa: S101 - for the type checker
        raise self._outcome

    def html(self, *, is_open: bool = True) -> str:
        """Return the progress, the report (expanded or not) or the error."""
        if isinstance(self._outcome, AddReport):
            library = escape(plain_text(self._library))
            expanded = " open" if is_open else ""
            return (
                f'<details class="adding"{expanded}>'
                f"<summary>Added to {library}: {_describe_report(self._outcome)}</summary>"
                f"{add_report_html(self._outcome)}</details>"
            )
        if isinstance(self._outcome, FootnoteError):
            return error_html(self._outcome)
        if self._outcome:
            return error_html(
                "The import failed; see the terminal. Papers added before that are kept."
            )
        seconds_since = time.monotonic() - self._started - self._progress.seconds
        progress = replace(self._progress, seconds_since=seconds_since)
        return progress_html(progress, self._library)

    def wait(self) -> None:
        """Wait until the import has ended."""
        self._ended.wait()

    def _work(self) -> None:
        try:
            if self._previous:
                self._previous.wait()
            self._previous = None
            self._outcome = self._import()
        except Exception as error:  # shown on the page
            if not isinstance(error, FootnoteError):
                _LOG.exception("importing to %s failed", self._library)
            self._outcome = error
        finally:
            self._assistant.library.close()
            self._ended.set()

    def _import(self) -> AddReport:
        if len(self._uploads) > MAX_FILES:
            raise UsageError(
                f"cannot add {len(self._uploads)} files at once; the limit is {MAX_FILES}"
            )
        folder = data_folder() / "uploads"
        with _exclusive(folder.with_suffix(".lock"), self._note_waiting):
            files, rejected = move_uploads(self._uploads, folder)
            try:
                report = self._assistant.add(
                    *files, on_progress=self._note_progress, on_wait=self._note_waiting
                )
            finally:
                for file in files:
                    file.unlink(missing_ok=True)
        return replace(report, rejected=(*rejected, *report.rejected))

    def _note_progress(self, done: int, total: int, records: int) -> None:
        if not records:
            self._started = time.monotonic()
        self._progress = Progress(done, total, records, time.monotonic() - self._started)

    def _note_waiting(self) -> None:
        self._progress = replace(self._progress, wait_reason="another process is writing")


class ImportQueue:
    """Queue that runs one import at a time, and keeps the reports of the last ones."""

    def __init__(self) -> None:
        self._jobs: list[ImportJob] = []
        self._lock = threading.Lock()

    def start(self, assistant: Assistant, library: str, uploads: list[str]) -> ImportJob:
        """Start an import once the running ones have ended."""
        with self._lock:
            running = [job for job in self._jobs if job.is_running]
            job = ImportJob(assistant, library, uploads, running[-1] if running else None)
            recent = self._jobs[1 - MAX_REPORTS :]
            older = [job for job in running if job not in recent]
            self._jobs = [*older, *recent, job]
        return job

    @property
    def is_running(self) -> bool:
        """True until all imports have ended."""
        return any(job.is_running for job in self._jobs)

    def html(self) -> str:
        """Return progress and reports, the newest first and expanded."""
        parts = [job.html(is_open=job is self._jobs[-1]) for job in reversed(self._jobs)]
        return "".join(parts)


@contextmanager
def _exclusive(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock over all processes of this user; call `on_wait` when another one holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire(poll_interval=_POLL_SECONDS)
    except OSError as error:
        raise FootnoteError(f"cannot write {path}: {error}") from error
    try:
        yield
    finally:
        lock.release()
