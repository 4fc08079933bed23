"""The octets of one connection, by SMTP or alike: lines in, replies out, TLS, and how long each may take.

Knows what a line and a message's end are (RFC 5321 2.3.8, 4.1.1.4), and of no command what it means.
"""

import asyncio
import re
import ssl
from contextlib import suppress
from typing import Any

# RFC 4954 4: an AUTH line may have 12288 octets; others are shorter.
_MAX_COMMAND = 12288
# Of a line that is too long, so much is read to find its end.
_MAX_OVERLONG = 4 << 20
#: What a reader holds at most without a line end; the content may have longer lines.
READ_AT_ONCE = 1 << 16
_MAX_LINE = 1 << 20
# Octets a second: a message that comes slower than that, once it had its first while, holds a connection for nothing.
_MIN_RATE = 500
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_END = b"\r\n.\r\n"


class RefusedLineError(Exception):
    """A line that is none of SMTP; the text is the reply, after 421 and 521 of which the connection ends."""


class Connection:
    """One connection. Reading raises EOFError where the client has gone, and TimeoutError where it takes too long."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: float) -> None:
        self._reader = reader
        self._writer = writer
        self._timeout = timeout
        self._lost = False
        self._beneath: asyncio.StreamWriter | None = None
        #: Whether it is the client's turn.
        self.reads = False

    @property
    def tls(self) -> ssl.SSLObject | None:
        """What TLS has agreed on; None without."""
        found: ssl.SSLObject | None = self._writer.get_extra_info("ssl_object")
        return found

    @property
    def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The octets themselves, for a protocol whose lines are others."""
        return self._reader, self._writer

    def name(self, of: str) -> tuple[str, int]:
        """Address and port: of `peername`, the client, or of `sockname`, ourselves."""
        found: tuple[Any, ...] = self._writer.get_extra_info(of) or ("unknown", 0)
        return str(found[0]), int(found[1])

    async def line(self) -> bytes:
        """The next line, without its end. Raises RefusedLineError."""
        self.reads = True
        try:
            async with asyncio.timeout(self._timeout):
                line = await self._whole_line()
        finally:
            self.reads = False
        if not line.endswith(b"\r\n"):
            # What ends with a line feed for one and does not for another is how mail is smuggled.
            raise RefusedLineError("521 5.5.2 Error: bare <LF> received")
        if len(line) > _MAX_COMMAND:
            raise RefusedLineError("500 5.5.2 Error: line too long")
        if _CONTROL.search(line, 0, len(line) - 2):
            raise RefusedLineError("500 5.5.2 Error: a command has no control characters")
        return line[:-2]

    async def content(self, limit: int) -> bytes | None:
        """The message after DATA, up to CRLF.CRLF and nothing else that looks like it, transparency dots removed.

        None where it is larger than `limit` octets; it has been read to its end all the same.
        """
        self.reads = True
        try:
            return await self._content(limit)
        finally:
            self.reads = False

    async def reply(self, text: bytes) -> None:
        """Write a reply. Raises ConnectionError where nobody reads it any more."""
        text += b"\r\n"
        # Each part has its own time: a large reply may go slowly, but it has to go.
        for start in range(0, len(text), READ_AT_ONCE):
            self._writer.write(text[start : start + READ_AT_ONCE])
            async with asyncio.timeout(self._timeout):
                await self._writer.drain()

    async def start_tls(self, context: ssl.SSLContext, reply: bytes) -> ssl.SSLObject:
        """Say that TLS begins, by `reply`, and begin it. Raises OSError (ssl.SSLError is one), or TimeoutError.

        What was sent before stays in the reader that is left behind: it never counts as said within TLS (RFC 3207 6).
        """
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(READ_AT_ONCE)
        protocol = asyncio.StreamReaderProtocol(reader)
        # Nothing is awaited between the reply and the new protocol, or the client's first octets would go to the old.
        self._writer.write(reply + b"\r\n")
        try:
            transport = await loop.start_tls(
                self._writer.transport, protocol, context, server_side=True, ssl_handshake_timeout=self._timeout
            )
        except OSError:
            # The writer is told no more what becomes of it.
            self._writer.transport.abort()
            self._lost = True
            raise
        assert transport is not None
        protocol.connection_made(transport)
        # A writer that nobody holds closes its transport, which is the one beneath TLS.
        self._beneath = self._writer
        self._reader, self._writer = reader, asyncio.StreamWriter(transport, protocol, reader, loop)
        assert self.tls is not None
        return self.tls

    async def close(self) -> None:
        """End it; what was written is sent first, if the client takes it."""
        if self._lost:
            return
        self._writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._writer.wait_closed()

    async def _whole_line(self) -> bytes:
        skipped = 0
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
            except asyncio.LimitOverrunError as error:
                skipped += len(await self._reader.readexactly(error.consumed))
                if skipped > _MAX_OVERLONG:
                    raise RefusedLineError("421 4.7.0 Error: line without end") from None
                continue
            if skipped:
                raise RefusedLineError("500 5.5.2 Error: line too long")
            return line

    async def _content(self, limit: int) -> bytes | None:
        loop = asyncio.get_running_loop()
        began, received, content, end, too_large = loop.time(), 0, bytearray(), b"\r\n", False
        while end != _END:
            latest = began + self._timeout + received / _MIN_RATE
            async with asyncio.timeout_at(min(latest, loop.time() + self._timeout)):
                piece = await self._piece()
            received += len(piece)
            end = (end + piece[-len(_END) :])[-len(_END) :]
            too_large = too_large or received > limit + len(_END[2:])
            if too_large:
                content.clear()
            else:
                content += piece
        if too_large:
            return None
        # RFC 5321 4.5.2: the first of two dots that begin a line goes. The line end ahead of the message is none of it.
        return bytes(b"\r\n" + content[:-3]).replace(b"\r\n.", b"\r\n")[2:]

    async def _piece(self) -> bytes:
        try:
            return await self._reader.readuntil(_END[2:])
        except asyncio.LimitOverrunError as error:
            return await self._reader.readexactly(error.consumed)


def check_lines(content: bytes) -> str | None:
    """What is wrong with the lines of a message, as the reply that refuses it."""
    if content.count(b"\r\n") != content.count(b"\n") or content.count(b"\n") != content.count(b"\r"):
        # RFC 5321 2.3.8. To mend it would be to guess where the client saw lines: SMTP smuggling lives on that.
        # 521 ends the connection, so that what follows is not taken for commands.
        return "521 5.5.2 A bare <CR> or <LF> is no line end"
    if b"\0" in content:
        return "550 5.6.0 The message has NUL characters"
    if len(content) > _MAX_LINE and max(map(len, content.split(b"\r\n"))) > _MAX_LINE:
        return f"550 5.6.0 A line of the message is longer than {_MAX_LINE} octets"
    return None
