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
from rag.errors import UsageError, unknown_choice
from rag.text.counts import format_count

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
FirstRun = Annotated[Path, typer.Argument(metavar="FIRST", help="Folder of the run to start from.")]
SecondRun = Annotated[Path, typer.Argument(metavar="SECOND", help="Folder of the changed run.")]
GatedRun = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run to check.")]


@app.callback()
def run(  # noqa: PLR0913, PLR0917 - a command's options are its parameters
    context: typer.Context,
    questions: Annotated[
        Path | None,
        typer.Option("--questions", "-q", metavar="FILE", help="Your own questions, JSON Lines."),
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option(
            "--library", "-L", metavar="DIR", help="Library that your questions are about."
        ),
    ] = None,
    question_set: Annotated[
        str,
        typer.Option(
            "--set",
            metavar="sample|acl|acl-sealed",
            help="Curated questions about the sample papers or about ACL abstracts.",
        ),
    ] = "sample",
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for the run and its report."),
    ] = Path("footnote-eval"),
    split: Annotated[
        str,
        typer.Option(
            metavar="dev|test|all", help="Questions for tuning (dev), for reporting (test), or all."
        ),
    ] = "test",
    every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Ask only every n-th question.")
    ] = 1,
    style: StyleOption = "auto",
    model: ModelOption = "",
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SYSTEM", help="Besides the assistant, run only this system; repeatable."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    r"""Score the answers to questions with known answers, and write a report.

    The curated questions are about the sample papers. Ablations of the assistant and trivial
    baselines are scored for comparison. An interrupted run resumes where it stopped.

    \b
    footnote eval                                  # the sample papers, split test
    footnote eval --set acl --split dev            # needs the abstracts, see eval/README.md
    footnote eval check mine.jsonl -L ~/physics
    footnote eval -q mine.jsonl --split all -L ~/physics -o runs/today
    footnote eval compare runs/before runs/today
    footnote eval gate runs/today --baseline baseline.json
    """
    if context.invoked_subcommand:
        return
    from eval.harness.report import write_report
    from eval.harness.runs import Plan, evaluate
    from rag.assistant import Assistant

    if library and not questions:
        raise UsageError(
            "the curated questions are about the sample papers; "
            f"give questions about {library} with --questions"
        )
    file, folder = (questions, library) if questions else _prepare_set(question_set)
    assistant = Assistant.open(folder, language_model=model, create=False)
    plan = Plan(file, split, style, tuple(only or ()), every)
    with _progress_bar() as on_progress:
        finished_run = evaluate(assistant, output, plan, on_progress=on_progress)
    report = write_report(finished_run, output)
    errors = _collect_errors(finished_run)
    if errors:
        failed = format_count(len(errors), "reply", "replies")
        print_message(f"{failed} failed, with the lowest scores; the first: {errors[0]}")
    if as_json:
        print_json(_run_summary(finished_run, report, len(errors)))
    else:
        typer.echo(f"{_means_table(finished_run)}\nreport: {report}")


@app.command()
def compare(first: FirstRun, second: SecondRun, as_json: JsonOption = False) -> None:
    """Compare the second run with the first, metric by metric.

    Prints the mean differences on the questions that both runs have, with 95 % intervals and p
    values. p is adjusted for the number of metrics (Holm).
    """
    from dataclasses import asdict

    from eval.harness.comparison import compare as compare_scores
    from eval.harness.comparison import load_scores, verdict

    _, first_scores = load_scores(first)
    _, second_scores = load_scores(second)
    comparisons = compare_scores(first_scores, second_scores)
    if as_json:
        records = []
        for comparison in comparisons:
            records.append(asdict(comparison) | {"verdict": verdict(comparison)})
        print_json(records)
        return
    typer.echo(f"{'':30}{'n':>5} {'first':>8} {'second':>8}  {'difference':26} p (Holm)")
    for comparison in comparisons:
        typer.echo(_comparison_line(comparison))


@app.command()
def gate(
    run: GatedRun,
    baseline: Annotated[
        Path, typer.Option("--baseline", metavar="FILE", help="File with the baseline's scores.")
    ],
    update: Annotated[
        bool, typer.Option("--update", help="Make the run the new baseline.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check that answers did not get worse than a baseline.

    Prints the reasons and exits with code 1 if the CRAG score fell and the 95 % interval of its
    change reaches below -0.05, if a count that must be 0 is not, if a question failed, or if one of
    the baseline was not asked.
    """
    from eval.harness import comparison

    manifest, scores = comparison.load_scores(run)
    if update:
        comparison.save_scores(baseline, manifest, scores)
        if as_json:
            print_json({"updated": str(baseline), "questions": len(scores)})
        else:
            questions = format_count(len(scores), "question")
            typer.echo(f"{baseline} now holds the scores of {questions}")
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
    file: Annotated[Path, typer.Argument(help="File of questions, JSON Lines.", metavar="FILE")],
    library: Annotated[
        Path | None,
        typer.Option(
            "--library",
            "-L",
            metavar="DIR",
            help="Library that the questions are about; the sample papers by default.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a file of questions against the library they are about.

    Lists the problems, and exits with code 1 if there are any.
    """
    from eval.harness.questions import check_file, describe_check

    question_count, problems = check_file(file, library)
    if as_json:
        print_json({"questions": question_count, "problems": problems})
    else:
        typer.echo(describe_check(question_count, problems))
    if problems:
        raise typer.Exit(1)


def _prepare_set(name: str) -> tuple[Path, Path]:
    """Return the file of questions and the library folder of a curated set."""
    from eval.harness.question_sets import QUESTION_SETS

    if name not in QUESTION_SETS:
        raise unknown_choice("question set", name, QUESTION_SETS)
    return QUESTION_SETS[name].prepare()


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


def _comparison_line(comparison: "MetricComparison") -> str:
    from eval.harness.comparison import NO_DIFFERENCE, verdict

    means = f"{comparison.questions:5} {comparison.first:8.3f} {comparison.second:8.3f}"
    difference = f"{comparison.difference:+.3f} [{comparison.low:+.3f}, {comparison.high:+.3f}]"
    outcome = verdict(comparison)
    mark = "" if outcome == NO_DIFFERENCE else f"  {outcome}"
    return f"{comparison.metric:30}{means}  {difference:26} {comparison.p_holm:.3f}{mark}"


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
