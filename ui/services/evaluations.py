"""Evaluation runs of the page: stored runs, and the one in progress.

Each run has a folder with the files that `eval` writes, `job.json` with the request (so that it can
be resumed after a stop or a restart) and a copy of the user's own questions. Runs are executed one
at a time, in a thread that continues when the browser is closed.
"""

import asyncio
import json
import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout
from pydantic import TypeAdapter

from eval import Plan, Question, evaluate, load_questions, load_scores, write_report
from eval.harness.systems import ASSISTANT
from rag import Assistant, FootnoteError, UsageError
from rag.text.counts import format_count
from ui.render.mathematics import plain_text
from ui.render.text import format_number, format_time
from ui.services.library_registry import SAMPLE

MAX_QUESTIONS_BYTES = 20_000_000
# The systems of a run without baselines and ablations.
ASSISTANT_ONLY = (ASSISTANT,)
# Time between updates of the progress in the browser.
_SECONDS_BETWEEN_STEPS = 0.4
# Cost of a row by group of systems, relative to the assistant; measured with the bundled models.
_COSTS = {"assistant": 1.0, "ablation": 0.12, "baseline": 0.03}
# The pace is measured over a window, and not reported before a minimum of time.
_PACE_WINDOW_SECONDS = 20.0
_MIN_PACE_SECONDS = 2.0
_LOG = logging.getLogger("footnote")
# Errors that reading the files of a damaged run can raise.
RUN_ERRORS = (
    FootnoteError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
)


# --- runs in their folders ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Request for an evaluation run.

    `library` is the key of a library, empty for the sample papers, and `library_name` its display
    name. `questions` is the name of the user's own file, empty for the curated questions.
    `with_baselines` adds baselines and ablations. The rest is as in `eval.Plan`.
    """

    library: str = ""
    library_name: str = SAMPLE
    questions: str = ""
    split: str = "test"
    style: str = "auto"
    every: int = 1
    with_baselines: bool = False
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def plan(self, folder: Path) -> Plan:
        """Return the plan of the run in a folder, for `eval.evaluate`."""
        questions = folder / "questions" / self.questions if self.questions else Plan().questions
        systems = () if self.with_baselines else ASSISTANT_ONLY
        return Plan(questions, self.split, self.style, systems, self.every)


_REQUEST = TypeAdapter(RunRequest)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Run in the list.

    `state` is `finished`, `unfinished` or `damaged`; `damage` describes the damage. `about` is the
    content of `run.json`, `replies` the number of replies of an unfinished run. `request` is None
    for a run that was not started in the page.
    """

    name: str
    started: datetime
    state: str
    about: Mapping[str, Any]
    request: RunRequest | None = None
    crag_score: float | None = None
    replies: int = 0
    damage: str = ""

    @property
    def can_resume(self) -> bool:
        """True if the run can continue where it stopped."""
        if self.request is None:
            return False
        return self.state == "unfinished" or (self.state == "damaged" and bool(self.about))

    @property
    def label(self) -> str:
        """One line of plain text for the list."""
        parts = [format_time(self.started), self._result()]
        if self.about:
            questions = format_count(self.about["count"], "question")
            parts.append(f"{self.about['split']}, {questions}")
        if self.request:
            parts.append(self.request.library_name)
        elif self.about:
            parts.append(format_count(self.about["papers"], "paper"))
        return plain_text(" · ".join(parts))

    def _result(self) -> str:
        if self.state != "finished":
            return self.state
        if self.crag_score is None:
            return "no CRAG score"
        return f"CRAG score {format_number(self.crag_score)}"


def list_runs(folder: Path) -> list[RunSummary]:
    """Return the runs in a folder, newest first; unreadable ones are listed as damaged."""
    summaries = []
    for path in folder.iterdir() if folder.is_dir() else ():
        summary = load_run_summary(path)
        if summary:
            summaries.append(summary)
    return sorted(summaries, key=lambda summary: (summary.started, summary.name), reverse=True)


def load_run_summary(path: Path) -> RunSummary | None:
    """Return the run in a folder; None if it holds no run, or no longer exists."""
    if not (path / "job.json").exists() and not (path / "run.json").exists():
        return None
    request = _load_request(path)
    try:
        started = request.started if request else datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None
    summary = RunSummary(path.name, started, "unfinished", {}, request)
    try:
        if not (path / "run.json").exists():
            return summary
        summary = replace(summary, about=_load_about(path))
        if not (path / "report.html").exists():
            return replace(summary, replies=_count_lines(path / "replies.jsonl"))
        return replace(summary, state="finished", crag_score=_mean_crag_score(path))
    except RUN_ERRORS as error:
        return replace(summary, state="damaged", damage=describe_error(error, path))


def _mean_crag_score(path: Path) -> float | None:
    _, rows = load_scores(path)
    scores = [row.scores["CRAG score"] for row in rows]
    applicable = [score for score in scores if score is not None]
    return sum(applicable) / len(applicable) if applicable else None


def _load_request(path: Path) -> RunRequest | None:
    """Return the request of a run; None if it is missing or unreadable."""
    try:
        request = _REQUEST.validate_json((path / "job.json").read_bytes())
    except (OSError, ValueError):
        return None
    is_plain_name = request.questions == Path(request.questions).name
    return request if request.started.tzinfo and is_plain_name else None


def _load_about(path: Path) -> Mapping[str, Any]:
    about = json.loads((path / "run.json").read_text(encoding="utf-8"))
    if not isinstance(about, dict):
        raise UsageError("run.json is not an object")
    for name, kind in {"split": str, "count": int, "papers": int, "systems": dict}.items():
        if not isinstance(about.get(name), kind):
            raise UsageError(f"run.json has no valid {name}")
    return about


def _count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def load_own_questions(path: Path) -> list[Question]:
    """Load the user's questions.

    Raises `UsageError` with the first mistake; the message names the file without its folder.
    """
    try:
        if path.stat().st_size > MAX_QUESTIONS_BYTES:
            limit = MAX_QUESTIONS_BYTES // 1_000_000
            raise UsageError(f"{path.name} is too large; the limit is {limit} MB")
        questions = load_questions(path)
        json.dumps([asdict(question) for question in questions], ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{path.name} contains bytes that are not text") from error
    except RecursionError as error:
        raise UsageError(f"{path.name} is nested too deeply") from error
    except (FootnoteError, OSError) as error:
        raise UsageError(describe_error(error, path.parent)) from error
    return questions


def describe_request(request: RunRequest, questions: Path | None) -> str:
    """Describe what a run would ask. `questions` is the user's file. Raises `UsageError`."""
    if request.library and not questions:
        raise UsageError("choose a file with your questions")
    available = load_own_questions(questions) if questions else load_questions(Plan().questions)
    in_split = [question for question in available if request.split in ("all", question.split)]
    number = len(in_split[:: request.every])
    if not number:
        raise UsageError(f"the file has no questions in the split “{request.split}”")
    systems = "the assistant"
    if request.with_baselines:
        systems = "the assistant, baselines and ablations"
    if not questions:
        questions_count = format_count(number, "curated question")
        return f"{questions_count} about the sample papers (not the library above), for {systems}."
    questions_count = format_count(number, "question")
    return plain_text(
        f"{questions_count} from {request.questions} about “{request.library_name}”, for {systems}."
    )


def _create_folder(folder: Path, request: RunRequest, questions: Path | None) -> Path:
    """Create the folder of a new run, with its request and the user's questions."""
    stamp = request.started.strftime("%Y-%m-%d-%H%M%S")
    path = folder / stamp
    numbers = count(2)
    while path.exists():
        path = folder / f"{stamp}-{next(numbers)}"
    path.mkdir(parents=True)
    if questions:
        (path / "questions").mkdir()
        shutil.copyfile(questions, path / "questions" / request.questions)
    (path / "job.json").write_bytes(_REQUEST.dump_json(request, indent=2))
    return path


# --- current run ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Progress of the current run: rows done and in total, current system, estimated seconds left.

    When no run is in progress, `message` says how the last one ended, and `failed` whether it
    failed.
    """

    run: str = ""
    is_working: bool = False
    is_stopping: bool = False
    done: int = 0
    total: int = 0
    system: str = ""
    seconds_left: float | None = None
    message: str = ""
    failed: bool = False


class TimeEstimate:
    """Estimate the remaining time of a run from its recent pace.

    The assistant runs first and is far slower than the other systems, so each row is weighted by
    the cost of its group.
    """

    def __init__(self, about: Mapping[str, Any], existing_rows: int) -> None:
        """Expect the rows of a run; the first `existing_rows` take no time."""
        costs = dict(_COSTS)
        if about.get("language_model") == "none":
            costs["assistant"] = costs["ablation"]
        self._costs = {name: costs.get(group, 1.0) for name, group in about["systems"].items()}
        self._cost_left = about["count"] * sum(self._costs.values())
        self._existing_rows = existing_rows
        self._system = ""
        self._history: deque[tuple[float, float]] = deque()

    def seconds_left(self, done: int, system: str, now: float) -> float | None:
        """Return the seconds left after `done` rows, at time `now`; None while unknown.

        `system` is the system of the next row.
        """
        self._cost_left = max(0.0, self._cost_left - self._costs.get(self._system, 0.0))
        self._system = system
        if done <= self._existing_rows:  # the first new row includes loading the models
            return None
        self._history.append((now, self._cost_left))
        while len(self._history) > 1 and now - self._history[1][0] >= _PACE_WINDOW_SECONDS:
            self._history.popleft()
        window_start, cost_left_then = self._history[0]
        cost_done, elapsed = cost_left_then - self._cost_left, now - window_start
        if cost_done <= 0 or elapsed < _MIN_PACE_SECONDS:
            return None
        seconds: float = self._cost_left * elapsed / cost_done
        return seconds


class _Stopped(Exception):
    """The user pressed Stop."""


class EvaluationRunner:
    """Executes and keeps runs in a folder, one at a time over all processes. Thread-safe."""

    def __init__(self, folder: Path, open_assistant: Callable[[RunRequest], Assistant]) -> None:
        """Store runs in `folder`; `open_assistant` returns the assistant to evaluate."""
        self._folder = folder
        self._open_assistant = open_assistant
        self._state = RunProgress()
        self._state_lock = threading.Lock()
        self._stop = threading.Event()

    @property
    def state(self) -> RunProgress:
        """Progress of the current run, or how the last one ended."""
        return self._state

    def list_runs(self) -> list[RunSummary]:
        """Return all runs, newest first."""
        return list_runs(self._folder)

    def find(self, name: str) -> RunSummary:
        """Return the run with a name. Raises `UsageError` if it does not exist."""
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            summary = load_run_summary(path) if path.name == name else None
            if summary:
                return summary
        raise UsageError("this run no longer exists")

    def path(self, summary: RunSummary) -> Path:
        """Return the folder of a run."""
        return self._folder / summary.name

    def is_running(self, summary: RunSummary) -> bool:
        """Return whether a run is the current one."""
        return self._state.is_working and self._state.run == summary.name

    def start(self, request: RunRequest, questions: Path | None = None) -> None:
        """Start a run of the user's file of questions, or of the curated questions without one.

        Raises `UsageError` for mistakes in the questions, and if another run is in progress.
        """
        request = replace(request, questions=questions.name) if questions else request
        describe_request(request, questions)
        self._begin(request, lambda: _create_folder(self._folder, request, questions))

    def resume(self, name: str) -> None:
        """Continue an unfinished run. Raises `UsageError`."""
        summary = self.find(name)
        if summary.request is None or not summary.can_resume:
            raise UsageError("this run cannot be resumed: it is finished or was not started here")
        self._begin(summary.request, lambda: self.path(summary))

    def stop(self) -> None:
        """Stop the current run after the current question; it can be resumed later."""
        self._stop.set()
        self._update(is_stopping=True)

    def _update(self, **changes: Any) -> None:  # noqa: ANN401 - fields of the state
        """Change the progress of the current run; ignored once it has ended."""
        with self._state_lock:
            if self._state.is_working:
                self._state = replace(self._state, **changes)

    def delete(self, name: str) -> None:
        """Delete a run for good. Raises `UsageError` if it does not exist or is running."""
        summary = self.find(name)
        if self.is_running(summary):
            raise UsageError("this run is in progress; stop it first")
        # Without a run here, another process may have one in progress.
        lock = None if self._state.is_working else self._lock()
        try:
            shutil.rmtree(self.path(summary))
        except OSError as error:
            raise UsageError(f"cannot delete the run: {error}") from error
        finally:
            if lock:
                lock.release()

    async def watch(self) -> AsyncIterator[RunProgress]:
        """Yield changes of the progress, a few per second, until the current run has ended."""
        previous = None
        while True:
            state = self._state
            if state != previous:
                yield state
            if not state.is_working:
                return
            previous = state
            await asyncio.sleep(_SECONDS_BETWEEN_STEPS)

    def _begin(self, request: RunRequest, prepare: Callable[[], Path]) -> None:
        lock = self._lock()
        try:
            path = prepare()
        except OSError as error:
            lock.release()
            raise UsageError(f"cannot store the run: {error}") from error
        self._stop.clear()
        self._state = RunProgress(path.name, is_working=True)
        work = (path, request, lock)
        threading.Thread(target=self._work, args=work, daemon=True, name="evaluation").start()

    def _lock(self) -> BaseFileLock:
        """Acquire the folder's lock, held by one run across threads and processes."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._folder / ".lock", thread_local=False)
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError("another run is in progress; wait for it or stop it") from None
        except OSError as error:
            raise UsageError(f"cannot store the run: {error}") from error
        return lock

    def _work(self, path: Path, request: RunRequest, lock: BaseFileLock) -> None:
        """Execute a run from its first question to its report."""
        final = self._execute(path, request)
        if not (path / "run.json").exists():  # nothing was asked, so there is nothing to resume
            shutil.rmtree(path, ignore_errors=True)
        lock.release()
        with self._state_lock:
            self._state = final

    def _execute(self, path: Path, request: RunRequest) -> RunProgress:
        subject = f"The run of {format_time(request.started)}"
        try:
            assistant = self._open_assistant(request)
            plan = request.plan(path)
            write_report(evaluate(assistant, path, plan, on_progress=self._on_progress(path)), path)
        except _Stopped:
            message = f"{subject} was stopped. Its replies are kept; it can be resumed."
            return RunProgress(path.name, message=message)
        except (FootnoteError, OSError) as error:
            outcome = "could not continue" if (path / "run.json").exists() else "did not start"
            message = f"{subject} {outcome}: {describe_error(error, path)}."
            return RunProgress(path.name, message=message, failed=True)
        except Exception as error:  # a bug: shown to the user, with its traceback in the log
            _LOG.exception("an evaluation in the page failed")
            reason = f"internal error ({type(error).__name__}: {error})"
            message = f"{subject} failed: {reason}; see the terminal."
            return RunProgress(path.name, message=message, failed=True)
        return RunProgress(path.name, message=f"{subject} is finished.")

    def _on_progress(self, path: Path) -> Callable[[int, int, str], None]:
        """Return the callback for `evaluate`, called before each row; it raises to stop the run."""
        existing_rows = _count_lines(path / "replies.jsonl")
        estimate: TimeEstimate | None = None

        def note(done: int, total: int, system: str) -> None:
            nonlocal estimate
            if self._stop.is_set() and system:
                raise _Stopped
            estimate = estimate or TimeEstimate(_load_about(path), existing_rows)
            left = estimate.seconds_left(done, system, time.monotonic())
            self._update(done=done, total=total, system=system, seconds_left=left)

        return note


# --- messages -------------------------------------------------------------------------------------


def describe_error(error: BaseException, folder: Path) -> str:
    """Describe an error without the folder, which the user did not choose."""
    message = str(error)
    message = message.replace(f"{folder / 'questions'}{os.sep}", "")
    message = message.replace(f"{folder}{os.sep}", "")
    message = message.replace(str(folder), folder.name)
    if isinstance(error, FootnoteError | OSError):
        return message.rstrip(".")
    return f"{type(error).__name__}: {message}"
