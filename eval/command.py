"""`footnote eval`: score answers, compare runs, gate changes, and check files of questions."""

import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag.cli.options import JsonOption, ModelOption, StyleOption
from rag.cli.printing import print_json, print_message
from rag.errors import UsageError

if TYPE_CHECKING:
    from eval.harness.comparison import MetricComparison
    from eval.harness.runs import Progress, Run

app = typer.Typer(invoke_without_command=True)

_TABLE_METRICS = (
    "nugget recall",
    "right paper cited",
    "citation F1",
    "correct-abstention rate",
    "answer rate",
    "CRAG score",
)
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")]


@app.callback()
def run(  # noqa: PLR0913, PLR0917 - a command's options are its parameters
    context: typer.Context,
    questions: Annotated[
        Path | None,
        typer.Option("--questions", "-q", metavar="FILE", help="Your own questions, JSON Lines."),
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option("--library", "-L", metavar="DIR", help="Library that they are about."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the run.")
    ] = Path("footnote-eval"),
    split: Annotated[
        str, typer.Option(metavar="dev|test|all", help="Split of the questions.")
    ] = "test",
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Take every n-th question.")] = 1,
    style: StyleOption = "auto",
    model: ModelOption = "",
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SYSTEM", help="Run only this system besides the assistant; repeatable."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    r"""Score the answers to questions with known answers, and write a report.

    The curated questions are about the sample papers. Ablations of the assistant and trivial
    baselines are scored for comparison. An interrupted run resumes where it stopped.

    \b
    footnote eval                                  # the sample papers, split test
    footnote eval check mine.jsonl -L ~/physics
    footnote eval -q mine.jsonl --split all -L ~/physics -o runs/today
    footnote eval compare runs/before runs/today
    footnote eval gate runs/today --baseline baseline.json
    """
    if context.invoked_subcommand:
        return
    from eval.harness.questions import sample_questions_file
    from eval.harness.report import write_report
    from eval.harness.runs import Plan, evaluate
    from rag.assistant import Assistant

    if library and not questions:
        raise UsageError(
            "the curated questions are about the sample papers; "
            f"give questions about {library} with --questions"
        )
    folder = library if questions else Assistant.sample().library.folder
    assistant = Assistant.open(folder, language_model=model, create=False)
    plan = Plan(questions or sample_questions_file(), split, style, tuple(only or ()), every)
    with _progress_bar() as on_progress:
        finished = evaluate(assistant, output, plan, on_progress=on_progress)
    report = write_report(finished, output)
    errors = _collect_errors(finished)
    if errors:
        print_message(f"{len(errors)} replies failed and score 0; the first: {errors[0]}")
    if as_json:
        print_json(_run_summary(finished, report, len(errors)))
    else:
        typer.echo(f"{_means_table(finished)}\nreport: {report}")


@app.command()
def compare(first: RunArgument, second: RunArgument, as_json: JsonOption = False) -> None:
    """Compare the second run with the first, metric by metric.

    Intervals of 95 % and p values are of paired differences; p is adjusted for the number of
    metrics (Holm).
    """
    from dataclasses import asdict

    from eval.harness import comparison

    _, first_scores = comparison.load_scores(first)
    _, second_scores = comparison.load_scores(second)
    comparisons = comparison.compare(first_scores, second_scores)
    if as_json:
        records = []
        for line in comparisons:
            records.append(asdict(line) | {"verdict": comparison.verdict(line)})
        print_json(records)
        return
    typer.echo(f"{'':30}{'n':>5} {'first':>8} {'second':>8}  {'difference':26} p (Holm)")
    for line in comparisons:
        typer.echo(_comparison_line(line))


@app.command()
def gate(
    run: RunArgument,
    baseline: Annotated[
        Path, typer.Option("--baseline", metavar="FILE", help="Scores that must not get worse.")
    ],
    update: Annotated[bool, typer.Option("--update", help="Make this run the baseline.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Exit with code 1 if answers got worse, and print the reasons.

    A gated metric must not be worse than the baseline by more than 0.05 with confidence, and counts
    that must be 0 must be 0.
    """
    from eval.harness import comparison

    manifest, scores = comparison.load_scores(run)
    if update:
        comparison.save_scores(baseline, manifest, scores)
        if as_json:
            print_json({"updated": str(baseline), "questions": len(scores)})
        else:
            typer.echo(f"{baseline} now holds the scores of {len(scores)} questions")
        return
    baseline_manifest, baseline_scores = comparison.load_scores(baseline)
    if baseline_manifest["questions_digest"] != manifest["questions_digest"]:
        raise UsageError(
            f"{baseline} and {run} have different questions; "
            "make the run the baseline with --update"
        )
    reasons = comparison.gate(baseline_scores, scores)
    if as_json:
        print_json({"passed": not reasons, "reasons": reasons})
    else:
        typer.echo("\n".join(reasons) or "nothing is worse than the baseline")
    if reasons:
        raise typer.Exit(1)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Questions, JSON Lines.", metavar="FILE")],
    library: Annotated[
        Path | None,
        typer.Option(
            "--library",
            "-L",
            metavar="DIR",
            help="Library that they are about; the sample papers by default.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a file of questions against a library; exit with code 1 if there are problems."""
    from eval.harness.questions import check_file, describe_check

    question_count, problems = check_file(file, library)
    if as_json:
        print_json({"questions": question_count, "problems": problems})
    else:
        typer.echo(describe_check(question_count, problems))
    if problems:
        raise typer.Exit(1)


# --- output -------------------------------------------------------------------------------------


def _collect_errors(run: "Run") -> list[str]:
    errors = []
    for rows in run.rows.values():
        for row in rows:
            if row.reply.error:
                errors.append(row.reply.error)
    return errors


def _run_summary(run: "Run", report: Path, failed: int) -> dict[str, Any]:
    """Return manifest, report, and the mean of every metric for every system."""
    means: dict[str, dict[str, float | None]] = {}
    for system in run.rows:
        means[system] = {}
        for metric in run.metrics:
            means[system][metric.name] = _mean(run, system, metric.name)
    return {"manifest": run.manifest, "report": str(report), "failed": failed, "means": means}


def _mean(run: "Run", system: str, metric: str) -> float | None:
    values = run.scores(system, metric).values
    return round(statistics.mean(values), 6) if values else None


def _means_table(run: "Run") -> str:
    """Return the means of the main metrics as a table with a row for each system."""
    widths = [max(13, len(name) + 2) for name in _TABLE_METRICS]
    header = f"{'':32}"
    for name, width in zip(_TABLE_METRICS, widths, strict=True):
        header += f"{name:>{width}}"
    lines = [header]
    for system in run.rows:
        line = f"{system:32}"
        for name, width in zip(_TABLE_METRICS, widths, strict=True):
            mean = _mean(run, system, name)
            line += f"{'-':>{width}}" if mean is None else f"{mean:{width}.3f}"
        lines.append(line)
    return "\n".join(lines)


def _comparison_line(line: "MetricComparison") -> str:
    from eval.harness.comparison import NO_DIFFERENCE, verdict

    means = f"{line.questions:5} {line.first:8.3f} {line.second:8.3f}"
    interval = f"{line.difference:+.3f} [{line.low:+.3f}, {line.high:+.3f}]"
    outcome = verdict(line)
    mark = "" if outcome == NO_DIFFERENCE else f"  {outcome}"
    return f"{line.metric:30}{means}  {interval:26} {line.p_holm:.3f}{mark}"


@contextmanager
def _progress_bar() -> Iterator["Progress"]:
    """Show progress and the remaining time on standard error, if that is a terminal."""
    from tqdm import tqdm

    with tqdm(unit=" questions", file=sys.stderr, disable=None, dynamic_ncols=True) as bar:

        def update(done: int, total: int, system: str) -> None:
            bar.total = total
            bar.set_postfix_str(system, refresh=False)
            bar.update(done - bar.n)

        yield update
