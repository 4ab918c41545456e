"""Evaluations of the page: runs in their folders, and the one at work.

Each run has a folder of its own: what `eval` keeps there, `job.json` with what was wanted, so that it can go on after a
stop or a restart, and a copy of the questions where they were the user's own. A run is carried out in a thread that no
browser ends, one at a time.
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
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout
from pydantic import TypeAdapter

from eval import Plan, Question, evaluate, load_questions, load_scores, write_report
from rag import Assistant, FootnoteError, UsageError
from ui.render.mathematics import plain_text
from ui.render.text import format_count, format_number, format_time
from ui.services.library_registry import SAMPLE

_LARGEST = 20_000_000  # bytes of a file of questions
# What a run of the assistant alone asks: its name among the systems.
ALONE = ("assistant",)
# A browser is told at most so often how a run gets on, in seconds.
_BETWEEN_STEPS = 0.4
# A row of the assistant itself costs most; what the others cost of that was seen, with the model that comes along.
_COSTS = {"assistant": 1.0, "ablation": 0.12, "baseline": 0.03}
# The speed of a run is that of the last seconds, and is not told before the first ones.
_PACE_SECONDS = 20.0
_SOONEST_SECONDS = 2.0
_LOG = logging.getLogger("footnote")
# What can be wrong with the files of a run that is damaged.
DAMAGE = (FootnoteError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


# --- runs in their folders ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a run is to ask.

    `library` is the key of a library and `library_name` what it is called; an empty key means the sample papers.
    `questions` is the name of the user's own file, empty for the curated ones; `rivals` whether other systems than the
    assistant itself are asked. The rest is as in `eval.Plan`.
    """

    library: str = ""
    library_name: str = SAMPLE
    questions: str = ""
    split: str = "test"
    style: str = "auto"
    every: int = 1
    rivals: bool = False
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def plan(self, folder: Path) -> Plan:
        """The same as `evaluate` takes it, for the run in a folder."""
        own = folder / "questions" / self.questions if self.questions else Plan().questions
        return Plan(own, self.split, self.style, () if self.rivals else ALONE, self.every)


_JOB = TypeAdapter(RunRequest)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in the list: `state` is `finished`, `unfinished` or `damaged`, and `trouble` says what is damaged.

    `about` is what `eval` keeps of it, `replies` how many there are of an unfinished one; `job` is None for a run that
    was not begun here.
    """

    name: str
    started: datetime
    state: str
    about: Mapping[str, Any]
    job: RunRequest | None = None
    worth: float | None = None
    replies: int = 0
    trouble: str = ""

    @property
    def can_resume(self) -> bool:
        return self.job is not None and (
            self.state == "unfinished" or (self.state == "damaged" and bool(self.about))
        )

    @property
    def label(self) -> str:
        """One line of plain text for the list."""
        worth = "no CRAG score" if self.worth is None else f"CRAG score {format_number(self.worth)}"
        parts = [format_time(self.started), worth if self.state == "finished" else self.state]
        if self.about:
            parts.append(f"{self.about['split']}, {format_count(self.about['count'], 'question')}")
        if self.job or self.about:
            parts.append(
                self.job.library_name if self.job else format_count(self.about["papers"], "paper")
            )
        return plain_text(" · ".join(parts))


def list_runs(folder: Path) -> list[RunSummary]:
    """The runs in a folder, newest first; what cannot be read is in the list as damaged."""
    paths = folder.iterdir() if folder.is_dir() else ()
    runs = [kept for path in paths if (kept := load_run_summary(path))]
    return sorted(runs, key=lambda kept: (kept.started, kept.name), reverse=True)


def load_run_summary(path: Path) -> RunSummary | None:
    """The run in a folder; None where there is none, or none any more."""
    if not any((path / name).exists() for name in ("job.json", "run.json")):
        return None
    job = _job(path)
    try:
        started = job.started if job else datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None
    kept = RunSummary(path.name, started, "unfinished", {}, job)
    try:
        if not (path / "run.json").exists():
            return kept
        kept = replace(kept, about=_about(path))
        if not (path / "report.html").exists():
            return replace(kept, replies=_lines_in(path / "replies.jsonl"))
        worths = [row.scores["CRAG score"] for row in load_scores(path)[1]]
        known = [worth for worth in worths if worth is not None]
        return replace(kept, state="finished", worth=sum(known) / len(known) if known else None)
    except DAMAGE as error:
        return replace(kept, state="damaged", trouble=describe_error(error, path))


def _job(path: Path) -> RunRequest | None:
    """What was wanted of a run; None where that is not known, or not any more."""
    try:
        job = _JOB.validate_json((path / "job.json").read_bytes())
    except (OSError, ValueError):
        return None
    return job if job.started.tzinfo and job.questions == Path(job.questions).name else None


def _about(path: Path) -> Mapping[str, Any]:
    about = json.loads((path / "run.json").read_text(encoding="utf-8"))
    kinds = {"split": str, "count": int, "papers": int, "systems": dict}
    if not isinstance(about, dict) or not all(
        isinstance(about.get(name), kind) for name, kind in kinds.items()
    ):
        raise UsageError("run.json does not say what was asked")
    return about


def _lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def own_questions(path: Path) -> list[Question]:
    """The questions of a user's file. Raises `UsageError` with the first fault, which names the file without folder."""
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(
                f"{path.name} is too large: at most {_LARGEST // 1_000_000} MB of questions are taken"
            )
        questions = load_questions(path)
        json.dumps([asdict(question) for question in questions], ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{path.name} holds bytes that are no text") from error
    except RecursionError as error:
        raise UsageError(f"{path.name} is nested too deeply to be read") from error
    except (FootnoteError, OSError) as error:
        raise UsageError(describe_error(error, path.parent)) from error
    return questions


def describe_request(job: RunRequest, questions: Path | None) -> str:
    """What a run would ask, in words, of the curated questions or those of a file. Raises `UsageError`."""
    if job.library and not questions:
        raise UsageError("choose a file with your questions")
    every = own_questions(questions) if questions else load_questions(Plan().questions)
    asked = [one for one in every if job.split in ("all", one.split)][:: job.every]
    if not asked:
        raise UsageError(
            f"there are no questions of the split “{job.split}” in the file, only of the other"
        )
    whom = (
        "the assistant, its rivals, and itself with one ingredient less"
        if job.rivals
        else "the assistant"
    )
    if not questions:
        count = format_count(len(asked), "curated question")
        return f"{count} for {whom}. They are about the sample papers: those are used, whatever is chosen above."
    count = format_count(len(asked), "question")
    return plain_text(
        f"{count} of {job.questions} for {whom}, put to the library “{job.library_name}”."
    )


def _make_folder(folder: Path, job: RunRequest, questions: Path | None) -> Path:
    """A folder for a new run, with what was wanted and the user's own questions."""
    stamp = job.started.strftime("%Y-%m-%d-%H%M%S")
    taken = (stamp if number == 1 else f"{stamp}-{number}" for number in range(1, 1_000))
    path = next(folder / name for name in taken if not (folder / name).exists())
    path.mkdir(parents=True)
    if questions:
        (path / "questions").mkdir()
        shutil.copyfile(questions, path / "questions" / job.questions)
    (path / "job.json").write_bytes(_JOB.dump_json(job, indent=2))
    return path


# --- the run at work ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How the run at work gets on: rows done, in all, the system asked, and about how many seconds are left.

    When none is at work, `message` says how the last one ended, `failed` that it did not end well.
    """

    run: str = ""
    working: bool = False
    stopping: bool = False
    done: int = 0
    total: int = 0
    system: str = ""
    left: float | None = None
    message: str = ""
    failed: bool = False


class TimeEstimate:
    """How long a run still takes, from how fast it went of late.

    The assistant is asked first and is far slower than its rivals: a row counts as what rows of its group cost.
    """

    def __init__(self, about: Mapping[str, Any], known: int) -> None:
        """Expect the rows of a run of which the first `known` are there already and take no time."""
        costs = _COSTS | (
            {"assistant": _COSTS["ablation"]} if about.get("language_model") == "none" else {}
        )
        self._costs = {name: costs.get(group, 1.0) for name, group in about["systems"].items()}
        self._ahead = about["count"] * sum(self._costs.values())
        self._known = known
        self._system = ""
        self._seen: deque[tuple[float, float]] = deque()

    def left(self, done: int, system: str, now: float) -> float | None:
        """Seconds left when `done` rows are, the next is of `system`, and a clock shows `now`; None at first."""
        self._ahead = max(0.0, self._ahead - self._costs.get(self._system, 0.0))
        self._system = system
        if done <= self._known:  # the first row pays for loading the models
            return None
        self._seen.append((now, self._ahead))
        while len(self._seen) > 1 and now - self._seen[1][0] >= _PACE_SECONDS:
            self._seen.popleft()
        began, was_ahead = self._seen[0]
        did = was_ahead - self._ahead
        return (
            self._ahead * (now - began) / did
            if did > 0 and now - began >= _SOONEST_SECONDS
            else None
        )


class _Stopped(Exception):
    """Somebody pressed Stop."""


class EvaluationRunner:
    """The runs in a folder, of which at most one is at work, in this process or another. Safe for several threads."""

    def __init__(self, folder: Path, assistant_of: Callable[[RunRequest], Assistant]) -> None:
        """Keep runs in `folder`; `assistant_of` opens the assistant that a run is put to."""
        self._folder = folder
        self._assistant_of = assistant_of
        self._state = RunProgress()
        self._changing = threading.Lock()
        self._stop = threading.Event()

    @property
    def state(self) -> RunProgress:
        """How the run at work gets on, or how the last one ended."""
        return self._state

    def listed(self) -> list[RunSummary]:
        """All runs, newest first."""
        return list_runs(self._folder)

    def find(self, name: str) -> RunSummary:
        """The run of that name. Raises `UsageError` when it is gone."""
        paths = self._folder.iterdir() if self._folder.is_dir() else ()
        for path in paths:
            if path.name == name and (kept := load_run_summary(path)):
                return kept
        raise UsageError("this run is no longer here")

    def path(self, kept: RunSummary) -> Path:
        """The folder of a run."""
        return self._folder / kept.name

    def is_running(self, kept: RunSummary) -> bool:
        return self._state.working and self._state.run == kept.name

    def start(self, job: RunRequest, questions: Path | None = None) -> None:
        """Begin a new run, with the questions of a file where the job is not about the curated ones.

        Raises `UsageError`, before anything is run, with the first fault of the questions or when a run is at work.
        """
        job = replace(job, questions=questions.name) if questions else job
        describe_request(job, questions)
        self._begin(job, lambda: _make_folder(self._folder, job, questions))

    def resume(self, name: str) -> None:
        """Take an unfinished run up where it stopped. Raises `UsageError`."""
        kept = self.find(name)
        if kept.job is None or not kept.can_resume:
            raise UsageError("this run cannot go on: it is finished, or was not begun here")
        self._begin(kept.job, lambda: self.path(kept))

    def stop(self) -> None:
        """End the run at work after the question in hand; it can go on later."""
        self._stop.set()
        self._change(stopping=True)

    def _change(self, **changes: Any) -> None:  # noqa: ANN401 - fields of the state
        """Tell more of the run at work; where it has ended meanwhile, its end stands."""
        with self._changing:
            if self._state.working:
                self._state = replace(self._state, **changes)

    def delete(self, name: str) -> None:
        """Take a run away for good. Raises `UsageError` when it is gone or at work."""
        kept = self.find(name)
        if self.is_running(kept):
            raise UsageError("this run is at work; stop it first")
        # Where none is at work here, one may be in another process.
        lock = None if self._state.working else self._lock()
        try:
            shutil.rmtree(self.path(kept))
        except OSError as error:
            raise UsageError(f"the run cannot be deleted: {error}") from error
        finally:
            if lock:
                lock.release()

    async def watch(self) -> AsyncIterator[RunProgress]:
        """The states of the run at work, a few each second and only what is new, the last one when it has ended."""
        seen = None
        while True:
            if (state := self._state) != seen:
                yield (seen := state)
            if not state.working:
                return
            await asyncio.sleep(_BETWEEN_STEPS)

    def _begin(self, job: RunRequest, prepare: Callable[[], Path]) -> None:
        lock = self._lock()
        try:
            path = prepare()
        except OSError as error:
            lock.release()
            raise UsageError(f"the run cannot be kept: {error}") from error
        self._stop.clear()
        self._state = RunProgress(path.name, working=True)
        threading.Thread(
            target=self._work, args=(path, job, lock), daemon=True, name="evaluation"
        ).start()

    def _lock(self) -> BaseFileLock:
        """What only one run at a time has, over threads and processes."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._folder / ".lock", thread_local=False)
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError("a run is at work already; wait for its end, or stop it") from None
        except OSError as error:
            raise UsageError(f"the run cannot be kept: {error}") from error
        return lock

    def _work(self, path: Path, job: RunRequest, lock: BaseFileLock) -> None:
        """A run from its first question to its report."""
        ended = self._ended(path, job)
        if not (path / "run.json").exists():  # nothing was asked: there is nothing to go on with
            shutil.rmtree(path, ignore_errors=True)
        lock.release()
        with self._changing:
            self._state = ended

    def _ended(self, path: Path, job: RunRequest) -> RunProgress:
        run_of = f"The run of {format_time(job.started)}"
        try:
            run = evaluate(
                self._assistant_of(job), path, job.plan(path), on_progress=self._progress(path)
            )
            write_report(run, path)
        except _Stopped:
            return RunProgress(
                path.name, message=f"{run_of} was stopped. What was asked is kept; it can go on."
            )
        except (FootnoteError, OSError) as error:
            how = "could not go on" if (path / "run.json").exists() else "was not begun"
            return RunProgress(
                path.name, message=f"{run_of} {how}: {describe_error(error, path)}.", failed=True
            )
        except (
            Exception
        ) as error:  # a bug: told where the user looks, its traceback where it can be reported
            _LOG.exception("an evaluation in the page")
            words = f"{run_of} broke off: Footnote itself failed ({type(error).__name__}: {error})."
            return RunProgress(path.name, message=words, failed=True)
        return RunProgress(path.name, message=f"{run_of} is done.")

    def _progress(self, path: Path) -> Callable[[int, int, str], None]:
        """What `evaluate` calls before each row; it ends the run when that is wanted."""
        known = _lines_in(path / "replies.jsonl")
        pace: TimeEstimate | None = None

        def note(done: int, total: int, system: str) -> None:
            nonlocal pace
            if self._stop.is_set() and system:
                raise _Stopped
            pace = pace or TimeEstimate(_about(path), known)
            left = pace.left(done, system, time.monotonic())
            self._change(done=done, total=total, system=system, left=left)

        return note


# --- words ------------------------------------------------------------------------------------------------------


def describe_error(error: BaseException, folder: Path) -> str:
    """What went wrong, without the folder that nobody chose."""
    words = str(error)
    for part, said in (
        (f"{folder / 'questions'}{os.sep}", ""),
        (f"{folder}{os.sep}", ""),
        (str(folder), folder.name),
    ):
        words = words.replace(part, said)
    return (
        words.rstrip(".")
        if isinstance(error, FootnoteError | OSError)
        else f"{type(error).__name__}: {words}"
    )
