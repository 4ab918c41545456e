"""What a start costs, and an answer: `python -m eval.benchmarks.startup [--runs N] [--library DIR]`.

Each command runs in a process of its own, in turn, several times; printed are the least, the median and the most
wall-clock seconds, the interpreter's own start included. Asking uses the sample library, or another, and a warm disk.
Then the curated questions are put to one assistant, models loaded: seconds to the first text and to the whole answer.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from eval.harness.questions import load_questions, sample_questions
from rag import Assistant

_ASKED = 60


def seconds(command: list[str]) -> float:
    """Wall-clock time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own commands
    return time.perf_counter() - start


def answer_times(assistant: Assistant, questions: Iterable[str]) -> list[tuple[float, float]]:
    """For each question the seconds to the first text and to the whole answer."""
    times = []
    for question in questions:
        start = time.perf_counter()
        pieces = assistant.stream(question)
        next(pieces)
        first = time.perf_counter() - start
        list(pieces)
        times.append((first, time.perf_counter() - start))
    return times


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument(
        "--library", type=Path, help="ask this library; the sample library by default"
    )
    options = parser.parse_args()
    assistant = (
        Assistant.open(options.library, create=False) if options.library else Assistant.sample()
    )
    library = str(assistant.library.folder)
    python, footnote = [sys.executable], [sys.executable, "-m", "rag.cli"]
    commands = {
        "python -c pass": [*python, "-c", "pass"],
        "import rag": [*python, "-c", "import rag"],
        "footnote --help": [*footnote, "--help"],
        "footnote list": [*footnote, "list", "--library", library],
        "footnote ask": [*footnote, "ask", "Does FP8 beat INT8?", "--library", library],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.runs):
        for name, command in commands.items():
            times[name].append(seconds(command))
    print(
        f"{'seconds of ' + str(options.runs) + ' runs':28} {'least':>7} {'median':>7} {'most':>7}"
    )
    for name, measured in times.items():
        print(
            f"{name:28} {min(measured):7.3f} {statistics.median(measured):7.3f} {max(measured):7.3f}"
        )
    questions = [
        question.question
        for question in load_questions(sample_questions())
        if question.split == "dev"
    ]
    answer_times(assistant, questions[:2])  # models are loaded
    warm = np.array(answer_times(assistant, questions[:_ASKED]))
    print(
        f"\n{len(warm)} answers from {len(assistant.library):,} papers, models loaded: median, 95th percentile"
    )
    for column, name in enumerate(("seconds to the first text", "seconds to the last word")):
        print(
            f"{name:28} {np.median(warm[:, column]):7.3f} {np.percentile(warm[:, column], 95):7.3f}"
        )


if __name__ == "__main__":
    main()
