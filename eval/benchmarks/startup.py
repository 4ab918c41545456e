"""Time the start of each command, and answers with the models loaded.

`python -m eval.benchmarks.startup [--runs N] [--library DIR]`

The commands run alternately, several times, each in its own process. Prints the minimum, the median
and the maximum of wall-clock seconds, including the interpreter's start, with files in the
machine's file cache. Then asks an assistant with its models loaded curated questions, and prints
the seconds to the first text and to the whole answer.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from eval.benchmarks.common import (
    FOOTNOTE,
    add_library_option,
    curated_questions,
    open_assistant,
)
from eval.benchmarks.tables import Columns
from rag import Assistant

_QUESTIONS_ASKED = 60


def time_command(command: list[str]) -> float:
    """Run a command, and return the wall-clock seconds it took."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own commands
    return time.perf_counter() - start


def time_commands(library: str, runs: int) -> dict[str, list[float]]:
    """Run several commands in alternation; return their seconds, by a short description."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import rag": [sys.executable, "-c", "import rag"],
        "footnote --help": [*FOOTNOTE, "--help"],
        "footnote list": [*FOOTNOTE, "list", "--library", library],
        "footnote ask": [*FOOTNOTE, "ask", "Does FP8 beat INT8?", "--library", library],
    }
    seconds = defaultdict(list)
    for _ in range(runs):
        for name, command in commands.items():
            seconds[name].append(time_command(command))
    return seconds


def time_answers(assistant: Assistant, questions: Iterable[str]) -> list[tuple[float, float]]:
    """Return for each question the seconds to the first text and to the whole answer."""
    times = []
    for question in questions:
        start = time.perf_counter()
        events = assistant.stream(question)
        next(event for event in events if isinstance(event, str))
        first = time.perf_counter() - start
        list(events)
        times.append((first, time.perf_counter() - start))
    return times


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    add_library_option(parser)
    options = parser.parse_args()
    assistant = open_assistant(options.library)
    columns = Columns("<28", ">7", ">7", ">7")
    columns.print_row(f"seconds of {options.runs} runs", "min", "median", "max")
    commands = time_commands(str(assistant.library.folder), options.runs)
    for name, seconds in commands.items():
        figures = [min(seconds), statistics.median(seconds), max(seconds)]
        columns.print_row(name, *map("{:.3f}".format, figures))
    questions = [question.question for question in curated_questions("dev")]
    time_answers(assistant, questions[:2])  # loads the models
    warm = np.array(time_answers(assistant, questions[:_QUESTIONS_ASKED]))
    papers = f"{len(assistant.library):,} papers"
    print(f"\n{len(warm)} answers from {papers}, models loaded: median, 95th percentile")
    for name, measured in zip(("first text", "whole answer"), warm.T, strict=True):
        percentiles = map("{:.3f}".format, np.percentile(measured, [50, 95]))
        columns.print_row(f"seconds to the {name}", *percentiles)


if __name__ == "__main__":
    main()
