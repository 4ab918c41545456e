"""`footnote ui`: open the page. Nothing heavy is imported before the command runs."""

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ui.services.library_registry import LibraryRegistry

_LIBRARY = "FOOTNOTE_LIBRARY"


def ui(
    # Not given to typer as `envvar`: it would take a colon in the folder's name for the end of it.
    library: Annotated[
        list[Path] | None,
        typer.Option(
            "--library",
            "-L",
            metavar="DIR",
            help=f"A library's folder; repeatable.  [env var: {_LIBRARY}]",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="N", help="The port to listen on.")
    ] = 7860,
    auth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Who may sign in: lines name:password.", show_default=False
        ),
    ] = None,
) -> None:
    r"""Open the page, for this machine only.

    It listens on 127.0.0.1, and shows the sample papers when there is no library yet. On any other address it asks
    for a name and a password; they travel as they are, so use it where you trust the network.

    \b
    footnote ui
    footnote ui --library ~/physics --library ~/chemistry --port 8000
    footnote ui --host 0.0.0.0 --auth ~/footnote-users
    """
    from rag import UsageError
    from ui.server.application import check_address, is_loopback, read_users
    from ui.services.library_registry import shelf_of

    users = read_users(auth) if auth else {}
    if not users and not is_loopback(host):
        raise UsageError(
            f"on {host} everybody in the network could read your libraries; say who may sign in with --auth FILE, "
            "which holds lines name:password"
        )
    check_address(host, port)
    if not library and os.environ.get(_LIBRARY):
        library = [Path(os.environ[_LIBRARY])]
    shelf = shelf_of(library or [], any_model=not users)
    if shelf.is_sample(shelf.first):
        typer.echo("footnote: no papers yet; showing the sample papers", err=True)
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # the end that Ctrl-C brings, for service managers
    # What is uploaded or made for downloading is for nobody else on the machine, and goes with this process.
    with tempfile.TemporaryDirectory(prefix="footnote-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = os.environ["GRADIO_TEMP_DIR"] = folder
        _open_page(shelf, host, port, users)
    # Python would wait for a model that still writes, though nobody reads it; what was committed is kept.
    os._exit(0)


def _open_page(shelf: "LibraryRegistry", host: str, port: int, users: dict[str, str]) -> None:
    """Serve the page until it is stopped."""
    from ui.server.application import application, import_gradio, serve

    import_gradio()
    from rag import data_folder
    from ui.app import build, look
    from ui.services.conversations import History

    page = build(
        shelf, History(data_folder() / "conversations.sqlite"), data_folder() / "evaluations"
    )
    app = application(page, host, port, users, **look())
    users.clear()  # only their hashes are needed from now on
    shelf.prepare()
    serve(app, host, port)
