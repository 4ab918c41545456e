"""Measure how adding and asking scale with the size of the library.

`python -m eval.benchmarks.growth [--papers N] [--folder DIR] [--runs N]`

There are four libraries: 1,000 and 10,000 abstracts of the ACL Anthology; the whole Anthology,
added by a run that is killed once and resumed; and a copy of that library grown to N papers, first
by the abstracts of the other test collections, then by perturbed copies, in which a third of the
title's words and some sentences come from another paper. Papers are added by the command. The
libraries are then searched and asked in alternation, each in its own processes. The results go into
`eval/BENCHMARKS.md`. Libraries that are already in DIR are not built again.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path

import numpy as np

from eval.benchmarks.collections import (
    Row,
    data_folder,
    load_documents,
    load_queries,
    read_jsonl,
    write_jsonl,
)
from eval.benchmarks.common import FOOTNOTE, curated_questions, working_folder
from eval.benchmarks.speed import Bench
from eval.benchmarks.tables import median_and_range, write_section
from rag import Library, LibraryNotFound

_SMALL_SIZES = (1_000, 10_000)
_OTHER_COLLECTIONS = ("scitldr", "cacm", "cisi", "med", "qasper_linked")
_RATE_STEP = 2_000  # papers for each rate of the resumed run
_POLL_SECONDS = 0.3
# Kill the command when this many papers are in, so that the resumed run adds most of them.
_KILL_AT = 4_000
_QUESTIONS_SEARCHED = 200
_QUESTIONS_ASKED = 10
_SEED = 0


# --- adding --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Progress:
    """Progress of one run of `footnote add`: papers in the library over time, and peak memory."""

    papers: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    megabytes: float = 0.0

    def rate(self, start: int, end: int) -> float:
        """Return the papers per second between two sizes of the library."""
        first, last = np.interp([start, end], self.papers, self.seconds)
        return (end - start) / float(last - first)


def add_by_command(folder: Path, file: Path, kill_at: float = float("inf")) -> Progress:
    """Add a file by the command; kill it as soon as the library holds `kill_at` papers."""
    progress, start = Progress(), time.perf_counter()
    command = [*FOOTNOTE, "add", str(file), "--library", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        papers = _count_papers(folder)
        if not progress.papers or papers > progress.papers[-1]:
            progress.papers.append(papers)
            progress.seconds.append(time.perf_counter() - start)
        if ended:
            progress.megabytes = usage.ru_maxrss / 1024  # kibibytes on Linux
            if status and papers < kill_at:
                sys.exit(f"cannot add {file}: footnote add ended with status {status}")
            return progress
        if papers >= kill_at:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def _count_papers(folder: Path) -> int:
    """Count the papers of a library that another process may be about to create."""
    try:
        return len(Library(folder, create=False))
    except LibraryNotFound:
        return 0


def _write_papers(file: Path, rows: Iterable[Row]) -> Path:
    """Write papers as JSON Lines, each with its own PubMed id, so that no two are merged."""
    return write_jsonl(file, _number_rows(rows))


def _number_rows(rows: Iterable[Row]) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        yield row | {"pmid": str(number)}


def _load_anthology() -> list[Row]:
    """Load the ACL Anthology in random order, because abstracts grew longer over the years."""
    papers = []
    for row in read_jsonl(data_folder() / "acl" / "acl.jsonl"):
        papers.append({"title": row["title"], "abstract": row["abstract"]})
    random.Random(_SEED).shuffle(papers)  # noqa: S311 - reproducible, no secret
    return papers


def _generate_papers(anthology: list[Row]) -> Iterator[Row]:
    """Yield the anthology, the other real abstracts, and perturbed copies without end."""
    papers = list(anthology)
    for name in _OTHER_COLLECTIONS:
        for document in load_documents(data_folder() / name):
            papers.append({"title": document.title or "Untitled", "abstract": document.text})
    return chain(papers, _generate_copies(papers))


def _generate_copies(papers: list[Row]) -> Iterator[Row]:
    """Yield perturbed copies of the papers without end."""
    rng = random.Random(_SEED)  # noqa: S311 - reproducible, no secret
    while True:
        for paper in papers:
            yield _perturb_paper(paper, rng.choice(papers), rng)


def _perturb_paper(paper: Row, other: Row, rng: random.Random) -> Row:
    """Replace a third of the title's words, and mix the sentences with those of another paper."""
    words = paper["title"].split()
    other_words = list(filter(str.isalpha, other["title"].split())) or words
    for index in rng.sample(range(len(words)), -(-len(words) // 3)):
        words[index] = rng.choice(other_words)
    sentences = _sample_sentences(paper, 0.6, rng) + _sample_sentences(other, 0.4, rng)
    return {"title": " ".join(words), "abstract": ". ".join(sentences) or paper["abstract"]}


def _sample_sentences(paper: Row, share: float, rng: random.Random) -> list[str]:
    return [sentence for sentence in paper["abstract"].split(". ") if rng.random() < share]


def _build_libraries(folder: Path, papers: int) -> list[Path]:
    """Build the missing ones of the four libraries; return the folders of all."""
    anthology = _load_anthology()
    libraries = []
    for size in _SMALL_SIZES:
        libraries.append(_build_library(folder / str(size), anthology[:size]))
    whole, grown = folder / "anthology", folder / "grown"
    if not whole.exists():
        file = _write_papers(whole.with_suffix(".jsonl"), anthology)
        add_by_command(whole, file, _KILL_AT)
    _build_library(whole, anthology)
    if not grown.exists():
        shutil.copytree(whole, grown)
    _build_library(grown, islice(_generate_papers(anthology), papers))
    return [*libraries, whole, grown]


def _build_library(library: Path, rows: Iterable[Row]) -> Path:
    """Add the rows and save the progress, unless that was done before."""
    file = _progress_file(library)
    if not file.exists():
        progress = add_by_command(library, _write_papers(library.with_suffix(".jsonl"), rows))
        file.write_text(json.dumps(asdict(progress)), encoding="utf-8")
    return library


def _load_progress(library: Path) -> Progress:
    return Progress(**json.loads(_progress_file(library).read_text(encoding="utf-8")))


def _progress_file(library: Path) -> Path:
    return library.with_suffix(".pace.json")


def write_adding(libraries: Iterable[Path]) -> None:
    """Write how fast the papers of each library were added."""
    rows = []
    for library in libraries:
        progress = _load_progress(library)
        first, last = progress.papers[0], progress.papers[-1]
        rate, seconds = f"{progress.rate(first, last):.1f}", f"{progress.seconds[-1]:,.0f}"
        rows.append([f"{first:,}–{last:,}", rate, seconds, f"{progress.megabytes:,.0f}"])
    write_section(
        "Growth: adding",
        "Papers are added by the command. The larger libraries start with the papers of a killed "
        "run, or of a smaller library.",
        ["papers", "per second", "seconds", "peak memory, MB"],
        rows,
    )


def write_resumed_run(library: Path) -> None:
    """Write how fast the run that resumed a killed one added papers."""
    progress = _load_progress(library)
    first, last = progress.papers[0], progress.papers[-1]
    rows = []
    for start in range(first, last - _RATE_STEP + 1, _RATE_STEP):
        end = start + _RATE_STEP
        rows.append([f"{start:,}–{end:,}", f"{progress.rate(start, end):.1f}"])
    write_section(
        "Growth: rate over one run",
        "The ACL Anthology in random order. The command was killed when the library held "
        f"{first:,} papers, and run again until it held {last:,}.",
        ["papers", "per second"],
        rows,
    )


# --- asking --------------------------------------------------------------------------------------

# Columns of `_measure_library`, with their decimal places.
_MEASURED = {
    "search p50, ms": 1,
    "p95, ms": 1,
    "answer, seconds": 2,
    "peak memory, MB": 0,
    "cold start, seconds": 2,
    "cold start, MB": 0,
}


def write_asking(libraries: Iterable[Path], bench: Bench) -> None:
    """Measure and write searching and asking in libraries of all sizes, in alternation."""
    searches = []
    for query in load_queries(data_folder() / "scitldr", "test")[:_QUESTIONS_SEARCHED]:
        searches.append({"question": query.text})
    questions = []
    for question in curated_questions("dev")[:_QUESTIONS_ASKED]:
        questions.append({"question": question.question})
    measured: dict[Path, list[tuple[float, ...]]] = defaultdict(list)
    for _ in range(bench.runs):
        for library in libraries:
            measured[library].append(_measure_library(bench, library, searches, questions))
    rows = []
    for library, runs in measured.items():
        columns = zip(*runs, strict=True)
        cells = map(median_and_range, columns, _MEASURED.values())
        rows.append([f"{len(Library(library)):,}", *cells, _bytes_per_paper(library)])
    write_section(
        "Growth: asking",
        f"{len(searches)} searches for one-line descriptions of papers and {len(questions)} "
        "questions, with the models in memory; cold start: one question to the command. Most "
        "papers of the largest library are perturbed copies of real ones.",
        ["papers", *_MEASURED, "bytes per paper"],
        rows,
    )


def _measure_library(
    bench: Bench, library: Path, searches: Sequence[Row], questions: Sequence[Row]
) -> tuple[float, ...]:
    """Return the values of `_MEASURED` for a library."""
    results = bench.act("footnote", "search", str(library), searches)
    answers = bench.act("footnote", "ask", str(library), questions)
    p50, p95 = np.percentile(1000 * np.array(results["seconds"]), [50, 95])
    answer_seconds = statistics.median(answers["whole"])
    peak = max(results["megabytes"], answers["megabytes"])
    cold_seconds, cold_megabytes = _ask_cold(library, questions[0]["question"])
    return float(p50), float(p95), answer_seconds, peak, cold_seconds, cold_megabytes


def _ask_cold(library: Path, question: str) -> tuple[float, float]:
    """Ask one question by the command; return seconds and peak memory in megabytes."""
    start = time.perf_counter()
    command = [*FOOTNOTE, "ask", question, "--library", str(library)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"cannot ask {library}: footnote ask ended with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def _bytes_per_paper(folder: Path) -> str:
    library = Library(folder)
    return f"{library.size() / len(library):,.0f}"


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--papers", type=int, default=111_000, help="number of papers in the largest library"
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="folder to keep the libraries in"
    )
    parser.add_argument("--runs", type=int, default=3, help="number of runs on each library")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, working_folder(options.folder) as folder:
        libraries = _build_libraries(folder.resolve(), options.papers)
        write_resumed_run(folder.resolve() / "anthology")
        write_adding(libraries)
        write_asking(libraries, Bench(Path(scratch), options.runs))


if __name__ == "__main__":
    main()
