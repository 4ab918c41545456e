"""Output of the commands: data to standard output, messages and progress to standard error."""

import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rag.text.counts import format_count

if TYPE_CHECKING:
    from rag.records import AddReport, FlaggedPaper, Merge, Paper

# Duplicates and flagged papers shown after `add`; `--json` prints all.
_MAX_DETAILS = 10


def print_message(message: str) -> None:
    """Print a message on standard error, without characters that could control the terminal."""
    text = "".join(char if char.isprintable() or char == "\n" else "�" for char in message)
    typer.echo(f"footnote: {text}", err=True)


class LogPrinter(logging.Handler):
    """Log handler that prints records as messages, above a progress bar and not into it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        from tqdm import tqdm

        with tqdm.external_write_mode(file=sys.stderr):
            print_message(record.getMessage())


def print_json(data: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print plain data as indented JSON."""
    typer.echo(json.dumps(data, ensure_ascii=False, indent=2))


def paper_line(paper: "Paper") -> str:
    """Return a paper as one line: id, title and byline."""
    retraction = "RETRACTED " if paper.retracted else ""
    byline = f" ({paper.byline})" if paper.byline else ""
    return f"{paper.id}  {retraction}{paper.title}{byline}"


def print_papers(papers: "Iterable[Paper]", as_json: bool) -> None:
    """Print papers, one per line, or as a JSON list."""
    if as_json:
        print_json([paper.to_dict() for paper in papers])
        return
    for paper in papers:
        typer.echo(paper_line(paper))


def print_add_report(report: "AddReport", as_json: bool) -> None:
    """Print what `footnote add` did; each rejection is a message."""
    for rejection in report.rejected:
        print_message(f"rejected: {rejection}")
    if as_json:
        print_json(report.to_dict())
    else:
        typer.echo(_add_report_text(report))


def _add_report_text(report: "AddReport") -> str:
    counts = (
        f"{report.added:,} added, {report.updated:,} updated, {report.merged:,} merged, "
        f"{report.unchanged:,} unchanged, {len(report.rejected):,} rejected"
    )
    lines = [
        f"{format_count(report.read, 'record')} read: {counts}",
        f"{format_count(report.papers, 'paper')} in the library",
    ]
    # An identical record on several pages is not worth a line.
    duplicates = [merge for merge in report.merges if merge.matched_by != "record"]
    lines += map(_merge_line, duplicates[:_MAX_DETAILS])
    if len(duplicates) > _MAX_DETAILS:
        lines.append(f"  and {len(duplicates) - _MAX_DETAILS:,} more; --json lists all")
    if report.flagged:
        lines.append(
            "Sentences that look like orders to a program, never quoted or given to a model:"
        )
        lines += map(_flagged_line, report.flagged[:_MAX_DETAILS])
    if len(report.flagged) > _MAX_DETAILS:
        lines.append(f"  and {len(report.flagged) - _MAX_DETAILS:,} more papers; --json lists all")
    if report.without_abstract:
        lines.append(
            f"{report.without_abstract:,} without an abstract: found by title, never quoted"
        )
    return "\n".join(lines)


def _merge_line(merge: "Merge") -> str:
    file = Path(merge.source).name
    return f"  merged by {merge.matched_by}: {merge.title} ({file}, record {merge.record})"


def _flagged_line(flagged: "FlaggedPaper") -> str:
    return f"  {flagged.paper_id}: {' '.join(flagged.sentences)}"


class ProgressBar:
    """Progress bar with the remaining time, shown if standard error is a terminal."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar: Any = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, done: int, total: int, records: int) -> None:
        """Show how much is done, and how many records that is."""
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                unit=self._unit,
                unit_scale=True,
                file=sys.stderr,
                disable=None,
                dynamic_ncols=True,
            )
        self._bar.set_postfix_str(format_count(records, "record"), refresh=False)
        self._bar.update(done - self._bar.n)
