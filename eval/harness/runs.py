"""Run an evaluation: ask systems questions, and save and score their replies.

A run's folder holds `run.json` (the manifest), `replies.jsonl`, `seconds.jsonl` and `scores.json`.
An interrupted run resumes where it stopped. The same questions, library and models give the same
files byte for byte, except for the seconds.
"""

import contextlib
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, TextIO

from eval.harness.comparison import FORMAT_VERSION, QuestionScores, save_scores
from eval.harness.generation_cache import GenerationCache
from eval.harness.metrics import METRICS, Corpus, Metric, Scores, score_reply
from eval.harness.questions import (
    SPLITS,
    Question,
    check_questions,
    load_abstracts,
    load_questions,
    sample_questions_file,
)
from eval.harness.replies import Reply, read_json_lines
from eval.harness.statistics import ClusteredScores, Interval, PairedScores, bootstrap
from eval.harness.systems import ASSISTANT, MODEL_GROUP, System, build_systems
from rag.answering.pipeline import STYLES
from rag.assistant import Assistant
from rag.errors import FootnoteError, UsageError, unknown_choice

_SPLIT_CHOICES = (*SPLITS, "all")
# Called with the number of finished rows, the number of all rows, and the name of the system.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """A question, a system's reply, the reply's scores, and its wall-clock time in seconds.

    If `is_cached`, a language model replied from the cache, and the time means nothing.
    """

    question: Question
    reply: Reply
    scores: Mapping[str, float | None]
    seconds: float
    is_cached: bool = False


def collect_scores(rows: Iterable[Row], metric: str) -> ClusteredScores:
    """Return the scores of a metric for the rows to which it applies."""
    collected = ClusteredScores([], [])
    for row in rows:
        value = row.scores.get(metric)
        if value is not None:
            collected.values.append(value)
            collected.clusters.append(row.question.cluster)
    return collected


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    `manifest` identifies the run, `corpus` holds the abstracts by paper id, and `rows` and `groups`
    hold each system's rows and group by its name, the assistant first.
    """

    manifest: Mapping[str, Any]
    corpus: Corpus
    rows: Mapping[str, tuple[Row, ...]]
    groups: Mapping[str, str]
    metrics: tuple[Metric, ...] = METRICS

    @property
    def assistant_rows(self) -> tuple[Row, ...]:
        """Rows of the assistant itself."""
        return next(iter(self.rows.values()), ())

    def scores(self, system: str, metric: str) -> ClusteredScores:
        """Return the scores of a system for the questions to which the metric applies."""
        return collect_scores(self.rows[system], metric)

    def interval(self, metric: str, system: str = ASSISTANT) -> Interval | None:
        """Return a metric's mean with its 95 % interval, or None if it never applies."""
        values, clusters = self.scores(system, metric)
        return bootstrap(values, clusters) if values else None

    def paired_scores(self, first: str, second: str, metric: str) -> PairedScores:
        """Return two systems' scores for the questions to which the metric applies in both."""
        second_scores = {row.question.id: row.scores[metric] for row in self.rows[second]}
        paired = PairedScores([], [], [])
        for row in self.rows[first]:
            first_score, second_score = row.scores[metric], second_scores.get(row.question.id)
            if first_score is not None and second_score is not None:
                paired.first.append(first_score)
                paired.second.append(second_score)
                paired.clusters.append(row.question.cluster)
        return paired


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of a run: a file of questions (the curated ones by default), and their split.

    `split` is `dev`, `test` or `all`; `style` is the assistant's answer style. `only` names the
    systems to run besides the assistant; all by default. With `every=n`, every n-th question is
    asked. `other_models` holds assistants with other language models, by name, which are compared
    with the assistant. `cache` is the one from which the language models reply, if any.
    """

    questions: Path = field(default_factory=sample_questions_file)
    split: str = "test"
    style: str = "auto"
    only: tuple[str, ...] = ()
    every: int = 1
    other_models: Mapping[str, Assistant] = field(default_factory=dict)
    cache: GenerationCache | None = None

    def __post_init__(self) -> None:
        if self.split not in _SPLIT_CHOICES:
            raise unknown_choice("split", self.split, _SPLIT_CHOICES)
        if self.style not in STYLES:
            raise unknown_choice("style", self.style, STYLES)


def evaluate(
    assistant: Assistant,
    folder: Path,
    plan: Plan | None = None,
    metrics: Sequence[Metric] = METRICS,
    on_progress: Progress | None = None,
) -> Run:
    """Ask the assistant, its ablations and baselines the questions, and return the scored run.

    The run is saved in `folder`, and resumed if the folder holds an interrupted one. Raises
    `UsageError`, before any question is asked, if the questions do not fit the library or the
    folder holds a different run.
    """
    plan = plan or Plan()
    corpus = load_abstracts(assistant)
    questions = _select_questions(plan, corpus)
    every_system = build_systems(assistant, plan.style, plan.other_models)
    systems = _select_systems(every_system, plan.only)
    manifest = _build_manifest(assistant, plan, questions, systems)
    with _RunFolder(folder, manifest) as run_folder:
        run_folder.ask_remaining(systems, questions, plan.cache, on_progress or _ignore_progress)
    run = load_run(folder, questions, corpus, metrics)
    save_scores(folder / "scores.json", run.manifest, map(_question_scores, run.assistant_rows))
    return run


def _ignore_progress(done: int, total: int, system: str) -> None:
    pass


def _question_scores(row: Row) -> QuestionScores:
    failed = bool(row.reply.error)
    return QuestionScores(row.question.id, row.question.cluster, row.scores, failed)


def _select_questions(plan: Plan, corpus: Corpus) -> list[Question]:
    """Return the questions of a plan, after checking the whole file against the library."""
    every_question = load_questions(plan.questions)
    problem = next(check_questions(every_question, corpus), "")
    if problem:
        raise UsageError(f"{plan.questions}: {problem}")
    of_split = [q for q in every_question if plan.split in ("all", q.split)]
    if not of_split:
        raise UsageError(f"no questions of the split '{plan.split}' in {plan.questions}")
    return of_split[:: plan.every]


def _select_systems(systems: Sequence[System], only: Sequence[str]) -> list[System]:
    """Return the assistant, with all its models, and the named systems; all if none is named."""
    names = [system.name for system in systems]
    for name in only:
        if name not in names:
            raise unknown_choice("system", name, names)
    selected = []
    for system in systems:
        is_assistant = system.group in ("assistant", MODEL_GROUP)
        if not only or is_assistant or system.name in only:
            selected.append(system)
    return selected


def _build_manifest(
    assistant: Assistant, plan: Plan, questions: Sequence[Question], systems: Sequence[System]
) -> dict[str, Any]:
    """Return what identifies a run, without dates and paths: they would differ between machines."""
    return {
        "format_version": FORMAT_VERSION,
        "footnote": version("footnote"),
        "questions": plan.questions.name,
        "questions_digest": hashlib.sha256(repr(questions).encode()).hexdigest()[:12],
        "split": plan.split,
        "count": len(questions),
        "library_digest": assistant.library.digest,
        "papers": len(assistant.library),
        "language_model": assistant.language_model,
        "style": plan.style,
        "systems": {system.name: system.group for system in systems},
    }


def load_run(
    folder: Path,
    questions: Iterable[Question],
    corpus: Corpus,
    metrics: Sequence[Metric] = METRICS,
) -> Run:
    """Load a saved run and score its replies again."""
    manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    questions_by_id = {question.id: question for question in questions}
    seconds: dict[tuple[str, str], tuple[float, bool]] = {}
    for line in read_json_lines(folder / "seconds.jsonl"):
        seconds[line["system"], line["id"]] = line["seconds"], line.get("cached", False)
    rows: dict[str, list[Row]] = defaultdict(list)
    for line in read_json_lines(folder / "replies.jsonl"):
        system, question = line["system"], questions_by_id[line["id"]]
        reply = Reply.from_dict(line["reply"])
        scores: Scores = score_reply(question, reply, corpus, metrics)
        elapsed, is_cached = seconds.get((system, question.id), (0.0, False))
        rows[system].append(Row(question, reply, scores, elapsed, is_cached))
    frozen_rows = {system: tuple(rows[system]) for system in manifest["systems"]}
    return Run(manifest, corpus, frozen_rows, manifest["systems"], tuple(metrics))


class _RunFolder:
    """Folder of a run while replies are added to it."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self._folder = folder
        self._manifest = manifest
        self._files = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "run.json"
        if path.exists() and json.loads(path.read_text(encoding="utf-8")) != self._manifest:
            raise UsageError(
                f"{self._folder} holds another run (other questions, library, settings or version "
                "of Footnote); choose another folder"
            )
        text = json.dumps(self._manifest, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def ask_remaining(
        self,
        systems: Sequence[System],
        questions: Sequence[Question],
        cache: GenerationCache | None,
        on_progress: Progress,
    ) -> None:
        """Ask each system the questions that have no saved reply yet, and save its replies.

        Times of replies from the cache are marked.
        """
        finished = self._repair_replies()
        pending = []
        for system in systems:
            for question in system.select(questions):
                pending.append((system, question))
        replies, seconds = self._append_to("replies.jsonl"), self._append_to("seconds.jsonl")
        for number, (system, question) in enumerate(pending):
            on_progress(number, len(pending), system.name)
            key = {"system": system.name, "id": question.id}
            if (system.name, question.id) not in finished:
                hits = cache.hits if cache else 0
                reply, elapsed = _ask(system, question)
                mark = {"cached": True} if cache and cache.hits > hits else {}
                _write_json_line(seconds, key | {"seconds": round(elapsed, 4)} | mark)
                question_text = {"question": question.question}
                _write_json_line(replies, key | question_text | {"reply": reply.to_dict()})
        on_progress(len(pending), len(pending), "")

    def _repair_replies(self) -> set[tuple[str, str]]:
        """Drop a line that was cut off by a kill; return (system, question id) of the others."""
        path = self._folder / "replies.jsonl"
        lines = list(read_json_lines(path))
        if path.exists():
            path.write_text("".join(map(_json_line, lines)), encoding="utf-8")
        return {(line["system"], line["id"]) for line in lines}

    def _append_to(self, name: str) -> TextIO:
        return self._files.enter_context((self._folder / name).open("a", encoding="utf-8"))


def _ask(system: System, question: Question) -> tuple[Reply, float]:
    """Return a system's reply and the seconds it took; an error becomes a failed reply."""
    start = time.perf_counter()
    try:
        reply = system.reply(question)
    except (FootnoteError, RuntimeError, OSError) as error:
        reply = Reply(error=str(error) or type(error).__name__)
    return reply, time.perf_counter() - start


def _json_line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _write_json_line(file: TextIO, record: Mapping[str, Any]) -> None:
    file.write(_json_line(record))
    file.flush()
