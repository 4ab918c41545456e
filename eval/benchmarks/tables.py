"""Tables of results: printed in columns, or written as a section of `eval/BENCHMARKS.md`."""

import os
import platform
import re
import statistics
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

FILE = Path(__file__).parent.parent / "BENCHMARKS.md"
_INTRODUCTION = """# Benchmarks

Written by the commands named below; do not edit by hand. Each section gives the date and the
machine. Figures are medians of several alternating runs, with minimum and maximum in brackets;
ratios are taken run by run.
"""
# Instruction sets that speed up matrix products.
_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")


class Columns:
    """Columns of a printed table: `<12` aligns left in 12 characters, `>7` aligns right in 7."""

    def __init__(self, *formats: str, indent: int = 0) -> None:
        self._formats = formats
        self._indent = " " * indent

    def print_row(self, *cells: object) -> None:
        """Print one row, which may have fewer cells than there are columns."""
        texts = map(format, map(str, cells), self._formats)
        print((self._indent + " ".join(texts)).rstrip(), flush=True)


def median_and_range(values: Sequence[float], digits: int = 1) -> str:
    """Format values as "median (minimum–maximum)"."""
    middle = f"{statistics.median(values):,.{digits}f}"
    return f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def write_section(
    title: str,
    description: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    file: Path = FILE,
) -> None:
    """Write a section with a table, replacing the section of the same title if there is one."""
    text = file.read_text(encoding="utf-8") if file.exists() else _INTRODUCTION
    sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    heading = f"## {title}\n"
    section = f"{heading}\n{description}\n\n{_markdown_table(headings, rows)}\n\n{_provenance()}\n"
    for index, existing in enumerate(sections):
        if existing.startswith(heading):
            sections[index] = section
            break
    else:
        sections.append(section)
    stripped = map(str.strip, sections)
    file.write_text("\n\n".join(stripped) + "\n", encoding="utf-8")


def _markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    joined = map(" | ".join, lines)
    return "| " + " |\n| ".join(joined) + " |"


def _provenance() -> str:
    """Describe how the figures were measured: command, date, machine and Python version."""
    command = ["python", "-m", f"eval.benchmarks.{Path(sys.argv[0]).stem}"]
    for argument in sys.argv[1:]:
        command.append("DIR" if Path(argument).is_absolute() else argument)
    machine = f"{_processor()}, {os.cpu_count()} cores, {_memory()}"
    date = datetime.now(UTC).date()
    return f"`{' '.join(command)}`, {date}; {machine}, Python {platform.python_version()}."


def _processor() -> str:
    """Return the processor's name as Linux reports it, with its sets of `_CPU_FLAGS`."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"model name\s*: (.*)", cpuinfo)
    words = frozenset(cpuinfo.split())
    flags = ", ".join(filter(words.__contains__, _CPU_FLAGS))
    return f"{name[1] if name else platform.machine()} ({flags})"


def _memory() -> str:
    return f"{round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30)} GB"
