"""`footnote eval`: score the answers, compare runs, and stop a change that makes them worse."""

import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from rag import UsageError

app = typer.Typer(invoke_without_command=True)

_SHOWN = ("facts", "right paper", "citation F1", "refused", "answered", "worth")
RunArgument = Annotated[Path, typer.Argument(help="The folder of a run.", metavar="RUN")]


@app.callback()
def run(  # noqa: PLR0913, PLR0917 - a command's options are its parameters
    context: typer.Context,
    questions: Annotated[
        Path | None,
        typer.Option(
            "--questions", "-q", metavar="FILE", help="Your own questions, as JSON Lines."
        ),
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option("--library", "-L", metavar="DIR", help="The library they are about."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder of the run.")
    ] = Path("footnote-eval"),
    split: Annotated[
        str, typer.Option(metavar="dev|test|all", help="Which of the questions.")
    ] = "test",
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Every n-th question only.")] = 1,
    style: Annotated[
        str, typer.Option(metavar="auto|quote|write", help="How answers are written.")
    ] = "auto",
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="The language model for this run.")
    ] = "",
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="SYSTEM", help="Besides the assistant, only this system; repeatable."),
    ] = None,
) -> None:
    r"""Score the answers on questions with known answers, and write a report.

    The curated questions are about the sample papers; `python -m eval.harness.questions FILE` checks your own. Trivial rivals
    and the assistant with one ingredient less are asked, too. A run that was broken off goes on where it stopped.

    \b
    footnote eval                                  # the sample papers, split test
    footnote eval -q mine.jsonl --split all -L ~/physics -o runs/today
    footnote eval compare runs/before runs/today
    footnote eval gate runs/today --baseline baseline.json
    """
    if context.invoked_subcommand:
        return
    from eval.harness.questions import sample_questions
    from eval.harness.report import write_report
    from eval.harness.runs import Plan, evaluate
    from rag import Assistant

    if library and not questions:
        raise UsageError(
            f"the curated questions are about the sample papers; name some about {library}: --questions"
        )
    folder = library if questions else Assistant.sample().library.folder
    assistant = Assistant.open(folder, language_model=model, create=False)
    plan = Plan(questions or sample_questions(), split, style, tuple(only or ()), every)
    with _bar() as on_progress:
        done = evaluate(assistant, output, plan, on_progress=on_progress)
    page = write_report(done, output)
    typer.echo(_table(done))
    if failed := [
        row.reply.error for rows in done.rows.values() for row in rows if row.reply.error
    ]:
        typer.echo(
            f"footnote: {len(failed)} replies failed and score 0; the first: {failed[0]}", err=True
        )
    typer.echo(f"report: {page}")


@app.command()
def compare(
    one: RunArgument,
    other: RunArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell whether the second run is better than the first, metric by metric.

    Intervals of 95 % and p values are of the paired differences; p is adjusted for the number of metrics (Holm).
    """
    from dataclasses import asdict

    from eval.harness.comparison import compare as compared
    from eval.harness.comparison import load_scores

    found = compared(load_scores(one)[1], load_scores(other)[1])
    if as_json:
        typer.echo(json.dumps([asdict(line) for line in found], indent=2))
        return
    typer.echo(f"{'':30}{'n':>5} {'first':>8} {'second':>8}  {'difference':26} p (Holm)")
    for line in found:
        interval = f"{line.difference:+.3f} [{line.low:+.3f}, {line.high:+.3f}]"
        mark = ("  better" if line.difference > 0 else "  worse") if line.p_holm < 0.05 else ""
        means = f"{line.questions:5} {line.one:8.3f} {line.other:8.3f}"
        typer.echo(f"{line.metric:30}{means}  {interval:26} {line.p_holm:.3f}{mark}")


@app.command()
def gate(
    run: RunArgument,
    baseline: Annotated[
        Path, typer.Option("--baseline", metavar="FILE", help="The scores to hold.")
    ],
    update: Annotated[bool, typer.Option("--update", help="Make this run the baseline.")] = False,
) -> None:
    """Stop a change that makes answers worse: exit code 1, and a line for each reason.

    A gated metric must not be worse than the baseline by more than 0.05 with confidence, and what must be 0 must be 0.
    """
    from eval.harness.comparison import gate as gated
    from eval.harness.comparison import load_scores, save_scores

    about, new = load_scores(run)
    if update:
        save_scores(baseline, about, new)
        typer.echo(f"{baseline} now holds the scores of {len(new)} questions")
        return
    before, old = load_scores(baseline)
    if before["questions_digest"] != about["questions_digest"]:
        raise UsageError(
            f"{baseline} is about other questions than {run}; --update makes the run the baseline"
        )
    stops = gated(old, new)
    typer.echo("\n".join(stops) or "nothing is worse than the baseline")
    if stops:
        raise typer.Exit(1)


def _table(done: Any) -> str:  # noqa: ANN401 - a run, whose module is loaded late
    lines = [f"{'':32}" + "".join(f"{name:>13}" for name in _SHOWN)]
    for system in done.rows:
        values = [done.values(system, name)[0] for name in _SHOWN]
        lines.append(
            f"{system:32}"
            + "".join(f"{statistics.mean(v):13.3f}" if v else f"{'-':>13}" for v in values)
        )
    return "\n".join(lines)


@contextmanager
def _bar() -> Iterator[Any]:
    """Progress with the remaining time on standard error, where that is a terminal."""
    from tqdm import tqdm

    with tqdm(unit=" questions", file=sys.stderr, disable=None, dynamic_ncols=True) as bar:

        def show(done: int, total: int, system: str) -> None:
            bar.total = total
            bar.set_postfix_str(system, refresh=False)
            bar.update(done - bar.n)

        yield show
