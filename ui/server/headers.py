"""Security headers: the page loads nothing from elsewhere and runs only its own scripts."""

import base64
import hashlib
import re
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_INLINE_SCRIPT = re.compile(
    rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE
)
# Gradio compiles parts of its page at run time ('unsafe-eval') and sets inline styles
# ('unsafe-inline').
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'{hashes}; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; frame-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class SecurityHeadersMiddleware:
    """Add security headers to every response, and allow the inline scripts of HTML pages."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request."""
        if scope["type"] == "http":
            await self._app(scope, receive, _Response(send).send)
        else:
            await self._app(scope, receive, send)


class _Response:
    """Response that is sent at once, except an HTML page: its header needs the page's scripts."""

    def __init__(self, send: "Send") -> None:
        self._send = send
        self._held_messages: list[Message] = []

    async def send(self, message: "Message") -> None:
        """Send a message of the response, or hold it back until the page is complete."""
        starts = message["type"] == "http.response.start"
        if starts:
            _set_headers(message)
        if not self._held_messages and not (starts and _is_html(message)):
            await self._send(message)
            return
        self._held_messages.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            await self._release()

    async def _release(self) -> None:
        start, *parts = self._held_messages
        page = b"".join([part.get("body", b"") for part in parts])
        _allow_scripts(start, page)
        for message in self._held_messages:
            await self._send(message)
        self._held_messages.clear()


def _set_headers(start: MutableMapping[str, Any]) -> None:
    # Gradio lets browsers send the session cookie with requests from other web sites, too.
    start["headers"] = [
        (name, value.replace(b"SameSite=none", b"SameSite=lax")) for name, value in start["headers"]
    ]
    headers = MutableHeaders(scope=start)
    headers["Content-Security-Policy"] = _POLICY.format(hashes="")
    for name, value in _HEADERS.items():
        headers[name] = value
    if _is_html(start):
        headers["Cache-Control"] = "no-store"  # a cached page would not match a new policy


def _is_html(start: MutableMapping[str, Any]) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith("text/html")


def _allow_scripts(start: MutableMapping[str, Any], page: bytes) -> None:
    """Allow the inline scripts of a page by their digests (Content Security Policy Level 3)."""
    hashes = ""
    for script in _INLINE_SCRIPT.findall(page):
        digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
        hashes += f" 'sha256-{digest}'"
    MutableHeaders(scope=start)["Content-Security-Policy"] = _POLICY.format(hashes=hashes)
