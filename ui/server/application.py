"""The server of the page: gradio inside an application of our own, which says who may ask it for what.

Gradio serves far more than a page needs, to whoever asks, and says nothing to the browser about safety. So every
request passes these, in this order, before gradio sees it:

1. `_Headers` tells the browser what the page may load and run;
2. `_Gate` refuses names that are not this machine's, requests that other web sites make, routes that the page does
   not need, and, where there are users, everybody who has not signed in;
3. `_BodyLimit` stops what is too large.

They are plain ASGI, so that streams and their ends pass through. Importing this module does not import gradio.
"""

import asyncio
import base64
import errno
import hashlib
import hmac
import importlib
import inspect
import ipaddress
import logging
import math
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.routing import Mount
from uvicorn.protocols.http.h11_impl import H11Protocol

from rag import UsageError

if TYPE_CHECKING:
    import gradio
    from fastapi import FastAPI
    from gradio.routes import App
    from gradio.state_holder import StateHolder
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_UPLOAD = 200 * 1024 * 1024  # bytes, all files of one request together
LARGEST_REQUEST = 256 * 1024
# What uploads leave of the disk, for the library needs some; in bytes.
_LEFT_ON_DISK = 1 << 30
# Of the thousand files and connections that most systems allow a process.
_MOST_CONNECTIONS = 256
_FAILED_LOGINS, _LOGIN_SECONDS = 5, 60
_MOST_SESSIONS = 200
_MOST_JOBS = 200
_SECONDS_TO_END = 1

# What the page and the one who asks over HTTP need; whatever else gradio offers, now or in a later version, is closed.
_API = "/gradio_api/"
_OPEN = frozenset(
    ["/", "/login", "/logout", "/config", "/theme.css", "/favicon.ico", "/manifest.json"]
) | {
    _API + name
    for name in "app_id cancel info openapi.json queue/data queue/join reset run/predict upload upload_progress".split()
}
_OPEN_BELOW = ("/assets/", "/static/", f"{_API}call/", f"{_API}file=", f"{_API}heartbeat/")
# What the page where one signs in needs: nothing of it tells of the library.
_LOGIN_PAGE = frozenset(["/", "/login", "/theme.css", "/favicon.ico", "/manifest.json"])
_LOGIN_PAGE_BELOW = ("/assets/", "/static/")

_OWN_NAME = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
_INLINE_SCRIPT = re.compile(
    rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE
)
# Gradio compiles parts of its own page as it runs ('unsafe-eval') and styles elements one by one ('unsafe-inline').
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'{hashes}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; frame-src 'self'; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_SIGN_IN = f"Sign in to Footnote. After {_FAILED_LOGINS} wrong passwords, wait a minute."

Clock = Callable[[], float]
# The address of the client whose request is being served: gradio tells a login function only name and password.
_CLIENT: ContextVar[str] = ContextVar("client", default="")


def application(
    page: "gradio.Blocks",
    host: str,
    port: int,
    users: Mapping[str, str],
    *,
    clock: Clock = time.monotonic,
    **look: Any,  # noqa: ANN401 - passed through to gradio
) -> "FastAPI":
    """The page as an application for a server that listens on `host` and `port`.

    `users`: names and passwords; with them, nothing but the page where one signs in is shown to others. Of the
    passwords only hashes are kept. `look`: what `gradio.mount_gradio_app` takes for the looks of a page, such as
    `css`, `theme`, `favicon_path`. `clock` counts seconds.
    """
    from fastapi import FastAPI
    from gradio import mount_gradio_app

    _shut(page)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    mount_gradio_app(
        app,
        page,
        path="/",
        server_name=host,
        server_port=port,
        auth=_Logins(users, clock).check if users else None,
        auth_message=_SIGN_IN if users else None,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        max_file_size=LARGEST_UPLOAD,
        allowed_paths=[],
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        **look,
    )
    _mounted(app).state_holder = _sessions(page)
    # The one that is added last is asked first.
    app.add_middleware(_BodyLimit)
    app.add_middleware(
        _Gate, own_names_only=is_loopback(host), login_of=_mounted(app) if users else None
    )
    app.add_middleware(_Headers)
    return app


def _shut(page: "gradio.Blocks") -> None:
    """Close what gradio leaves open in a page that it does not launch itself."""
    from gradio import processing_utils

    async def fetch_nothing(url: str, cache_dir: str) -> str:
        raise ValueError(f"{url} is elsewhere; nothing is fetched from there into {cache_dir}")

    # A file that an event is given may be any of this machine, or an address, until gradio is told to look.
    page.has_launched = True
    processing_utils.async_ssrf_protected_download = fetch_nothing
    # Each session holds half a megabyte; the oldest are forgotten.
    page.state_session_capacity = _MOST_SESSIONS
    # Whoever watches an adding or an evaluation holds a place among the jobs, though no thread.
    page.max_threads = page._queue.max_thread_count = _MOST_JOBS


def _sessions(page: "gradio.Blocks") -> "StateHolder":
    """Sessions that hold what the page is made of and nothing besides.

    With every update gradio makes a component anew, under a new number, and under that the session would keep it for
    good, with its value: a tenth of a megabyte for a question.
    """
    from gradio.state_holder import SessionState, StateHolder

    class Sessions(StateHolder):
        def __getitem__(self, session_id: str) -> SessionState:
            session = super().__getitem__(session_id)
            for number in [
                one for one in list(session.blocks_config.blocks) if one not in page.blocks
            ]:
                session.blocks_config.blocks.pop(number, None)
                session.config_values.pop(number, None)
            return session

    sessions = Sessions()  # type: ignore[no-untyped-call]
    sessions.set_blocks(page)
    return sessions


def import_gradio() -> None:
    """Import gradio without the stubs for editors that it writes beside its modules each time.

    To make them takes two fifths of the import (1.6 s instead of 2.9 s on 2 cores), and it leaves out a class when
    Python says that no file holds it. Imported in any other way, gradio works as well.
    """

    def no_file(_: object) -> str:
        raise OSError

    getfile = inspect.getfile
    inspect.getfile = no_file  # type: ignore[assignment]
    try:
        importlib.import_module("gradio")
    finally:
        inspect.getfile = getfile


def serve(app: "ASGIApp", host: str, port: int) -> None:
    """Serve an application until it is interrupted; port 0 is any free one.

    Raises `UsageError` for a port that is taken and an address that this machine does not have.
    """
    listening = _listening(host, port)
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        http=_Connection,
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_SECONDS_TO_END,
    )
    with listening, suppress(KeyboardInterrupt):
        _Server(config, _address(host, listening.getsockname()[1])).run([listening])


def check_address(host: str, port: int) -> None:
    """Raise `UsageError` when `serve` could not listen there."""
    _listening(host, port).close()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. A name other than localhost may mean any machine."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_users(path: Path) -> dict[str, str]:
    """Passwords by name from a file with lines `name:password`; lines that begin with # and empty ones say nothing.

    Raises `UsageError` for a file that others may read and for a line that means nothing; it never shows a password.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                raise UsageError(
                    f"{path} holds passwords and others may read it; chmod 600 {path} mends that"
                )
            lines = file.read().splitlines()
    except (OSError, ValueError) as error:  # ValueError: no text, or a name that no file can have
        raise UsageError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}"
        ) from None
    users: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            name, password = _user(line, f"{path}, line {number}")
            if name in users:
                raise UsageError(f"{path}, line {number}: a name that was there before")
            users[name] = password
    if not users:
        raise UsageError(f"{path} names nobody; write lines name:password")
    return users


def _user(line: str, where: str) -> tuple[str, str]:
    """Name and password of a line. What is wrong is told without a word of it, for it may be the password."""
    name, colon, password = line.partition(":")
    if not colon:
        raise UsageError(f"{where}: no colon; write name:password")
    if not name or name != name.strip():
        raise UsageError(f"{where}: a name is missing, or has a blank before or after it")
    if not password or password != password.strip():
        raise UsageError(f"{where}: a password is missing, or has a blank before or after it")
    return name, password


# --- listening --------------------------------------------------------------------------------------------------


def _listening(host: str, port: int) -> socket.socket:
    no_address = UsageError(f"this machine has no address '{host}' to listen on")
    if not host:  # to sockets, every address
        raise no_address
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} is taken; name another one with --port") from None
        if error.errno == errno.EACCES:
            raise UsageError(
                f"port {port} is not for everybody; name one above 1023 with --port"
            ) from None
        raise no_address from None
    except (TypeError, UnicodeError):  # what cannot be the name of a machine
        raise no_address from None


def _address(host: str, port: int) -> str:
    """What a browser is told; an address that means all of this machine's is shown as its name."""
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not listened on
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


class _Connection(H11Protocol):
    """Of the protocols that uvicorn has, the one that refuses endless headers and two names of the server: h11.

    One address gets so many connections at most: who holds all of them, however slowly, keeps others out no more.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        own = [
            one
            for one in self.connections
            if isinstance(one, _Connection) and one.address == self.address
        ]
        if len(own) > _MOST_CONNECTIONS:
            transport.close()

    @property
    def address(self) -> str:
        return self.client[0] if self.client else ""


class _Server(uvicorn.Server):
    """Says where it is once it listens, and ends without a word about the connections that it had to cut."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"Footnote is at {self._address} (Ctrl+C stops it)", flush=True)  # noqa: T201 - for the terminal

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        await super().shutdown(sockets)


def _mounted(app: "FastAPI") -> "App":
    """Gradio's own application, which knows who has signed in."""
    return next(route.app for route in app.routes if isinstance(route, Mount))  # type: ignore[return-value]


# --- what the browser is told -----------------------------------------------------------------------------------


class _Headers:
    """Says with every response what the page may load and run: nothing from elsewhere, and its own scripts only."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held: list[Message] = []

        async def told(message: "Message") -> None:
            if message["type"] == "http.response.start":
                _tell(message)
                if not _is_html(message):
                    await send(message)
                    return
            elif not held:
                await send(message)
                return
            # The page: which scripts stand in it is known at its end.
            held.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                _allow_scripts(held[0], b"".join(part.get("body", b"") for part in held[1:]))
                for part in held:
                    await send(part)
                held.clear()

        await self._app(scope, receive, told)


def _tell(start: MutableMapping[str, Any]) -> None:
    # Gradio lets the cookie of those who have signed in go along with what other web sites ask for.
    start["headers"] = [
        (name, value.replace(b"SameSite=none", b"SameSite=lax")) for name, value in start["headers"]
    ]
    headers = MutableHeaders(scope=start)
    headers["Content-Security-Policy"] = _POLICY.format(hashes="")
    for name, value in _HEADERS.items():
        headers[name] = value
    if _is_html(start):
        headers["Cache-Control"] = "no-store"  # a kept page and a new policy would not fit


def _is_html(start: MutableMapping[str, Any]) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith("text/html")


def _allow_scripts(start: MutableMapping[str, Any], page: bytes) -> None:
    """Allow the scripts that stand in the page itself by their digests, as CSP Level 3 describes."""
    digests = [
        base64.b64encode(hashlib.sha256(script).digest()).decode()
        for script in _INLINE_SCRIPT.findall(page)
    ]
    hashes = "".join(f" 'sha256-{digest}'" for digest in digests)
    MutableHeaders(scope=start)["Content-Security-Policy"] = _POLICY.format(hashes=hashes)


# --- who may ask for what ---------------------------------------------------------------------------------------


class _Gate:
    """Answers what must not reach gradio, before anything of the request's body is read."""

    def __init__(self, app: "ASGIApp", own_names_only: bool, login_of: "App | None") -> None:
        self._app = app
        self._own_names_only = own_names_only
        self._login_of = login_of

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "http":
            refusal = self._refusal(HTTPConnection(scope))
            if refusal:
                await refusal(scope, receive, send)
                return
            scope = dict(
                scope, headers=[pair for pair in scope["headers"] if not _misleads(pair[0])]
            )
            _CLIENT.set(scope["client"][0] if scope["client"] else "")
        if scope["type"] in ("http", "lifespan"):
            await self._app(scope, receive, send)

    def _refusal(self, request: HTTPConnection) -> JSONResponse | None:
        path = request.scope["path"]
        if self._own_names_only and not _OWN_NAME.fullmatch(request.headers.get("host", "")):
            # Another name that leads here is a web site that wants to be taken for the page (DNS rebinding).
            return _answer(
                421, "this page is for this machine only, and goes by localhost or 127.0.0.1"
            )
        if _is_foreign(request):
            return _answer(403, "another web site asked for this")
        if not _is_open(path):
            return _answer(404, "not found")
        if self._login_of and not _shows_login(path) and not _is_signed_in(request, self._login_of):
            return _answer(401, "sign in first")
        return None


def _answer(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)


def _is_foreign(request: HTTPConnection) -> bool:
    """Whether another web site makes the request; a link from there to the page is as good as a typed address.

    Browsers name the origin of whatever could change something, and most say of every request where it comes from
    (Fetch Metadata Request Headers).
    """
    headers, scope = request.headers, request.scope
    own = f"{scope['scheme']}://{headers.get('host', '')}".lower()
    if any(origin.lower() != own for origin in headers.getlist("origin")):
        return True
    if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return False
    follows_link = (
        scope["method"] in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
    )
    return not (follows_link and scope["path"] == "/")


def _is_open(path: str) -> bool:
    """Whether the page needs a route; of files, only those on this machine."""
    return path in _OPEN or (path.startswith(_OPEN_BELOW) and "://" not in path)


def _shows_login(path: str) -> bool:
    return path in _LOGIN_PAGE or path.startswith(_LOGIN_PAGE_BELOW)


def _is_signed_in(request: HTTPConnection, login_of: "App") -> bool:
    """Whether one of gradio's two cookies, for https and for http, holds a token that it gave."""
    names = (f"access-token-{login_of.cookie_id}", f"access-token-unsecure-{login_of.cookie_id}")
    return any(request.cookies.get(name) in login_of.tokens for name in names)


def _misleads(name: bytes) -> bool:
    """Whether gradio would take a header wrongly.

    It believes those of a proxy, and there is none; and it answers a range of a file with the headers of the request.
    """
    return name.startswith(b"x-forwarded-") or name in (b"x-gradio-server", b"range")


# --- how much ---------------------------------------------------------------------------------------------------


class _BodyLimit:
    """Refuses a request whose body is too large: as soon as it says so, or else as soon as it is."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"] == f"{_API}upload"
        if (
            is_upload
            and shutil.disk_usage(tempfile.gettempdir()).free < _LEFT_ON_DISK + LARGEST_UPLOAD
        ):
            await _answer(507, "the disk is nearly full")(scope, receive, send)
            return
        limit = LARGEST_UPLOAD if is_upload else LARGEST_REQUEST
        refusal = _answer(413, f"more than {limit / 1024**2:g} MB at once")
        if _declared_length(scope) > limit:
            await refusal(scope, receive, send)
            return
        body = _Body(receive, send, limit)
        with suppress(MultiPartException):
            await self._app(scope, body.receive, body.send)
        if body.is_too_large and not body.is_answered:
            await refusal(scope, receive, send)


def _declared_length(scope: "Scope") -> float:
    """The length that a request says it has; one that makes no sense is endless."""
    declared = Headers(scope=scope).get("content-length", "0")
    return int(declared) if declared.isascii() and declared.isdigit() else math.inf


class _Body:
    """One request, counted while it comes in."""

    def __init__(self, receive: "Receive", send: "Send", limit: int) -> None:
        self._receive = receive
        self._send = send
        self._left = limit
        self._more_is_to_come = False
        self.is_too_large = False
        self.is_answered = False

    async def receive(self) -> "Message":
        """The next piece. Where the body ends too early or too late, gradio is told so as of a malformed form.

        That is the one error after which it deletes what it has stored of the files.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect" and self._more_is_to_come:
            raise MultiPartException("the connection broke off")
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.is_too_large = True
            raise MultiPartException("too large")
        self._more_is_to_come = message.get("more_body", False)
        return message

    async def send(self, message: "Message") -> None:
        """Pass a response on, but for what gradio says to a body that is too large."""
        if self.is_answered or not self.is_too_large:
            self.is_answered = True
            await self._send(message)


# --- signing in -------------------------------------------------------------------------------------------------


class _Logins:
    """Who may sign in; who guesses has to wait."""

    def __init__(self, users: Mapping[str, str], clock: Clock) -> None:
        """Keep hashes of the passwords; the salt is new with each start, for they are never stored."""
        self._salt = secrets.token_bytes(16)
        self._hashes = {name: self._hash(password) for name, password in users.items()}
        self._failures = _Failures(clock)

    async def check(self, name: str, password: str) -> bool:
        """Whether it is the password of that name, in the same time whether there is the name or not.

        Failures count for the client's address and for the name: neither many names from one address nor many
        addresses for one name get further. Raises status 429 with the seconds to wait after too many.
        """
        keys = (f"address {_neighbourhood(_CLIENT.get())}", f"name {name}")
        wait = max(map(self._failures.wait, keys))
        if wait > 0:
            raise HTTPException(
                429, "too many wrong passwords", {"Retry-After": str(math.ceil(wait))}
            )
        for key in keys:  # before the work, so that guesses made at once count as well
            self._failures.add(key)
        given = await asyncio.to_thread(self._hash, password)
        if not hmac.compare_digest(given, self._hashes.get(name, bytes(len(given)))):
            return False
        for key in keys:
            self._failures.take_back(key)
        return True

    def _hash(self, password: str) -> bytes:
        """The scrypt key of a password (RFC 7914), with the parameters of its section 2 for interactive logins."""
        return hashlib.scrypt(
            password.encode("utf-8", "surrogatepass"), salt=self._salt, n=2**14, r=8, p=1
        )


class _Failures:
    """When something failed lately, for each key, in constant memory: keys share a fixed number of places."""

    _PLACES = 4096

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times: list[deque[float]] = [
            deque(maxlen=_FAILED_LOGINS) for _ in range(self._PLACES)
        ]

    def wait(self, key: str) -> float:
        """Seconds until the next attempt, 0 for now."""
        times = self._of(key)
        return (
            max(0.0, times[0] + _LOGIN_SECONDS - self._clock())
            if len(times) == times.maxlen
            else 0.0
        )

    def add(self, key: str) -> None:
        self._of(key).append(self._clock())

    def take_back(self, key: str) -> None:
        """Forget the last failure of a key."""
        with suppress(IndexError):
            self._of(key).pop()

    def _of(self, key: str) -> deque[float]:
        return self._times[
            hash(key) % self._PLACES
        ]  # Python salts the hashes of texts: nobody can aim at a place


def _neighbourhood(address: str) -> str:
    """An address, or for IPv6 the network of 64 bits that one household has to itself."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if ip.version == 4 else ip.packed[:8].hex()
