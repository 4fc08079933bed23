"""AUTH PLAIN and LOGIN (RFC 4616, RFC 4954): what a client's answers say, whether it is a user, who failed too often.

Knows no protocol that AUTH is part of: SMTP and POP3 bring the answers.
"""

import asyncio
import binascii
import hmac
import time
from base64 import b64decode
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from weakref import WeakValueDictionary

from filterd.mta.config import Users

MECHANISMS = ("PLAIN", "LOGIN")
_MAX_ADDRESSES = 10_000
# Hashes of passwords are made to cost time and memory: guesses must not take all of either.
_AT_ONCE = 2


class AuthError(Exception):
    """This is no answer, or none that can be right."""


class AuthAbortedError(AuthError):
    """The client gave up."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password that somebody gave."""

    login: str
    password: str


async def exchange(mechanism: str, initial: bytes, ask: Callable[[bytes], Awaitable[bytes]]) -> Credentials:
    """Ask for a name and a password. `initial` is what came with the command, `ask` gets the line that answers a
    challenge. Raises AuthError."""
    # RFC 4954 4: "=" is an answer of no octets.
    first = _decoded(b"" if initial == b"=" else initial) if initial else None
    if mechanism == "PLAIN":
        return _plain(_decoded(await ask(b"")) if first is None else first)
    login = _decoded(await ask(b"VXNlcm5hbWU6")) if first is None else first
    return _credentials(login, _decoded(await ask(b"UGFzc3dvcmQ6")))


def _decoded(answer: bytes) -> bytes:
    if answer == b"*":
        raise AuthAbortedError
    try:
        return b64decode(answer, validate=True)
    except binascii.Error:
        raise AuthError("this is no base64") from None


def _plain(answer: bytes) -> Credentials:
    authorize, *rest = answer.split(b"\0")
    # RFC 4616 2. Nobody acts for somebody else here.
    if len(rest) != 2 or authorize not in (b"", rest[0]):
        raise AuthError("this is no answer to PLAIN")
    return _credentials(*rest)


def _credentials(login: bytes, password: bytes) -> Credentials:
    try:
        return Credentials(login.decode(), password.decode())
    except UnicodeDecodeError:
        raise AuthError("name and password are UTF-8") from None


class Gate:
    """Tells users from others, over all connections: an address may fail `limit` times within `span` seconds.

    Of IPv6 a /64 counts as one address. Of very many, those that failed longest ago are forgotten. Its methods belong
    to one event loop.
    """

    def __init__(self, users: Users, limit: int, span: float) -> None:
        self._users = users
        self._limit = limit
        self._span = span
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._threads = ThreadPoolExecutor(_AT_ONCE, "password")

    def closed_to(self, address: str) -> bool:
        """Whether the address has failed too often to try again now."""
        times = self._failures.get(_network(address))
        return times is not None and len(times) >= self._limit and times[0] > time.monotonic() - self._span

    async def lets_in(self, address: str, given: Credentials) -> bool:
        """Whether name and password go together."""
        # One guess of an address after the other: many at once are no more.
        async with self._turns.setdefault(_network(address), asyncio.Lock()):
            if self.closed_to(address):
                return False
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._threads, _is_user, self._users, given)
            if not found:
                self._fail(address)
            return found

    def _fail(self, address: str) -> None:
        key = _network(address)
        times = self._failures.pop(key, None) or deque(maxlen=self._limit)
        times.append(time.monotonic())
        self._failures[key] = times
        if len(self._failures) > _MAX_ADDRESSES:
            self._failures.popitem(last=False)


def _is_user(users: Users, given: Credentials) -> bool:
    if not given.login or not given.login.isprintable():
        return False
    if callable(users):
        return users(given.login, given.password)
    known = users.get(given.login)
    # Compared in constant time, for unknown users too.
    same = hmac.compare_digest((known if known is not None else given.password + "x").encode(), given.password.encode())
    return same and known is not None


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ip_network(f"{parsed}/64", strict=False))
