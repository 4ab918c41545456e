"""Compare the speed of Footnote and its peers.

`python -m eval.benchmarks.speed [PART…] [--runs N] [--papers N]`

- `adding`: papers per second, embedding included, until the next process can find them.
- `searching`: milliseconds from a question to the ten nearest papers, and how good these are.
- `answering`: seconds to the first text and to the whole answer, with models in memory.
- `cold`: seconds from the command to the last word of the answer.

The systems run alternately, each in its own process, `--runs` times; memory is the peak of that
process. The results go into `eval/BENCHMARKS.md`. Needs the extra `bench` and the test collections
(see `eval.benchmarks.collections`).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from eval.benchmarks.collections import (
    Query,
    Row,
    data_folder,
    load_queries,
    read_jsonl,
    write_jsonl,
)
from eval.benchmarks.common import FOOTNOTE, curated_questions
from eval.benchmarks.peers import SYSTEMS
from eval.benchmarks.tables import median_and_range, write_section
from eval.harness.ranking import ndcg, success
from rag import Assistant

_OURS = "footnote"
_QUESTIONS_ASKED = 5
_QUESTIONS_SEARCHED = 200
# Values of each system, one per run.
Samples = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Bench:
    """Working folder of a benchmark, number of runs, and number of papers to add."""

    folder: Path
    runs: int
    papers: int = 0

    def rounds(self) -> Iterator[tuple[int, str]]:
        """Yield (run, system), so that the systems alternate."""
        return product(range(self.runs), SYSTEMS)

    def act(self, system: str, action: str, index: str, rows: Iterable[Row]) -> dict[str, Any]:
        """Run an action of a system on rows in a new process, and return the result.

        `index` is the folder of the system's index: a name in the working folder, or a path.
        """
        file = write_jsonl(self.folder / "rows.jsonl", rows)
        arguments = [system, action, str(self.folder / index), str(file)]
        command = [sys.executable, "-m", "eval.benchmarks.peers", *arguments]
        process = subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, text=True, check=False
        )
        if process.returncode:
            sys.exit(f"{system} cannot {action}:\n{process.stderr[-2000:]}")
        result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
        return result


def _ratio(numerators: Sequence[float], denominators: Sequence[float]) -> str:
    return median_and_range(np.divide(numerators, denominators).tolist(), digits=2)


def _number_papers(rows: Iterable[Row]) -> list[Row]:
    """Return rows as papers, numbered from 1 in `pmid`."""
    papers = []
    for number, row in enumerate(rows, 1):
        abstract = row.get("abstract") or row.get("text") or ""
        title = row["title"] or "Untitled"
        papers.append({"title": title, "abstract": abstract, "pmid": str(number)})
    return papers


# --- adding --------------------------------------------------------------------------------------


def measure_adding(bench: Bench) -> None:
    """Add papers spread evenly over the largest collection to a new index in each run."""
    rows = list(read_jsonl(data_folder() / "acl" / "acl.jsonl"))
    papers = _number_papers(rows[:: len(rows) // bench.papers])
    for system in SYSTEMS:  # converts models and fills the file cache
        bench.act(system, "add", f"{system}-once", papers[:20])
    rates, peaks = defaultdict(list), defaultdict(list)
    for run, system in bench.rounds():
        result = bench.act(system, "add", f"{system}-adding-{run}", papers)
        rates[system].append(result["papers"] / result["seconds"])
        peaks[system].append(result["megabytes"])
    write_section(
        "Adding",
        f"{len(papers):,} abstracts of the ACL Anthology into a new index, {bench.runs} times.",
        ["system", "papers per second", "Footnote is faster by", "peak memory, MB"],
        [_adding_row(system, rates, peaks) for system in SYSTEMS],
    )


def _adding_row(system: str, rates: Samples, peaks: Samples) -> list[str]:
    ratio = _ratio(rates[_OURS], rates[system])
    peak = median_and_range(peaks[system], digits=0)
    return [system, median_and_range(rates[system]), ratio, peak]


# --- searching -----------------------------------------------------------------------------------


def measure_searching(bench: Bench) -> None:
    """Measure latency and quality on the test questions of a known-item collection."""
    folder = data_folder() / "scitldr"
    documents = list(read_jsonl(folder / "corpus.jsonl"))
    queries = load_queries(folder, "test")
    questions = [{"question": query.text} for query in queries]
    grades = _grades_by_number(documents, queries)
    quality = {}
    for system in SYSTEMS:
        bench.act(system, "add", f"{system}-searching", _number_papers(documents))
        result = bench.act(system, "search", f"{system}-searching", questions)
        quality[system] = _search_quality(result["results"], grades)
    medians, tails = defaultdict(list), defaultdict(list)
    for _, system in bench.rounds():
        timed = questions[:_QUESTIONS_SEARCHED]
        result = bench.act(system, "search", f"{system}-searching", timed)
        p50, p95 = np.percentile(result["seconds"], [50, 95])
        medians[system].append(1000 * float(p50))
        tails[system].append(1000 * float(p95))
    rows = []
    for system, (first, gain) in quality.items():
        latencies = median_and_range(medians[system]), median_and_range(tails[system])
        rows.append([system, f"{first:.3f}", f"{gain:.3f}", *latencies])
    write_section(
        "Searching",
        f"{len(queries):,} searches for a paper among {len(documents):,} by its one-line "
        "description (SciTLDR, test); milliseconds to the ten nearest.",
        ["system", "right paper first", "nDCG@10", "p50, ms", "p95, ms"],
        rows,
    )


def _grades_by_number(documents: Sequence[Row], queries: Sequence[Query]) -> list[dict[str, float]]:
    """Return the grades of each query by the number that `_number_papers` gives a document."""
    numbers = {row["_id"]: str(number) for number, row in enumerate(documents, 1)}
    grades = []
    for query in queries:
        by_number = {}
        for document, grade in query.grades.items():
            by_number[numbers[document]] = grade
        grades.append(by_number)
    return grades


def _search_quality(
    rankings: Sequence[list[str]], grades: Sequence[Mapping[str, float]]
) -> tuple[float, float]:
    """Return the share of questions with the right paper first, and nDCG@10."""
    first, gains = [], []
    for ranking, relevant in zip(rankings, grades, strict=True):
        first.append(success(ranking, relevant, 1))
        gains.append(ndcg(ranking, relevant, 10))
    return statistics.mean(first), statistics.mean(gains)


# --- answering -----------------------------------------------------------------------------------


def _build_sample_indexes(bench: Bench) -> list[Row]:
    """Let every system index the sample papers; return questions about them."""
    papers = []
    for paper in Assistant.sample().papers():
        papers.append({"title": paper.title, "abstract": paper.abstract})
    for system in SYSTEMS:
        if not (bench.folder / f"{system}-sample").exists():
            bench.act(system, "add", f"{system}-sample", _number_papers(papers))
    questions = curated_questions("dev")[:_QUESTIONS_ASKED]
    return [{"question": question.question} for question in questions]


def measure_answering(bench: Bench) -> None:
    """Answer questions with models in memory."""
    questions = _build_sample_indexes(bench)
    first, whole, peaks = defaultdict(list), defaultdict(list), defaultdict(list)
    for _, system in bench.rounds():
        result = bench.act(system, "ask", f"{system}-sample", questions)
        first[system].append(statistics.median(result["first"]))
        whole[system].append(statistics.median(result["whole"]))
        peaks[system].append(result["megabytes"])
    rows = []
    for system in SYSTEMS:
        seconds = median_and_range(first[system], 2), median_and_range(whole[system], 2)
        ratio = _ratio(whole[system], whole[_OURS])
        rows.append([system, *seconds, ratio, median_and_range(peaks[system], 0)])
    headings = ["system", "seconds to the first text", "to the whole answer"]
    write_section(
        "Answering",
        f"{len(questions)} questions to the sample library with models in memory; the median "
        "question of each run.",
        [*headings, "Footnote is faster by", "peak memory, MB"],
        rows,
    )


def measure_cold_start(bench: Bench) -> None:
    """Answer one question in a new process, with all files in the machine's file cache."""
    questions = _build_sample_indexes(bench)[:1]
    for system in SYSTEMS:  # converts the language model
        _answer_cold(bench, system, questions)
    seconds = defaultdict(list)
    for _, system in bench.rounds():
        start = time.perf_counter()
        _answer_cold(bench, system, questions)
        seconds[system].append(time.perf_counter() - start)
    rows = []
    for system in SYSTEMS:
        ratio = _ratio(seconds[system], seconds[_OURS])
        rows.append([system, median_and_range(seconds[system], 2), ratio])
    write_section(
        "Cold start",
        "Seconds from the command to the last word of one answer, including the interpreter's "
        "start.",
        ["system", "seconds", "Footnote is faster by"],
        rows,
    )


def _answer_cold(bench: Bench, system: str, questions: list[Row]) -> None:
    """Run Footnote's command, or the shortest program of a peer."""
    if system != _OURS:
        bench.act(system, "ask", f"{system}-sample", questions)
        return
    library = str(bench.folder / f"{_OURS}-sample")
    command = [*FOOTNOTE, "ask", questions[0]["question"], "--library", library]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own command


PARTS: dict[str, Callable[[Bench], None]] = {
    "adding": measure_adding,
    "searching": measure_searching,
    "answering": measure_answering,
    "cold": measure_cold_start,
}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ", ".join(PARTS)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{parts}; all by default")
    parser.add_argument("--runs", type=int, default=5, help="runs of each system")
    parser.add_argument("--papers", type=int, default=1000, help="number of papers to add")
    options = parser.parse_args()
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"unknown part '{part}'; choose from: {parts}")
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts or PARTS:
            PARTS[part](Bench(Path(folder), options.runs, options.papers))


if __name__ == "__main__":
    main()
