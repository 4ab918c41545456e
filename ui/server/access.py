"""Access rules: which requests reach Gradio at all.

Gradio serves far more routes than the page needs. Here every route is closed unless it is listed.
"""

import re
from contextvars import ContextVar
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from ui.server.responses import API, refusal

if TYPE_CHECKING:
    from gradio.routes import App
    from starlette.types import ASGIApp, Receive, Scope, Send

_PAGE_PATHS = ["/", "/login", "/logout", "/config", "/theme.css", "/favicon.ico", "/manifest.json"]
_API_CALLS = [
    "app_id",
    "cancel",
    "info",
    "openapi.json",
    "queue/data",
    "queue/join",
    "reset",
    "run/predict",
    "upload",
    "upload_progress",
]
_OPEN_PATHS = frozenset([*_PAGE_PATHS, *[API + name for name in _API_CALLS]])
_OPEN_PREFIXES = ("/assets/", "/static/", f"{API}call/", f"{API}file=", f"{API}heartbeat/")
# The login page needs only these; none of them reveals anything about the library.
_LOGIN_PAGE_PATHS = frozenset(["/", "/login", "/theme.css", "/favicon.ico", "/manifest.json"])
_LOGIN_PAGE_PREFIXES = ("/assets/", "/static/")
_LOCAL_HOST = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.IGNORECASE)

# Address of the client whose request is being served. Gradio passes a login function only the name
# and the password.
CLIENT: ContextVar[str] = ContextVar("client", default="")


class AccessMiddleware:
    """Refuse requests that must not reach Gradio, before reading any of their body."""

    def __init__(self, app: "ASGIApp", local_only: bool, login_app: "App | None") -> None:
        self._app = app
        self._local_only = local_only
        self._login_app = login_app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request. Ignore everything but HTTP and the application's own lifespan."""
        if scope["type"] == "http":
            refused = self._refusal(HTTPConnection(scope))
            if refused:
                await refused(scope, receive, send)
                return
            headers = [pair for pair in scope["headers"] if not _is_misleading(pair[0])]
            scope = dict(scope, headers=headers)
            CLIENT.set(scope["client"][0] if scope["client"] else "")
        if scope["type"] in ("http", "lifespan"):
            await self._app(scope, receive, send)

    def _refusal(self, request: HTTPConnection) -> JSONResponse | None:
        path = request.scope["path"]
        if self._local_only and not _LOCAL_HOST.fullmatch(request.headers.get("host", "")):
            # A foreign name that resolves to this machine is a DNS rebinding attack.
            detail = "this page is for this machine only; open it as localhost or 127.0.0.1"
            return refusal(421, detail)
        if _is_cross_site(request):
            return refusal(403, "another web site sent this request")
        if not _is_open(path):
            return refusal(404, "not found")
        if self._login_app and not _is_login_page(path):
            return (
                None if _is_signed_in(request, self._login_app) else refusal(401, "sign in first")
            )
        return None


def _is_cross_site(request: HTTPConnection) -> bool:
    """Return whether another web site sent a request; following a link to the page is allowed.

    Browsers send `Origin` with every request that could change something, and most send
    `Sec-Fetch-Site` with all requests (Fetch Metadata Request Headers).
    """
    headers, scope = request.headers, request.scope
    own_origin = f"{scope['scheme']}://{headers.get('host', '')}".lower()
    for origin in headers.getlist("origin"):
        if origin.lower() != own_origin:
            return True
    if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return False
    is_navigation = headers.get("sec-fetch-mode") == "navigate"
    follows_link = scope["method"] in ("GET", "HEAD") and is_navigation
    return not (follows_link and scope["path"] == "/")


def _is_open(path: str) -> bool:
    """Return whether the page needs a route. A file must not be a URL, which Gradio would fetch."""
    return path in _OPEN_PATHS or (path.startswith(_OPEN_PREFIXES) and "://" not in path)


def _is_login_page(path: str) -> bool:
    return path in _LOGIN_PAGE_PATHS or path.startswith(_LOGIN_PAGE_PREFIXES)


def _is_signed_in(request: HTTPConnection, login_app: "App") -> bool:
    """Return whether a cookie, of HTTPS or of HTTP, holds a token that Gradio issued."""
    for kind in ("access-token", "access-token-unsecure"):
        if request.cookies.get(f"{kind}-{login_app.cookie_id}") in login_app.tokens:
            return True
    return False


def _is_misleading(header: bytes) -> bool:
    """Return whether Gradio would misuse a header.

    It trusts proxy headers although there is no proxy, and it copies the request's headers into its
    response when a range of a file is requested.
    """
    return header.startswith(b"x-forwarded-") or header in (b"x-gradio-server", b"range")
