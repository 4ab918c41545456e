"""ASGI application of the page: Gradio behind three middlewares.

Gradio serves more than the page needs and sends no security headers. Every request passes these
middlewares in this order before Gradio sees it:

1. `SecurityHeadersMiddleware` tells the browser what the page may load and run;
2. `AccessMiddleware` refuses foreign host names, requests from other web sites, routes that the
   page does not need and, where there are users, everybody who has not signed in;
3. `BodyLimitMiddleware` stops requests that are too large.

They are plain ASGI, so streams and disconnects pass through. Importing this module does not import
Gradio.
"""

import importlib
import inspect
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.routing import Mount

from ui.server.access import AccessMiddleware
from ui.server.body_limit import MAX_UPLOAD_BYTES, BodyLimitMiddleware
from ui.server.headers import SecurityHeadersMiddleware
from ui.server.listening import is_loopback
from ui.server.login import SIGN_IN_MESSAGE, Clock, LoginGuard

if TYPE_CHECKING:
    import gradio
    from fastapi import FastAPI
    from gradio.routes import App
    from gradio.state_holder import StateHolder

# A session takes half a megabyte; beyond this many, the oldest are dropped.
MAX_SESSIONS = 200
# Following an import or an evaluation occupies a job, though no thread.
MAX_JOBS = 200


def application(
    page: "gradio.Blocks",
    host: str,
    port: int,
    users: Mapping[str, str],
    *,
    clock: Clock = time.monotonic,
    **theme: Any,  # noqa: ANN401 - passed through to gradio
) -> "FastAPI":
    """Return the page as an application for a server that listens on `host` and `port`.

    With `users` (passwords by name, of which only hashes are kept), nothing but the login page is
    served before signing in. `theme` goes to `gradio.mount_gradio_app`: `css_paths`,
    `theme`, `js`. `clock` returns seconds.
    """
    from fastapi import FastAPI
    from gradio import mount_gradio_app

    _harden(page)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    mount_gradio_app(
        app,
        page,
        path="/",
        server_name=host,
        server_port=port,
        auth=LoginGuard(users, clock).check if users else None,
        auth_message=SIGN_IN_MESSAGE if users else None,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        max_file_size=MAX_UPLOAD_BYTES,
        allowed_paths=[],
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        **theme,
    )
    mounted = gradio_app(app)
    mounted.state_holder = _page_sessions(page)
    # The middleware that is added last runs first.
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(
        AccessMiddleware, local_only=is_loopback(host), login_app=mounted if users else None
    )
    app.add_middleware(SecurityHeadersMiddleware)
    return app


def gradio_app(app: "FastAPI") -> "App":
    """Return Gradio's own application, which knows who has signed in."""
    mounts = filter(lambda route: isinstance(route, Mount), app.routes)
    return next(mounts).app  # type: ignore[attr-defined,no-any-return]


def _harden(page: "gradio.Blocks") -> None:
    """Close what Gradio leaves open in a page that it does not launch itself."""
    from gradio import processing_utils

    async def fetch_nothing(url: str, cache_dir: str) -> str:
        raise ValueError(f"{url} is not on this machine; nothing is downloaded to {cache_dir}")

    # Until this is set, Gradio accepts any file of the machine, or a URL, as a value of an event.
    page.has_launched = True
    processing_utils.async_ssrf_protected_download = fetch_nothing
    page.state_session_capacity = MAX_SESSIONS
    page.max_threads = page._queue.max_thread_count = MAX_JOBS


def _page_sessions(page: "gradio.Blocks") -> "StateHolder":
    """Return a session store that keeps only the page's own components.

    For every update Gradio creates a component with a new id, and a session would keep it and its
    value forever: about 0.1 MB per question.
    """
    from gradio.state_holder import SessionState, StateHolder

    class PageSessions(StateHolder):
        """Sessions without components that are not on the page."""

        def __getitem__(self, session_id: str) -> SessionState:
            session = super().__getitem__(session_id)
            for component_id in list(session.blocks_config.blocks):
                if component_id not in page.blocks:
                    session.blocks_config.blocks.pop(component_id, None)
                    session.config_values.pop(component_id, None)
            return session

    sessions = PageSessions()  # type: ignore[no-untyped-call]
    sessions.set_blocks(page)
    return sessions


def import_gradio() -> None:
    """Import Gradio without generating the editor stubs that it writes on each import.

    Generating them takes two fifths of the import (1.6 s instead of 2.9 s on 2 cores). Gradio skips
    a class when Python says that no file defines it.
    """

    def no_file(_: object) -> str:
        raise OSError

    getfile = inspect.getfile
    inspect.getfile = no_file  # type: ignore[assignment]
    try:
        importlib.import_module("gradio")
    finally:
        inspect.getfile = getfile
