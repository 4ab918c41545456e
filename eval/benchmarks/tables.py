"""`eval/BENCHMARKS.md`: what the benchmarks of speed measured, on which machine, when; written by them only."""

import os
import platform
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

FILE = Path(__file__).parent.parent / "BENCHMARKS.md"
_HEAD = """# Benchmarks

Written by the commands that are named. Each section tells when and on which machine it was measured. Figures are
medians of several runs in turn, with the least and the most in brackets; a ratio is taken run by run.
"""


def write_section(title: str, said: str, table: Sequence[Sequence[str]], file: Path = FILE) -> None:
    """Put a section in the place of the one with that title, or at the end; `table` begins with its headings."""
    before = file.read_text(encoding="utf-8") if file.exists() else _HEAD
    parts = re.split(r"^(?=## )", before, flags=re.MULTILINE)
    section = f"## {title}\n\n{said}\n\n{_markdown(table)}\n\n{_circumstances()}\n"
    places = [n for n, part in enumerate(parts) if part.startswith(f"## {title}\n")]
    if places:
        parts[places[0]] = section
    else:
        parts.append(section)
    file.write_text("\n".join(part.strip() + "\n" for part in parts), encoding="utf-8")


def _markdown(table: Sequence[Sequence[str]]) -> str:
    headings, *rows = table
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _circumstances() -> str:
    # Folders are this machine's own affair.
    options = ["DIR" if Path(option).is_absolute() else option for option in sys.argv[1:]]
    command = " ".join(["python", "-m", f"eval.benchmarks.{Path(sys.argv[0]).stem}", *options])
    return (
        f"`{command}`, {datetime.now(UTC).date()}; {_processor()}, {os.cpu_count()} cores, {_memory()}, Python "
        + (f"{platform.python_version()}.")
    )


def _processor() -> str:
    """The processor as Linux tells it, with what matters to matrix products."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"model name\s*: (.*)", told)
    flags = [
        flag
        for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")
        if f" {flag}" in told
    ]
    return f"{name[1] if name else platform.machine()} ({', '.join(flags)})"


def _memory() -> str:
    return f"{round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30)} GB"
