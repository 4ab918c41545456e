"""How adding and asking keep their pace as a library grows: `python -m eval.benchmarks.growth [--papers N] [--folder DIR]`.

Four libraries: 1,000 and 10,000 abstracts of the ACL Anthology; the whole of it, added in one go, killed once on the
way and taken up again; and that one grown to N papers, first by all other abstracts of the test collections, then by
perturbed copies, in which a third of the title's words and some sentences come from another paper. What is added is
added by the command; each library is searched and asked by processes of its own, the libraries in turn. The results go
into `eval/BENCHMARKS.md`. Libraries that are in DIR already are only asked.
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
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path

import numpy as np

from eval.benchmarks.collections import data_folder, queries, read_jsonl
from eval.benchmarks.speed import Bench, spread
from eval.benchmarks.tables import write_section
from eval.harness.questions import load_questions, sample_questions
from rag import Library, LibraryNotFound

_SMALL = (1_000, 10_000)
_OTHERS = ("scitldr", "cacm", "cisi", "med", "qasper_linked")
_STEP = 2_000
_POLL = 0.3
# The kill comes when so many papers are in; what is then added in one go is still most of the collection.
_KILLED_AT = 4_000
_SEARCHED = 200
_ASKED = 10
_SEED = 0

Row = dict[str, str]


@dataclass(slots=True)
class Pace:
    """How a run of the command `add` went: when how many papers were in, and the most memory it took."""

    papers: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    megabytes: float = 0.0

    def rate(self, start: int, end: int) -> float:
        """Papers a second between two counts of papers."""
        first, last = np.interp([start, end], self.papers, self.seconds)
        return (end - start) / float(last - first)


def add(folder: Path, file: Path, kill_at: float = float("inf")) -> Pace:
    """Add a file by the command, which is killed as soon as the library holds so many papers."""
    pace, start = Pace(), time.perf_counter()
    adding = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "rag.cli", "add", str(file), "--library", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    while True:
        ended, status, usage = os.wait4(adding.pid, os.WNOHANG)
        held = _held(folder)
        if not pace.papers or held > pace.papers[-1]:
            pace.papers.append(held)
            pace.seconds.append(time.perf_counter() - start)
        if ended:
            pace.megabytes = usage.ru_maxrss / 1024  # kibibytes on Linux
            if status and held < kill_at:
                sys.exit(f"adding {file} ended with status {status}")
            return pace
        if held >= kill_at:
            os.kill(adding.pid, signal.SIGKILL)
        time.sleep(_POLL)


def _held(folder: Path) -> int:
    """Papers in a library that another process may be about to make."""
    try:
        return len(Library(folder, create=False))
    except LibraryNotFound:
        return 0


def _write(file: Path, rows: Iterable[Row]) -> Path:
    """The rows as JSON Lines. Each has a number of its own as its PubMed id, so that no two become one paper."""
    with file.open("w", encoding="utf-8") as lines:
        for number, row in enumerate(rows, 1):
            lines.write(json.dumps(row | {"pmid": str(number)}, ensure_ascii=False) + "\n")
    return file


def _anthology() -> list[Row]:
    """In an order drawn by lot, for abstracts grew longer over the years."""
    rows = read_jsonl(data_folder() / "acl" / "acl.jsonl")
    papers = [{"title": row["title"], "abstract": row["abstract"]} for row in rows]
    random.Random(_SEED).shuffle(papers)  # noqa: S311 - no secret
    return papers


def _grown(anthology: list[Row]) -> Iterator[Row]:
    """The anthology, the other real abstracts, and perturbed copies without end."""
    others = [
        {"title": row["title"] or "Untitled", "abstract": row["text"]}
        for name in _OTHERS
        for row in read_jsonl(data_folder() / name / "corpus.jsonl")
    ]
    real = anthology + others
    return chain(real, _perturbed(real, random.Random(_SEED)))  # noqa: S311 - no secret


def _perturbed(papers: list[Row], chance: random.Random) -> Iterator[Row]:
    while True:
        for paper in papers:
            other = chance.choice(papers)
            words = paper["title"].split()
            foreign = [word for word in other["title"].split() if word.isalpha()] or words
            for place in chance.sample(range(len(words)), -(-len(words) // 3)):
                words[place] = chance.choice(foreign)
            own = [sentence for sentence in paper["abstract"].split(". ") if chance.random() < 0.6]
            taken = [
                sentence for sentence in other["abstract"].split(". ") if chance.random() < 0.4
            ]
            yield {
                "title": " ".join(words),
                "abstract": ". ".join(own + taken) or paper["abstract"],
            }


def _build(folder: Path, papers: int) -> list[Path]:
    """The four libraries; those that are missing are made, and their pace is kept beside them."""
    anthology = _anthology()
    small = [_made(folder / f"{size}", anthology[:size]) for size in _SMALL]
    whole, grown = folder / "anthology", folder / "grown"
    if not whole.exists():
        add(whole, _write(whole.with_suffix(".jsonl"), anthology), _KILLED_AT)
    _made(whole, anthology)
    if not grown.exists():
        shutil.copytree(whole, grown)
    return [*small, whole, _made(grown, islice(_grown(anthology), papers))]


def _made(library: Path, rows: Iterable[Row]) -> Path:
    """The library with the rows added, unless that was done and its pace is known."""
    kept = library.with_suffix(".pace.json")
    if not kept.exists():
        pace = add(library, _write(library.with_suffix(".jsonl"), rows))
        kept.write_text(json.dumps(asdict(pace)), encoding="utf-8")
    return library


def _pace(library: Path) -> Pace:
    return Pace(**json.loads(library.with_suffix(".pace.json").read_text(encoding="utf-8")))


def _write_paces(libraries: list[Path]) -> None:
    rows = []
    for library in libraries:
        pace = _pace(library)
        first, last = pace.papers[0], pace.papers[-1]
        cells = f"{first:,}–{last:,}", f"{pace.rate(first, last):.1f}", f"{pace.seconds[-1]:,.0f}"
        rows.append([*cells, f"{pace.megabytes:,.0f}"])
    said = "By the command; the larger ones begin with what was there before (after a kill, or a smaller library)."
    write_section(
        "Growth: adding", said, [["papers", "a second", "seconds", "peak memory, MB"], *rows]
    )


def _write_steps(library: Path) -> None:
    """The pace of the run that took a killed one up again; nothing may be missing then."""
    pace = _pace(library)
    kept, last = pace.papers[0], pace.papers[-1]
    rows = [
        [f"{start:,}–{start + _STEP:,}", f"{pace.rate(start, start + _STEP):.1f}"]
        for start in range(kept, last - _STEP + 1, _STEP)
    ]
    said = f"The ACL Anthology in one go, in an order drawn by lot; the command was killed when {kept:,} papers were in, "
    said += f"and given again: in the end the library held {last:,}."
    write_section("Growth: the pace of one go", said, [["papers", "a second"], *rows])


def _ask(libraries: list[Path], runs: int, scratch: Path) -> None:
    """Searching and asking in libraries of all sizes, in turn."""
    bench = Bench(scratch, runs, 0)
    searched = [
        {"question": one.text} for one in queries(data_folder() / "scitldr", "test")[:_SEARCHED]
    ]
    asked = [
        {"question": one.question}
        for one in load_questions(sample_questions())
        if one.split == "dev"
    ][:_ASKED]
    runs_of: dict[Path, list[tuple[float, ...]]] = {library: [] for library in libraries}
    for _ in range(runs):
        for library, done in runs_of.items():
            done.append(_run(bench, library, searched, asked))
    table = [
        [
            f"{len(Library(library)):,}",
            *map(spread, zip(*done, strict=True), _DIGITS),
            _size(library),
        ]
        for library, done in runs_of.items()
    ]
    said = f"{len(searched)} one-line descriptions of papers searched for, {len(asked)} questions asked with models in "
    said += "memory, and one by the command. Of the largest library, most papers are perturbed copies of real ones."
    write_section("Growth: asking", said, [["papers", *_HEADINGS, "bytes a paper"], *table])


_HEADINGS = (
    "finding p50, ms",
    "p95, ms",
    "an answer, seconds",
    "peak memory, MB",
    "cold, seconds",
    "cold, MB",
)
_DIGITS = (1, 1, 2, 0, 2, 0)


def _run(bench: Bench, library: Path, searched: list[Row], asked: list[Row]) -> tuple[float, ...]:
    """What was measured of one library, in the order of `_HEADINGS`."""
    found = bench.act("footnote", "search", str(library), searched)
    answers = bench.act("footnote", "ask", str(library), asked)
    middle, late = np.percentile(1000 * np.array(found["seconds"]), [50, 95])
    peak = max(found["megabytes"], answers["megabytes"])
    return (
        float(middle),
        float(late),
        statistics.median(answers["whole"]),
        peak,
        *_cold(library, asked[0]["question"]),
    )


def _cold(library: Path, question: str) -> tuple[float, float]:
    """Seconds and peak memory of the command that asks one question."""
    start = time.perf_counter()
    asking = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "rag.cli", "ask", question, "--library", str(library)],
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(asking.pid, 0)
    if status:
        sys.exit(f"asking {library} ended with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def _size(library: Path) -> str:
    return f"{Library(library).size() / len(Library(library)):,.0f}"


def main() -> None:
    """Build what is missing, then ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--papers", type=int, default=111_000, help="of the largest library")
    parser.add_argument("--folder", type=Path, help="where the libraries lie, or shall")
    parser.add_argument("--runs", type=int, default=3, help="how often each library is asked")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        libraries = _build(folder, options.papers)
        _write_steps(folder / "anthology")
        _write_paces(libraries)
        _ask(libraries, options.runs, Path(scratch))


if __name__ == "__main__":
    main()
