"""`footnote ui`: open the page. Nothing heavy is imported before the command runs."""

from pathlib import Path
from typing import Annotated

import typer


def ui(
    library: Annotated[
        Path | None,
        typer.Option("--library", "-L", metavar="DIR", envvar="FOOTNOTE_LIBRARY", help="The library's folder."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="N", help="The port on 127.0.0.1.")] = 7860,
) -> None:
    r"""Open the page, for this machine only.

    It listens on 127.0.0.1, and shows the sample papers when there is no library yet.

    \b
    footnote ui
    footnote ui --library ~/physics --port 8000
    """
    from rag import Assistant, LibraryNotFound
    from ui.page import serve

    try:
        assistant = Assistant.open(library, create=False)
    except LibraryNotFound:
        if library is not None:
            raise
        assistant = Assistant.sample()
        typer.echo("footnote: no library yet; showing the sample papers", err=True)
    serve(assistant, port)
