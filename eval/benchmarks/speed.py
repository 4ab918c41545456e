"""Footnote beside its rivals, the same work in the same run: `python -m eval.benchmarks.speed [PART…] [--runs N]`.

`adding`: papers a second, embedding and all, ready to be asked by the next process. `finding`: milliseconds from a
question to the ten nearest papers, and how good these are. `answering`: seconds to the first text and to the whole
answer. `cold`: seconds from the command to the answer's last word. Each system runs in a process of its own, in turn,
`--runs` times; memory is the peak of that process. The results go into `eval/BENCHMARKS.md`. Needs the extra `bench`
and the test collections (see `eval.benchmarks.collections`).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from eval.benchmarks.collections import Query, data_folder, queries, read_jsonl
from eval.benchmarks.peers import SYSTEMS
from eval.benchmarks.tables import write_section
from eval.harness.measures import ndcg, success
from eval.harness.questions import load_questions, sample_questions
from rag import Assistant

_OURS = "footnote"
_QUESTIONS_ASKED = 5
_QUESTIONS_SEARCHED = 200


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the benchmark works, how often each system runs, and with how many papers."""

    scratch: Path
    runs: int
    papers: int

    def in_turn(self) -> Iterator[tuple[int, str]]:
        yield from ((run, system) for run in range(self.runs) for system in SYSTEMS)

    def act(
        self, system: str, action: str, folder: str, rows: Iterable[dict[str, str]]
    ) -> dict[str, Any]:
        """What a system's action gave; its index lies in a folder of this name."""
        file = self.scratch / "rows.jsonl"
        file.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
        command = [
            sys.executable,
            "-m",
            "eval.benchmarks.peers",
            system,
            action,
            str(self.scratch / folder),
            str(file),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
        if done.returncode:
            sys.exit(f"{system} could not {action}:\n{done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, least and most."""
    low, middle, high = (
        f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} ({low}–{high})"


def _ratio(values: Sequence[float], others: Sequence[float]) -> str:
    return spread([value / other for value, other in zip(values, others, strict=True)], 2)


def _papers(rows: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "title": row["title"] or "Untitled",
            "abstract": row.get("abstract") or row.get("text") or "",
            "pmid": str(n),
        }
        for n, row in enumerate(rows, 1)
    ]


def adding(bench: Bench) -> None:
    """Papers spread evenly over the largest collection, into a new index each time."""
    everything = list(read_jsonl(data_folder() / "acl" / "acl.jsonl"))
    papers = _papers(islice(everything, 0, None, len(everything) // bench.papers))
    for system in SYSTEMS:
        bench.act(
            system, "add", f"{system}-once", papers[:20]
        )  # models are prepared, files are in memory
    rates: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    peaks: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    for run, system in bench.in_turn():
        done = bench.act(system, "add", f"{system}-adding-{run}", papers)
        rates[system].append(done["papers"] / done["seconds"])
        peaks[system].append(done["megabytes"])
    rows = [
        [
            system,
            spread(rates[system]),
            _ratio(rates[_OURS], rates[system]),
            spread(peaks[system], 0),
        ]
        for system in SYSTEMS
    ]
    said = f"{len(papers):,} abstracts of the ACL Anthology into a new index, {bench.runs} times."
    write_section(
        "Adding",
        said,
        [["system", "papers a second", "Footnote is faster by", "peak memory, MB"], *rows],
    )


def finding(bench: Bench) -> None:
    """Latency and quality on the test questions of a known-item collection."""
    folder = data_folder() / "scitldr"
    documents = list(read_jsonl(folder / "corpus.jsonl"))
    asked = queries(folder, "test")
    number_of = {row["_id"]: str(n) for n, row in enumerate(documents, 1)}
    for system in SYSTEMS:
        bench.act(system, "add", f"{system}-finding", _papers(documents))
    rows = [{"question": query.text} for query in asked]
    quality = {
        system: _quality(
            bench.act(system, "search", f"{system}-finding", rows)["found"], asked, number_of
        )
        for system in SYSTEMS
    }
    times: dict[str, list[tuple[float, float]]] = {system: [] for system in SYSTEMS}
    for _, system in bench.in_turn():
        seconds = bench.act(system, "search", f"{system}-finding", rows[:_QUESTIONS_SEARCHED])[
            "seconds"
        ]
        times[system].append(
            (1000 * float(np.median(seconds)), 1000 * float(np.percentile(seconds, 95)))
        )
    table = [
        [
            system,
            *(f"{value:.3f}" for value in quality[system]),
            *map(spread, zip(*times[system], strict=True)),
        ]
        for system in SYSTEMS
    ]
    said = f"{len(asked):,} one-line descriptions of papers (SciTLDR, test), each to be led to its paper among "
    said += f"{len(documents):,}; milliseconds to the ten nearest."
    write_section(
        "Finding", said, [["system", "right paper first", "nDCG@10", "p50, ms", "p95, ms"], *table]
    )


def _quality(
    found: list[list[str]], asked: list[Query], number_of: dict[str, str]
) -> tuple[float, float]:
    """Share of questions with the right paper first, and nDCG@10."""
    grades = [
        {number_of[document]: grade for document, grade in query.grades.items()} for query in asked
    ]
    pairs = list(zip(found, grades, strict=True))
    first = statistics.mean(success(one, right, 1) for one, right in pairs)
    return first, statistics.mean(ndcg(one, right, 10) for one, right in pairs)


def _sample(bench: Bench) -> list[dict[str, str]]:
    """The curated questions, once every system holds the sample papers."""
    papers = [
        {"title": paper.title, "abstract": paper.abstract} for paper in Assistant.sample().papers()
    ]
    for system in SYSTEMS:
        if not (bench.scratch / f"{system}-sample").exists():
            bench.act(system, "add", f"{system}-sample", _papers(papers))
    asked = (question for question in load_questions(sample_questions()) if question.split == "dev")
    return [{"question": question.question} for question in islice(asked, _QUESTIONS_ASKED)]


def answering(bench: Bench) -> None:
    """Answers with models in memory."""
    questions = _sample(bench)
    first: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    whole: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    peaks: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    for _, system in bench.in_turn():
        done = bench.act(system, "ask", f"{system}-sample", questions)
        first[system].append(statistics.median(done["first"]))
        whole[system].append(statistics.median(done["whole"]))
        peaks[system].append(done["megabytes"])
    table = [
        [
            system, spread(first[system], 2), spread(whole[system], 2), _ratio(whole[system], whole[_OURS]),
            spread(peaks[system], 0),
        ]
        for system in SYSTEMS
    ]  # fmt: skip
    said = f"{len(questions)} questions to the sample library, models in memory; the median question of each run."
    headings = [
        "system",
        "seconds to the first text",
        "to the whole answer",
        "Footnote is faster by",
        "peak memory, MB",
    ]
    write_section("AnswerPipeline", said, [headings, *table])


def cold(bench: Bench) -> None:
    """One question by a new process, files in the machine's cache."""
    questions = _sample(bench)[:1]
    for system in SYSTEMS:
        _cold_answer(bench, system, questions)  # the language model is prepared
    seconds: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    for _, system in bench.in_turn():
        start = time.perf_counter()
        _cold_answer(bench, system, questions)
        seconds[system].append(time.perf_counter() - start)
    table = [
        [system, spread(seconds[system], 2), _ratio(seconds[system], seconds[_OURS])]
        for system in SYSTEMS
    ]
    said = "From the command to the last word of one answer, the interpreter's start included."
    write_section("Cold", said, [["system", "seconds", "Footnote is faster by"], *table])


def _cold_answer(bench: Bench, system: str, questions: list[dict[str, str]]) -> None:
    """Ours by the command that people type, the rivals' by the shortest program."""
    if system != _OURS:
        bench.act(system, "ask", f"{system}-sample", questions)
        return
    library = str(bench.scratch / f"{_OURS}-sample")
    command = [
        sys.executable,
        "-m",
        "rag.cli",
        "ask",
        questions[0]["question"],
        "--library",
        library,
    ]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own command


PARTS: dict[str, Callable[[Bench], None]] = {
    "adding": adding,
    "finding": finding,
    "answering": answering,
    "cold": cold,
}


def main() -> None:
    """Run some of the parts, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all when none is named"
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--papers", type=int, default=1000, help="how many are added")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(
            f"no part is called {' or '.join(sorted(unknown))}; there are {', '.join(PARTS)}"
        )
    with tempfile.TemporaryDirectory() as scratch:
        for part in options.parts or PARTS:
            PARTS[part](Bench(Path(scratch), options.runs, options.papers))


if __name__ == "__main__":
    main()
