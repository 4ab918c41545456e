"""Commands that maintain a library and the settings: reindex, doctor, config."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rag.cli.options import JsonOption, LibraryOption, open_assistant
from rag.cli.printing import ProgressBar, print_json, print_message
from rag.text.counts import format_count

if TYPE_CHECKING:
    from rag.library.doctor import Check


def reindex(
    library: LibraryOption = None,
    embedder: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Embed every paper again with this model: a folder or a Hugging Face id.",
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    r"""Rebuild the vector index.

    The papers are embedded again only with --embedder.

    \b
    footnote reindex
    footnote reindex --embedder BAAI/bge-small-en-v1.5
    """
    with ProgressBar("papers") as bar:
        passages = open_assistant(library).reindex(embedder, bar.update)
    if as_json:
        print_json({"passages": passages})
    else:
        typer.echo(f"indexed {format_count(passages, 'passage')}")


def doctor(
    library: LibraryOption = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Repair what can be rebuilt from the papers.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    r"""Check the installation and the library, and suggest fixes.

    The whole library is read. With --fix, vectors, full text, metadata and the vector index are
    rebuilt where they are damaged; papers are never changed. The exit code is 1 if a check fails.

    \b
    footnote doctor
    footnote doctor --library ~/physics --json
    footnote doctor --fix
    """
    from rag.config import load_settings
    from rag.library.doctor import check_all, repair_library

    folder = library.expanduser() if library else load_settings().library_folder
    checks = list(check_all(folder))
    if fix and (repaired := repair_library(folder, checks)):
        print_message(f"repaired: {', '.join(repaired)}")
        checks = list(check_all(folder))
    if as_json:
        print_json(list(map(asdict, checks)))
    else:
        typer.echo("\n".join(map(_check_text, checks)))
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)


def _check_text(check: "Check") -> str:
    if check.ok:
        return f"ok  {check.name}: {check.detail}"
    fix = f"\n      fix: {check.fix}" if check.fix else ""
    return f"BAD {check.name}: {check.detail}{fix}"


def config(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a setting.")] = "",
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE", help="New value; '' restores the default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    r"""Show the settings, or change one.

    The settings are library (a folder), embedder (the embedding model of new libraries) and
    language_model (bundled, none, a folder, a GGUF file, the Hugging Face id of a downloaded model,
    or the address of a server).

    \b
    footnote config
    footnote config language_model none
    footnote config library ~/papers
    """
    from rag.config import check_setting, config_file, expand_path, load_settings, save_setting

    if value is not None:
        if value and name == "library":
            # The path must mean the same wherever the next command runs.
            value = str(expand_path(value).absolute())
        if value and name == "language_model":
            value = _check_language_model(value)
        save_setting(name, value)
    elif name:
        check_setting(name)
    current = load_settings()
    settings = asdict(current) | {"library": str(current.library_folder)}
    if name:
        settings = {name: settings[name]}
    if as_json:
        print_json(settings if name else settings | {"file": str(config_file())})
        return
    for setting, text in settings.items():
        typer.echo(f"{setting} = {text}")


def _check_language_model(name: str) -> str:
    """Return the name to save for a language model. Raises `UsageError` for one that is missing.

    A path becomes absolute, because it must mean the same wherever the next command runs. A server
    may start later, and the bundled model may be installed later.
    """
    from rag.config import expand_path
    from rag.errors import UsageError
    from rag.models.registry import BUNDLED_LANGUAGE_MODEL, is_server
    from rag.models.status import describe_language_model

    path = expand_path(name)
    if path.exists():
        name = str(path.absolute())
    if name == BUNDLED_LANGUAGE_MODEL or is_server(name):
        return name
    problem = describe_language_model(name).problem
    if problem:
        raise UsageError(
            f"{problem}; or choose another: footnote config language_model {BUNDLED_LANGUAGE_MODEL}"
        )
    return name
