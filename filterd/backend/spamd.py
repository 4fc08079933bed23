"""SpamAssassin's spamd: asked while everything else goes on, by one asyncio loop in a thread of its own.

Several servers are tried in their order, each for its share of the time. One that fails is shown no mail until it
answers a PING again, so that its death costs one deadline and not one a mail. Replies are input like any other:
bounded, and a malformed one is that server's failure.
"""

import asyncio
import re
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as WaitTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from math import isfinite
from pathlib import Path

from aiospamc.client import Client
from aiospamc.connections import ConnectionManager, TcpConnectionManager, Timeout, UnixConnectionManager
from aiospamc.exceptions import AIOSpamcConnectionFailed, BadResponse, ClientTimeoutException
from aiospamc.header_values import UserValue
from aiospamc.requests import Request
from aiospamc.responses import Response, ResponseException, ServerTimeoutException
from loguru import logger

from filterd.backend.waiting import about_to_wait
from filterd.mail.message import split
from filterd.mail.reason import Reason
from filterd.spam import SpamCode, SpamResult

# It tells of every call, on standard error.
logger.disable("aiospamc")

_MAX_REPLY = 256 * 1024
_MAX_FIELDS = 20
_MAX_VALUE = 4000
_MAX_SYMBOLS = 200
_CONNECT = 3.0
# The loop ends a scan in time, and notes whose fault it was; only a loop that hangs is not waited for.
_LATE = 1.0
# How long a server is left alone after so many failures in a row, in seconds, before it is asked whether it is there.
_DELAYS = (1.0, 2.0, 5.0, 10.0)
_TESTS = re.compile(r"\btests=([A-Za-z0-9_,\s]*)")
_UNPRINTABLE = re.compile(r"[^ -~]")
# The library's parsers let some of these through on garbage.
_GARBAGE = (BadResponse, ValueError, KeyError, AttributeError, TypeError)
_FAULTS = (*_GARBAGE, TimeoutError, AIOSpamcConnectionFailed, OSError, ResponseException)


@dataclass(frozen=True, slots=True)
class SpamdAddress:
    """Where a spamd listens: a unix socket's path, or a host and port, with TLS or without."""

    path: str | None = None
    host: str = "127.0.0.1"
    port: int = 783
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{'inets' if self.tls else 'inet'}:{self.port}@{self.host}"


class _Server:
    """One spamd and how it fares. `failures` are those since it last said what it thinks of a mail."""

    def __init__(self, address: SpamdAddress, timeout: float) -> None:
        self.address = address
        self.client = Client(_connections(address, Timeout(timeout, min(_CONNECT, timeout))))
        self.failures = 0
        self._waking: asyncio.Task[None] | None = None

    @property
    def away(self) -> bool:
        """Whether it is left alone."""
        return self._waking is not None

    def failed(self) -> None:
        """Leave it alone until it answers. Mails that were shown to it at once count once."""
        if self._waking is None:
            self.failures += 1
            self._waking = asyncio.create_task(self._awake())

    async def _awake(self) -> None:
        for failures in count(self.failures):
            await asyncio.sleep(_DELAYS[min(failures, len(_DELAYS)) - 1])
            with suppress(*_FAULTS):
                await asyncio.wait_for(self.client.request(Request("PING")), _CONNECT)
                break
        self._waking = None


class Scan:
    """A mail that is being scanned."""

    def __init__(self, found: "Future[SpamResult]", deadline: float) -> None:
        self._found = found
        self._deadline = deadline

    def result(self) -> SpamResult:
        """What was found, at the latest when the time is over."""
        if not self._found.done():
            about_to_wait()
        try:
            return self._found.result(max(0.0, self._deadline - time.monotonic()) + _LATE)
        except (WaitTimeoutError, CancelledError):
            return SpamResult(SpamCode.TEMPERROR, reason=Reason.SPAM_TIMEOUT)


class Spamd:
    """A process's way to spamd. Starts no thread before `start`, so that it can be made before a fork.

    `timeout` is the time in seconds that one mail may take, whichever servers are tried. `report` hears when no server
    can say any more, and why, and when one can again, and which.
    """

    def __init__(self, addresses: Sequence[SpamdAddress], timeout: float, report: Callable[[bool, str], None]) -> None:
        self._servers = [_Server(address, timeout) for address in addresses]
        self._timeout = timeout
        self._report = report
        self._away = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to scan."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="spamd", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; scans under way end in temperror."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()

    def begin(self, mail: bytes, user: str | None) -> Scan:
        """Scan a whole mail, by the preferences of `user` where one is named."""
        loop = self._loop
        deadline = time.monotonic() + self._timeout
        if loop is None:
            done: Future[SpamResult] = Future()
            done.set_result(SpamResult(SpamCode.TEMPERROR, reason=Reason.SPAM_UNAVAILABLE))
            return Scan(done, deadline)
        return Scan(asyncio.run_coroutine_threadsafe(self._scan(mail, user, deadline), loop), deadline)

    async def _scan(self, mail: bytes, user: str | None, deadline: float) -> SpamResult:
        request = Request("HEADERS", body=mail)
        # Strangers choose recipients: a name that spamd's protocol cannot say is nobody's, not the server's failure.
        if user is not None and user.isascii() and user.isprintable():
            request.headers["User"] = UserValue(user)
        reason = Reason.SPAM_UNAVAILABLE
        for server in self._servers:
            if server.away:
                continue
            # Whoever hangs leaves time for the others.
            others = [each for each in self._servers[self._servers.index(server) + 1 :] if not each.away]
            result = await _ask(server, request, (deadline - time.monotonic()) / (1 + len(others)))
            if isinstance(result, Reason):
                reason = result
                server.failed()
                continue
            server.failures = 0
            self._told(away=False, about=str(server.address))
            return result
        self._told(away=True, about=reason.value)
        return SpamResult(SpamCode.TEMPERROR, reason=reason)

    def _told(self, *, away: bool, about: str) -> None:
        if away != self._away:
            self._away = away
            self._report(away, about)


async def _ask(server: _Server, request: Request, timeout: float) -> SpamResult | Reason:
    try:
        response = await asyncio.wait_for(server.client.request(request), max(0.001, timeout))
        return _result(response, str(server.address))
    except (TimeoutError, ClientTimeoutException, ServerTimeoutException):
        return Reason.SPAM_TIMEOUT
    except (AIOSpamcConnectionFailed, OSError, ResponseException):
        return Reason.SPAM_UNAVAILABLE
    except _GARBAGE:
        return Reason.SPAM_MALFORMED


def _result(response: Response, server: str) -> SpamResult:
    """Raises ValueError or KeyError where the reply is none."""
    spam = response.headers["Spam"]
    score, threshold = float(spam.score), float(spam.threshold)
    if not (isfinite(score) and isfinite(threshold)):
        raise ValueError("a score is a number")
    header, _ = split(bytes(response.body)[:_MAX_REPLY])
    own = [each for each in header if each.key.startswith(b"x-spam-")][:_MAX_FIELDS]
    fields = tuple((each.name.decode("ascii"), _value(each.value)) for each in own)
    status = next((value for name, value in fields if name.lower() == "x-spam-status"), "")
    found = _TESTS.search(status)
    words = re.split(r"[,\s]+", found[1]) if found else []
    symbols = tuple(word for word in words if word and word not in ("none", "autolearn"))[:_MAX_SYMBOLS]
    return SpamResult(SpamCode.SPAM if spam.value else SpamCode.HAM, score, threshold, symbols, fields, server)


def _value(value: bytes) -> str:
    """The lines as the server has folded them: a report is one test a line."""
    lines = (_UNPRINTABLE.sub(" ", line).strip() for line in value.decode("latin-1")[:_MAX_VALUE].splitlines())
    return "\n\t".join(line for line in lines if line)


def _connections(address: SpamdAddress, timeout: Timeout) -> ConnectionManager:
    if address.path is not None:
        return _Unix(Path(address.path), timeout)
    return _Tcp(address.host, address.port, address.tls, timeout)


class _Unix(UnixConnectionManager):  # type: ignore[misc] # aiospamc ships no types
    async def _send(self, data: bytes) -> bytes:
        return await _exchange(self, data)


class _Tcp(TcpConnectionManager):  # type: ignore[misc] # aiospamc ships no types
    async def _send(self, data: bytes) -> bytes:
        return await _exchange(self, data)


async def _exchange(connections: ConnectionManager, data: bytes) -> bytes:
    """The library's own reads any length, and leaves the socket open where something fails."""
    reader, writer = await connections._connect()
    try:
        writer.write(data)
        if writer.can_write_eof():
            writer.write_eof()
        await writer.drain()
        parts, size = [], 0
        while part := await reader.read(65_536):
            parts.append(part)
            size += len(part)
            if size > _MAX_REPLY:
                raise ValueError("the reply is too large")
        return b"".join(parts)
    finally:
        writer.transport.abort()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
