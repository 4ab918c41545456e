"""What a start costs: `python -m eval.startup [--runs N]`.

Each command runs in a process of its own, in turn, several times; printed are the least, the median and the most
wall-clock seconds, the interpreter's own start included. Asking uses the sample library and a warm disk.
"""

import argparse
import statistics
import subprocess
import sys
import time

from rag import Assistant


def seconds(command: list[str]) -> float:
    """Wall-clock time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own commands
    return time.perf_counter() - start


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    library = str(Assistant.sample().library.folder)
    python, footnote = [sys.executable], [sys.executable, "-m", "rag"]
    commands = {
        "python -c pass": [*python, "-c", "pass"],
        "import rag": [*python, "-c", "import rag"],
        "footnote --help": [*footnote, "--help"],
        "footnote list": [*footnote, "list", "--library", library],
        "footnote ask": [*footnote, "ask", "Does FP8 beat INT8?", "--library", library],
        "footnote add, nothing new": [*footnote, "add", "--sample", "--library", library],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.runs):
        for name, command in commands.items():
            times[name].append(seconds(command))
    print(f"{'seconds of ' + str(options.runs) + ' runs':28} {'least':>7} {'median':>7} {'most':>7}")
    for name, measured in times.items():
        print(f"{name:28} {min(measured):7.3f} {statistics.median(measured):7.3f} {max(measured):7.3f}")


if __name__ == "__main__":
    main()
