"""Limits on the size of requests and uploads."""

import math
import shutil
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException

from ui.server.responses import API, refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_UPLOAD_BYTES = 200 * 1024 * 1024  # all files of one request together
MAX_REQUEST_BYTES = 256 * 1024
# An upload must leave this much disk space for the library.
MIN_FREE_DISK_BYTES = 1 << 30


class BodyLimitMiddleware:
    """Refuse a request as soon as the declared or received length of its body is too large."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"] == f"{API}upload"
        if is_upload and not _has_room_for_upload():
            await refusal(507, "the disk is nearly full")(scope, receive, send)
            return
        limit = MAX_UPLOAD_BYTES if is_upload else MAX_REQUEST_BYTES
        too_large = refusal(413, f"the request is too large; the limit is {limit / 1024**2:g} MB")
        if _declared_length(scope) > limit:
            await too_large(scope, receive, send)
            return
        body = _LimitedBody(receive, send, limit)
        with suppress(MultiPartException):
            await self._app(scope, body.receive, body.send)
        if body.is_too_large and not body.is_answered:
            await too_large(scope, receive, send)


def _has_room_for_upload() -> bool:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return free >= MIN_FREE_DISK_BYTES + MAX_UPLOAD_BYTES


def _declared_length(scope: "Scope") -> float:
    """Return the declared length of a request in bytes; infinity when it is malformed."""
    declared = Headers(scope=scope).get("content-length", "0")
    return int(declared) if declared.isascii() and declared.isdigit() else math.inf


class _LimitedBody:
    """Body of one request, counted while it arrives."""

    def __init__(self, receive: "Receive", send: "Send", limit: int) -> None:
        self._receive = receive
        self._send = send
        self._bytes_left = limit
        self._expects_more = False
        self.is_too_large = False
        self.is_answered = False

    async def receive(self) -> "Message":
        """Return the next piece of the body.

        A body that breaks off or grows too large is reported as a malformed form: only after this
        error does Gradio delete the files that it has already stored.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect" and self._expects_more:
            raise MultiPartException("the connection was closed")
        self._bytes_left -= len(message.get("body", b""))
        if self._bytes_left < 0:
            self.is_too_large = True
            raise MultiPartException("too large")
        self._expects_more = message.get("more_body", False)
        return message

    async def send(self, message: "Message") -> None:
        """Pass a response on, except Gradio's own response to a body that is too large."""
        if self.is_answered or not self.is_too_large:
            self.is_answered = True
            await self._send(message)
