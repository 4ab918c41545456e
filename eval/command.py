"""`footnote eval`: score answers, compare runs, gate changes, check questions, label sentences."""

import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag.cli.options import JsonOption, StyleOption
from rag.cli.printing import print_json, print_message
from rag.errors import UsageError, unknown_choice
from rag.text.counts import format_count

if TYPE_CHECKING:
    from eval.harness.comparison import MetricComparison
    from eval.harness.runs import Plan, Progress, Run
    from rag.assistant import Assistant

app = typer.Typer(invoke_without_command=True)

_TABLE_METRICS = (
    "nugget recall",
    "right paper cited",
    "citation F1",
    "correct-abstention rate",
    "answer rate",
    "abstention balance",
    "CRAG score",
)
FirstRun = Annotated[Path, typer.Argument(metavar="FIRST", help="Folder of the run to start from.")]
SecondRun = Annotated[Path, typer.Argument(metavar="SECOND", help="Folder of the changed run.")]
LabelledRuns = Annotated[
    list[Path], typer.Argument(metavar="RUN", help="Folders of the runs to label.")
]
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
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Language model, see footnote config -h; repeatable, to compare models.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SYSTEM", help="Besides the assistant, run only this system; repeatable."
        ),
    ] = None,
    no_cache: Annotated[
        bool,
        typer.Option("--no-cache", help="Generate again what a language model wrote before."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    r"""Score the answers to questions with known answers, and write a report.

    The curated questions are about the sample papers. Ablations of the assistant and trivial
    baselines are scored for comparison. An interrupted run resumes where it stopped.

    \b
    footnote eval                                  # the sample papers, split test
    footnote eval --set acl --split dev            # needs the abstracts, see eval/README.md
    footnote eval --model bundled --model none     # compare language models
    footnote eval check mine.jsonl -L ~/physics
    footnote eval -q mine.jsonl --split all -L ~/physics -o runs/today
    footnote eval compare runs/before runs/today
    footnote eval gate runs/today --baseline baseline.json
    """
    if context.invoked_subcommand:
        return
    from eval.harness.generation_cache import GenerationCache
    from eval.harness.report import write_report
    from eval.harness.runs import Plan, evaluate

    file, folder = _find_questions(questions, library, question_set)
    cache = None if no_cache else GenerationCache()
    plan = Plan(file, split, style, tuple(only or ()), every, cache=cache)
    assistant, others = _open_assistants(folder, model or [""], plan)
    plan = replace(plan, other_models=others)
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


@app.command("label-sheet")
def label_sheet(
    runs: LabelledRuns,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="File to write, JSON Lines.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Write the generated sentences of runs that have no label yet, with their sources.

    A sentence that cites the same quotations in several runs is written once.
    """
    from eval.harness.labels import shipped_labels, unlabelled_statements

    sheet = unlabelled_statements(runs, shipped_labels())
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in sheet]
    output.write_text("".join(lines), encoding="utf-8")
    if as_json:
        print_json({"file": str(output), "sentences": len(sheet)})
    else:
        typer.echo(f"{format_count(len(sheet), 'unlabelled sentence')} in {output}")


@app.command("label-agreement")
def label_agreement(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="File of labels; the shipped ones by default."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print how far the first and the second label of generated sentences agree (Cohen's kappa)."""
    from eval.harness.labels import label_agreement as compute_agreement
    from eval.harness.labels import labels_file, load_labels

    agreement = compute_agreement(load_labels(file or labels_file()))
    if as_json:
        print_json(agreement)
        return
    typer.echo(
        "{sentences} sentences with two labels; the labels agree on {agreement:.3f}, "
        "kappa {kappa:.3f}; supported or not: kappa {kappa_supported:.3f}".format_map(agreement)
    )


def _open_assistants(
    folder: Path | None, models: list[str], plan: "Plan"
) -> tuple["Assistant", dict[str, "Assistant"]]:
    """Return the assistant with the first language model, and those with the others by name.

    An empty name is that of the settings. Raises `ModelUnavailable` if a model cannot be loaded.
    """
    from eval.harness.generation_cache import load_cached_model
    from rag.assistant import Assistant
    from rag.config import load_settings

    assistants = {}
    for requested in models:
        name = requested or load_settings().language_model
        # Quotations need no model.
        model = name if plan.style == "quote" else load_cached_model(name, plan.cache)
        assistants[name] = Assistant.open(folder, language_model=model, create=False)
    first, *others = assistants
    return assistants[first], {name: assistants[name] for name in others}


def _find_questions(
    questions: Path | None, library: Path | None, question_set: str
) -> tuple[Path, Path | None]:
    """Return the file of questions and the folder of their library; None is the user's own."""
    from eval.harness.question_sets import QUESTION_SETS

    if questions:
        return questions, library
    if library:
        raise UsageError(
            "the curated questions are about the sample papers; "
            f"give questions about {library} with --questions"
        )
    if question_set not in QUESTION_SETS:
        raise unknown_choice("question set", question_set, QUESTION_SETS)
    return QUESTION_SETS[question_set].prepare()


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
        for name in (*(metric.name for metric in run.metrics), "abstention balance"):
            means[system][name] = _mean(run, system, name)
    return {"manifest": run.manifest, "report": str(report), "failed": failed, "means": means}


def _mean(run: "Run", system: str, metric: str) -> float | None:
    from eval.harness.figures import BALANCE, compute_balance

    if metric == BALANCE:
        balance = compute_balance(run.rows[system])
        return balance["mean"] if balance else None
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
