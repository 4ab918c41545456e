"""Options that several commands share, each defined once."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag.errors import UsageError, unknown_choice
from rag.library.filters import FILTERS

if TYPE_CHECKING:
    from rag.assistant import Assistant

LibraryOption = Annotated[
    Path | None,
    typer.Option(
        "--library",
        "-L",
        metavar="DIR",
        envvar="FOOTNOTE_LIBRARY",
        help="Folder of the library; default: the setting library.",
        show_envvar=True,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model", metavar="NAME", help="Language model for this run; see footnote config -h."
    ),
]
SentencesOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=20,
        metavar="N",
        help="Maximum number of sentences; default: 3, or 5 for a question about several papers.",
    ),
]
StyleOption = Annotated[
    str,
    typer.Option(
        metavar="STYLE",
        help="quote, write, or auto: write if the model is good enough, else quote.",
    ),
]


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `filters` of a command with one option for each search filter.

    The command gets the values of these options as a dict, with an empty string where an option
    was not used.
    """
    signature = inspect.signature(command)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name != "filters":
            parameters.append(parameter)
            continue
        for name, definition in FILTERS.items():
            option = typer.Option(metavar=definition.metavar, help=definition.help)
            annotation = Annotated[str, option]
            parameters.append(
                inspect.Parameter(name, parameter.kind, default="", annotation=annotation)
            )

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:  # noqa: ANN401 - values of all options
        filters = {name: values.pop(name) for name in FILTERS}
        command(filters=filters, **values)

    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return wrapper


def choose_answer_format(format: str, as_json: bool) -> str:
    """Return the format for an answer that `--format` and `--json` select together."""
    from rag.output.export import ANSWER_FORMATS

    return _choose_format(format, as_json, ("text", *ANSWER_FORMATS), default="text")


def choose_paper_format(format: str, as_json: bool) -> str:
    """Return the format for papers that `--format` and `--json` select together."""
    from rag.output.export import PAPER_FORMATS

    return _choose_format(format, as_json, tuple(PAPER_FORMATS), default="markdown")


def _choose_format(format: str, as_json: bool, formats: tuple[str, ...], default: str) -> str:
    if format not in formats:
        raise unknown_choice("format", format, formats)
    if as_json and format not in (default, "json"):
        raise UsageError("use either --json or --format, not both")
    return "json" if as_json else format


def open_assistant(library: Path | None, *, create: bool = False, model: str = "") -> "Assistant":
    """Open the assistant that the options `--library` and `--model` select."""
    from rag.assistant import Assistant

    return Assistant.open(library, language_model=model, create=create)
