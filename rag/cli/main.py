"""Entry point of the command `footnote`: its commands, and what happens to errors.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

import functools
import importlib.metadata
import logging
import sys
import warnings
from typing import Annotated, Any

import typer
import typer.core

from rag.cli import maintenance, papers, questions
from rag.cli.printing import LogPrinter, print_message
from rag.errors import FootnoteError, UsageError

# Exit code that typer gives Ctrl-C: 128 plus the number of the signal.
_INTERRUPTED = 130


class _CommandGroup(typer.core.TyperGroup):
    r"""Group that accepts `\b` in raw docstrings; it keeps the line breaks of examples in help."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - private types of typer
        """Return a command with the marks in its help turned into the characters of Click."""
        command = super().get_command(ctx, cmd_name)
        if command is not None and command.help:
            command.help = command.help.replace("\\b\n", "\b\n")
        return command


app = typer.Typer(
    name="footnote",
    cls=_CommandGroup,
    help="Ask your own library of paper abstracts, and get answers that cite every sentence.",
    epilog='Start with:  footnote add --sample  then  footnote ask "Does FP8 beat INT8?"',
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("add")(papers.add)
app.command("ask")(questions.ask)
app.command("replay")(questions.replay)
app.command("chat")(questions.chat)
app.command("search")(papers.search)
app.command("list")(papers.list_papers)
app.command("show")(papers.show)
app.command("remove")(papers.remove)
app.command("export")(papers.export)
app.command("reindex")(maintenance.reindex)
app.command("doctor")(maintenance.doctor)
app.command("config")(maintenance.config)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"footnote {importlib.metadata.version('footnote')}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Accept the options that belong to no command."""


def main() -> None:
    """Run the command; an expected error is one line on standard error."""
    log = logging.getLogger("footnote")
    log.handlers, log.level = [LogPrinter()], logging.INFO
    warnings.simplefilter("ignore")  # warnings of libraries are for developers
    _add_installed_commands()
    try:
        app(prog_name="footnote")
    except UsageError as error:
        print_message(str(error))
        sys.exit(2)
    except FootnoteError as error:
        print_message(str(error))
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            print_message("interrupted; everything saved so far is kept")
        raise


@functools.cache
def _add_installed_commands() -> None:
    """Add the commands of other packages, such as `eval` and `ui`, which `rag` does not know."""
    entry_points = importlib.metadata.entry_points(group="footnote.commands")
    for name in sorted(entry_points.names):
        command = entry_points[name].load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)


if __name__ == "__main__":
    main()
