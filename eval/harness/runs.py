"""A run: questions put to systems, one row for each, kept in a folder and taken up again where it stopped.

`run.json` says what was asked of what; `replies.jsonl` holds the rows, `seconds.jsonl` what they took. Without the
seconds, the same questions to the same library with the same models give the same bytes.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from eval.harness.comparison import Scored, save_scores
from eval.harness.metrics import METRICS, Corpus, Metric, score
from eval.harness.questions import SPLITS, Question, check_against, load_questions, sample_questions
from eval.harness.replies import Reply, reply_from
from eval.harness.statistics import Interval, bootstrap
from eval.harness.systems import System, systems
from rag import Assistant, FootnoteError, UsageError

_SPLITS = (*SPLITS, "all")
_STYLES = ("auto", "quote", "write")
# Called with rows done, rows in all, and the system at work.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """A question, the reply of a system to it, its scores, and the seconds of wall-clock time that it took."""

    question: Question
    reply: Reply
    scores: Mapping[str, float | None]
    seconds: float


def values_of(rows: Iterable[Row], metric: str) -> tuple[list[float], list[str]]:
    """A metric of rows where it applies: its values, and the clusters of their questions."""
    applying = [
        (value, row.question.cluster)
        for row in rows
        if (value := row.scores.get(metric)) is not None
    ]
    return [value for value, _ in applying], [cluster for _, cluster in applying]


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run: what was asked of what, the abstracts of the library, and the rows of each system by its name."""

    about: Mapping[str, Any]
    corpus: Corpus
    rows: Mapping[str, tuple[Row, ...]]
    groups: Mapping[str, str]

    @property
    def used(self) -> tuple[Row, ...]:
        """The rows of the assistant itself."""
        return next(iter(self.rows.values()))

    def values(self, system: str, metric: str) -> tuple[list[float], list[str]]:
        """A metric of a system where it applies: its values, and the clusters of their questions."""
        return values_of(self.rows[system], metric)

    def interval(self, metric: str, system: str = "as used") -> Interval | None:
        """The mean of a metric where it applies, with its 95 % interval; None where it never does."""
        values, clusters = self.values(system, metric)
        return bootstrap(values, clusters) if values else None

    def pairs(
        self, system: str, other: str, metric: str
    ) -> tuple[list[float], list[float], list[str]]:
        """A metric of two systems on the questions that both got and to which it applies for both, and clusters."""
        theirs = {row.question.id: row.scores[metric] for row in self.rows[other]}
        both = [
            (row.scores[metric], theirs.get(row.question.id), row.question.cluster)
            for row in self.rows[system]
        ]
        kept = [(a, b, cluster) for a, b, cluster in both if a is not None and b is not None]
        return [a for a, _, _ in kept], [b for _, b, _ in kept], [cluster for _, _, cluster in kept]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked: the questions of a file (the curated ones by default), `dev`, `test` or `all` of them.

    `style` is that of answers; `only` names the systems that are asked besides the assistant itself, all by default;
    `every` takes every n-th question, for a quick look.
    """

    questions: Path = field(default_factory=sample_questions)
    split: str = "test"
    style: str = "auto"
    only: tuple[str, ...] = ()
    every: int = 1

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("split", self.split, _SPLITS),
            ("style", self.style, _STYLES),
        ):
            if value not in allowed:
                raise UsageError(f"no {name} is called '{value}'; there are: {', '.join(allowed)}")


def evaluate(
    assistant: Assistant,
    folder: Path,
    plan: Plan | None = None,
    metrics: Mapping[str, Metric] = METRICS,
    on_progress: Progress | None = None,
) -> Run:
    """Put questions to the assistant and its rivals.

    The run is kept in `folder`, and goes on there if it was broken off. Raises `UsageError` before anything is asked
    when the questions do not fit the library.
    """
    plan = plan or Plan()
    corpus = {paper.id: paper.abstract for paper in assistant.papers()}
    asked = _asked(plan, corpus)
    chosen = _chosen(systems(assistant, plan.style), plan.only)
    with _Store(folder, _about(assistant, plan, asked, chosen)) as store:
        store.fill(chosen, asked, on_progress or (lambda *_: None))
    run = load_run(folder, asked, corpus, metrics)
    save_scores(folder / "scores.json", run.about, [_scored(row) for row in run.used])
    return run


def _scored(row: Row) -> Scored:
    return Scored(row.question.id, row.question.cluster, row.scores, bool(row.reply.error))


def _asked(plan: Plan, corpus: Corpus) -> list[Question]:
    """The questions, all of them checked against the library."""
    every = load_questions(plan.questions)
    if fault := next(iter(check_against(every, corpus)), ""):
        raise UsageError(f"{plan.questions}: {fault}")
    asked = [question for question in every if plan.split in ("all", question.split)][:: plan.every]
    if not asked:
        raise UsageError(f"{plan.questions} holds no questions of the split '{plan.split}'")
    return asked


def load_run(
    folder: Path,
    questions: Sequence[Question],
    corpus: Corpus,
    metrics: Mapping[str, Metric] = METRICS,
) -> Run:
    """A run that was kept, scored anew."""
    about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    asked = {question.id: question for question in questions}
    seconds = {
        (row["system"], row["id"]): row["seconds"] for row in _lines(folder / "seconds.jsonl")
    }
    rows: dict[str, list[Row]] = {name: [] for name in about["systems"]}
    for line in _lines(folder / "replies.jsonl"):
        question, reply = asked[line["id"]], reply_from(line["reply"])
        scores = score(question, reply, corpus, metrics)
        rows[line["system"]].append(
            Row(question, reply, scores, seconds.get((line["system"], line["id"]), 0.0))
        )
    return Run(about, corpus, {name: tuple(own) for name, own in rows.items()}, about["systems"])


def _chosen(every: list[System], only: Sequence[str]) -> list[System]:
    names = [system.name for system in every]
    for name in only:
        if name not in names:
            raise UsageError(f"no system is called '{name}'; there are: {', '.join(names)}")
    return [system for system in every if system.group == "used" or not only or system.name in only]


def _about(
    assistant: Assistant, plan: Plan, asked: Sequence[Question], chosen: Sequence[System]
) -> dict[str, Any]:
    """What makes two runs the same: nothing that changes from day to day, and no path of a machine."""
    return {
        "footnote": version("footnote"),
        "questions": plan.questions.name,
        "questions_digest": hashlib.sha256(repr(asked).encode()).hexdigest()[:12],
        "split": plan.split,
        "count": len(asked),
        "library_digest": assistant.library.digest,
        "papers": len(assistant.library),
        "language_model": assistant.language_model,
        "style": plan.style,
        "systems": {system.name: system.group for system in chosen},
    }


class _Store:
    """The folder of a run while it is being filled."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self._folder = folder
        self._about = about
        self._files = contextlib.ExitStack()

    def __enter__(self) -> "_Store":
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "run.json"
        if path.exists() and json.loads(path.read_text(encoding="utf-8")) != self._about:
            raise UsageError(
                f"{self._folder} holds another run (other questions, library or settings); name another folder"
            )
        path.write_text(
            json.dumps(self._about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def fill(
        self, chosen: Sequence[System], asked: Sequence[Question], on_progress: Progress
    ) -> None:
        """Ask what was not asked yet."""
        done = self._mend()
        wanted = [(system, question) for system in chosen for question in asked[:: system.every]]
        replies, seconds = self._open("replies.jsonl"), self._open("seconds.jsonl")
        for number, (system, question) in enumerate(wanted):
            on_progress(number, len(wanted), system.name)
            if (system.name, question.id) in done:
                continue
            reply, took = _reply(system, question)
            _write(seconds, {"system": system.name, "id": question.id, "seconds": round(took, 4)})
            _write(replies, {"system": system.name, "id": question.id, "reply": reply.to_dict()})
        on_progress(len(wanted), len(wanted), "")

    def _mend(self) -> set[tuple[str, str]]:
        """What was asked before; a line that a kill cut off is taken away."""
        path = self._folder / "replies.jsonl"
        whole = list(_lines(path))
        if path.exists():
            path.write_text("".join(_line(row) for row in whole), encoding="utf-8")
        return {(row["system"], row["id"]) for row in whole}

    def _open(self, name: str) -> TextIO:
        return self._files.enter_context((self._folder / name).open("a", encoding="utf-8"))


def _reply(system: System, question: Question) -> tuple[Reply, float]:
    """A reply and its seconds; what goes wrong becomes a row that says so and scores 0."""
    started = time.perf_counter()
    try:
        reply = system.reply(question)
    except (FootnoteError, RuntimeError, OSError) as error:
        reply = Reply(error=str(error) or type(error).__name__)
    return reply, time.perf_counter() - started


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file, none if there is no file."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _write(file: TextIO, row: Mapping[str, Any]) -> None:
    file.write(_line(row))
    file.flush()
