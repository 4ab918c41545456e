"""`footnote ui`: serve the page. Heavy modules are imported only when the command runs."""

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ui.services.library_registry import LibraryRegistry

_LIBRARY_VARIABLE = "FOOTNOTE_LIBRARY"


def ui(
    # Not typer's `envvar`, which would split a path at its colons.
    library: Annotated[
        list[Path] | None,
        typer.Option(
            "--library",
            "-L",
            metavar="DIR",
            help=f"Folder of a library; repeatable.  [env var: {_LIBRARY_VARIABLE}]",
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = (
        "127.0.0.1"
    ),
    port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="N", help="Port to listen on.")
    ] = 7860,
    auth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of users who may sign in, one name:password per line.",
            show_default=False,
        ),
    ] = None,
) -> None:
    r"""Open the page in a browser, by default for this machine only.

    The page listens on 127.0.0.1 and shows the sample papers until there is a library. On any other
    address users have to sign in. Passwords are sent unencrypted, so use it only on networks that
    you trust.

    \b
    footnote ui
    footnote ui --library ~/physics --library ~/chemistry --port 8000
    footnote ui --host 0.0.0.0 --auth ~/footnote-users
    """
    from rag.errors import UsageError
    from ui.server.listening import check_address, is_loopback
    from ui.server.login import read_users
    from ui.services.library_registry import open_registry

    users = read_users(auth) if auth else {}
    if not users and not is_loopback(host):
        raise UsageError(
            f"anyone on the network could read your libraries on {host}; "
            "require sign-in with --auth FILE, one name:password per line"
        )
    check_address(host, port)
    folders = library or []
    if not folders and os.environ.get(_LIBRARY_VARIABLE):
        folders = [Path(os.environ[_LIBRARY_VARIABLE])]
    registry = open_registry(folders, any_model=not users)
    if registry.is_sample(registry.first):
        typer.echo("footnote: no papers yet; showing the sample papers", err=True)
    # Service managers stop a process with SIGTERM; handle it like Ctrl+C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Uploads and downloads are private to this user and are deleted with the process.
    with tempfile.TemporaryDirectory(prefix="footnote-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = os.environ["GRADIO_TEMP_DIR"] = folder
        _serve_page(registry, host, port, users)
    # A normal exit would wait for a model that is still generating. All data is committed already.
    os._exit(0)


def _serve_page(registry: "LibraryRegistry", host: str, port: int, users: dict[str, str]) -> None:
    """Serve the page until it is stopped."""
    from ui.server.application import application, import_gradio
    from ui.server.listening import serve

    import_gradio()
    from rag.config import data_folder
    from ui.app import build_page, theme
    from ui.services.conversations import ConversationStore

    conversations = ConversationStore(data_folder() / "conversations.sqlite")
    page = build_page(registry, conversations, data_folder() / "evaluations")
    app = application(page, host, port, users, **theme())
    users.clear()  # from now on only their hashes are needed
    registry.prepare()
    serve(app, host, port)
