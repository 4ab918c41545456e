"""Listening on an address, with a limit on connections per client."""

import asyncio
import errno
import ipaddress
import logging
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from rag.errors import UsageError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

# A quarter of the 1,024 open files that most systems allow a process.
MAX_CONNECTIONS_PER_CLIENT = 256
_SHUTDOWN_SECONDS = 1


def serve(app: "ASGIApp", host: str, port: int) -> None:
    """Serve an application until it is interrupted; port 0 picks a free port.

    Raises `UsageError` for a port that is in use and an address that this machine does not have.
    """
    listener = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        http=_LimitedConnection,
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    with listener, suppress(KeyboardInterrupt):
        _Server(config, _url(host, listener.getsockname()[1])).run([listener])


def check_address(host: str, port: int) -> None:
    """Raise `UsageError` if `serve` could not listen on an address."""
    _listen(host, port).close()


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address; only localhost counts as a name."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    no_such_address = UsageError(
        f"cannot listen on '{host}': this machine has no such address; choose another --host"
    )
    if not host:  # sockets would listen on every address
        raise no_such_address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} is in use; choose another one with --port") from None
        if error.errno == errno.EACCES:
            message = f"port {port} is reserved for root; choose one above 1023 with --port"
            raise UsageError(message) from None
        raise no_such_address from None
    except (TypeError, UnicodeError):  # not a possible host name
        raise no_such_address from None


def _url(host: str, port: int) -> str:
    """Return the URL of the page, with the host name in place of a wildcard address."""
    is_wildcard = host in ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on
    name = socket.gethostname() if is_wildcard else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


class _LimitedConnection(H11Protocol):
    """HTTP connection, a limited number per client. h11 refuses malformed and endless headers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close the connection at once when its client has too many."""
        super().connection_made(transport)
        count = 0
        for connection in self.connections:
            if isinstance(connection, _LimitedConnection):
                count += connection.address == self.address
        if count > MAX_CONNECTIONS_PER_CLIENT:
            transport.close()

    @property
    def address(self) -> str:
        """Address of the client."""
        return self.client[0] if self.client else ""


class _Server(uvicorn.Server):
    """Server that prints its URL, and shuts down without messages about open connections."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and print the URL once the server listens."""
        await super().startup(sockets)
        if self.started:
            message = f"Footnote is running at {self._url} (Ctrl+C stops it)"
            print(message, flush=True)  # noqa: T201 - for the terminal

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down quietly."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        await super().shutdown(sockets)
