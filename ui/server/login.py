"""Sign-in: the file of users, password checks, and waiting times after wrong passwords."""

import asyncio
import hashlib
import hmac
import ipaddress
import math
import os
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from starlette.exceptions import HTTPException

from rag.errors import UsageError
from ui.server.access import CLIENT

MAX_FAILED_LOGINS, LOGIN_WAIT_SECONDS = 5, 60
SIGN_IN_MESSAGE = f"Sign in to Footnote. After {MAX_FAILED_LOGINS} wrong passwords, wait a minute."

Clock = Callable[[], float]


def read_users(path: Path) -> dict[str, str]:
    """Return the passwords by user name from a file of `name:password` lines.

    Empty lines and lines that start with # are ignored. Raises `UsageError` for a file that others
    can read and for a malformed line; the message never contains a password.
    """
    users: dict[str, str] = {}
    for number, line in enumerate(_read_private_lines(path), 1):
        if not line.strip() or line.startswith("#"):
            continue
        place = f"{path}, line {number}"
        name, password = _parse_user(line, place)
        if name in users:
            raise UsageError(f"{place}: duplicate name")
        users[name] = password
    if not users:
        raise UsageError(f"no users in {path}; write one name:password per line")
    return users


def _read_private_lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                raise UsageError(
                    f"{path} contains passwords and others can read it; run chmod 600 {path}"
                )
            return file.read().splitlines()
    except (OSError, ValueError) as error:  # ValueError: not text, or an impossible file name
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"cannot read {path}: {reason}") from None


def _parse_user(line: str, place: str) -> tuple[str, str]:
    """Split a line into name and password; errors never quote it, it could be the password."""
    name, colon, password = line.partition(":")
    if not colon:
        raise UsageError(f"{place}: no colon; write name:password")
    for part, value in (("name", name), ("password", password)):
        if not value or value != value.strip():
            raise UsageError(f"{place}: the {part} is missing, or has a space before or after it")
    return name, password


class LoginGuard:
    """Check passwords, and make clients wait after wrong ones."""

    def __init__(self, users: Mapping[str, str], clock: Clock) -> None:
        """Keep hashes of the passwords, in memory only, so each start uses a new salt."""
        self._salt = secrets.token_bytes(16)
        self._hashes = {name: self._hash(password) for name, password in users.items()}
        self._failures = _FailureLog(clock)

    async def check(self, name: str, password: str) -> bool:
        """Return whether a password is correct, after the same time for known and unknown names.

        Failures count for the client's address and for the name, so the limit applies to guesses
        from one address for many names as well as from many addresses for one name. Raises status
        429 with the seconds to wait after too many failures.
        """
        keys = (f"address {_client_network(CLIENT.get())}", f"name {name}")
        seconds = max(map(self._failures.seconds_to_wait, keys))
        if seconds > 0:
            headers = {"Retry-After": str(math.ceil(seconds))}
            raise HTTPException(429, "too many wrong passwords", headers)
        for key in keys:  # counted before the check, so that parallel guesses count as well
            self._failures.add(key)
        given = await asyncio.to_thread(self._hash, password)
        expected = self._hashes.get(name, bytes(len(given)))
        if not hmac.compare_digest(given, expected):
            return False
        for key in keys:
            self._failures.remove_last(key)
        return True

    def _hash(self, password: str) -> bytes:
        """Return the scrypt key of a password (RFC 7914, parameters for interactive logins)."""
        encoded = password.encode("utf-8", "surrogatepass")
        return hashlib.scrypt(encoded, salt=self._salt, n=2**14, r=8, p=1)


class _FailureLog:
    """Times of recent failures by key. Keys share a fixed number of slots, to bound the memory."""

    _SLOTS = 4096

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times: list[deque[float]] = []
        for _ in range(self._SLOTS):
            self._times.append(deque(maxlen=MAX_FAILED_LOGINS))

    def seconds_to_wait(self, key: str) -> float:
        """Return the seconds until a key may try again; 0 means now."""
        times = self._slot(key)
        if len(times) < MAX_FAILED_LOGINS:
            return 0.0
        return max(0.0, times[0] + LOGIN_WAIT_SECONDS - self._clock())

    def add(self, key: str) -> None:
        """Record a failure of a key."""
        self._slot(key).append(self._clock())

    def remove_last(self, key: str) -> None:
        """Forget the last failure of a key."""
        with suppress(IndexError):
            self._slot(key).pop()

    def _slot(self, key: str) -> deque[float]:
        # Python salts the hashes of strings, so nobody can aim at a slot.
        return self._times[hash(key) % self._SLOTS]


def _client_network(address: str) -> str:
    """Return an IPv4 address as it is, or the 64-bit network of an IPv6 address: one household."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if ip.version == 4 else ip.packed[:8].hex()
