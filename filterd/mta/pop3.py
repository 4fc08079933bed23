"""POP3, so that a mail client reads what came: RFC 1939, with CAPA (RFC 2449) and STLS (RFC 2595).

Whoever may log in to send may read the mailbox of that name. What a line is, is `connection`'s to say.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from filterd.mta.auth import Credentials, Gate
from filterd.mta.client_identity import is_loopback
from filterd.mta.config import MtaConfig
from filterd.mta.connection import Connection, RefusedLineError
from filterd.mta.deliver import Maildirs
from filterd.mta.maildrop import Maildrop, StoredMail

_log = logging.getLogger("filterd.mta")
_MAX_FAILURES = 3
_BEFORE_LOGIN = frozenset({"CAPA", "STLS", "USER", "PASS", "QUIT"})


class Pop3Error(Exception):
    """The command cannot be carried out; the text says why."""


@dataclass(slots=True)
class _Session:
    """A logged in user's view: the numbers of messages are their places in the drop, from 1."""

    mailbox: str
    drop: Maildrop
    deleted: set[int] = field(default_factory=set)

    @property
    def present(self) -> dict[int, StoredMail]:
        return {number: mail for number, mail in enumerate(self.drop.mails, 1) if number not in self.deleted}


class Pop3Dialogue:
    """One POP3 connection. `in_use` are the mailboxes that are open, over all connections (RFC 1939 4)."""

    def __init__(
        self, config: MtaConfig, connection: Connection, maildirs: Maildirs, gate: Gate, in_use: set[str]
    ) -> None:
        self._config = config
        self._connection = connection
        self._maildirs = maildirs
        self._gate = gate
        self._in_use = in_use
        self._over = False
        self._errors = 0
        self._failures = 0
        self._user = ""
        self._session: _Session | None = None
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "CAPA": self._capa,
            "STLS": self._stls,
            "USER": self._name,
            "PASS": self._pass,
            "STAT": self._stat,
            "LIST": self._list,
            "UIDL": self._uidl,
            "RETR": self._retr,
            "TOP": self._top,
            "DELE": self._dele,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }

    async def run(self) -> None:
        """Talk until it is over. Raises EOFError or OSError where the client ends it without QUIT: then nothing is
        deleted (RFC 1939 6)."""
        try:
            await self._say("+OK filterd POP3 ready")
            while not self._over:
                await self._next()
        except asyncio.CancelledError:
            await self._say("-ERR [SYS/TEMP] shutting down")
        finally:
            if self._session is not None:
                self._in_use.discard(self._session.mailbox)

    async def refuse(self, problem: str) -> None:
        """Turn the client away."""
        await self._say(f"-ERR [SYS/TEMP] {problem}")

    def end(self) -> bool:
        """End with the command that is under way; False where there is none."""
        self._over = True
        return not self._connection.reads

    async def _next(self) -> None:
        try:
            line = await self._connection.line()
            word, _, argument = line.decode("utf-8", "replace").partition(" ")
            verb = word.upper()
            if verb not in self._commands:
                raise Pop3Error("there is no such command")
            if (self._session is None) != (verb in _BEFORE_LOGIN) and verb not in ("CAPA", "QUIT"):
                raise Pop3Error("log in first" if self._session is None else "logged in already")
            await self._commands[verb](argument)
        except RefusedLineError as error:
            self._over |= str(error).startswith(("421", "521"))
            await self._fail(str(error).partition("Error: ")[2])
        except Pop3Error as error:
            await self._fail(str(error))
        except TimeoutError:
            self._over = True
            await self._fail("timeout")
        except FileNotFoundError:
            await self._fail("another client has deleted it")

    async def _fail(self, problem: str) -> None:
        self._errors += 1
        self._over |= self._errors >= self._config.error_limit
        await self._say(f"-ERR {problem}")

    async def _say(self, text: str) -> None:
        await self._connection.reply(text.encode("utf-8", "replace"))

    async def _lines(self, first: str, lines: bytes) -> None:
        """A reply of several lines, in which the dot that begins one is doubled (RFC 1939 3)."""
        doubled = (b"\r\n" + lines).replace(b"\r\n.", b"\r\n..")
        end = b"." if doubled.endswith(b"\r\n") else b"\r\n."
        await self._connection.reply(b"+OK " + first.encode() + doubled + end)

    async def _capa(self, argument: str) -> None:
        lines = ["TOP", "UIDL", "RESP-CODES", "PIPELINING", "IMPLEMENTATION filterd"]
        lines += ["USER"] if self._may_log_in() else []
        lines += ["STLS"] if self._config.tls is not None and self._connection.tls is None else []
        await self._lines("what there is", "".join(f"{line}\r\n" for line in lines).encode())

    def _may_log_in(self) -> bool:
        on_loopback = self._config.auth_without_tls and is_loopback(self._connection.name("peername")[0])
        return self._connection.tls is not None or on_loopback

    async def _stls(self, argument: str) -> None:
        if self._config.tls is None or self._connection.tls is not None:
            raise Pop3Error("there is no TLS" if self._config.tls is None else "this is TLS already")
        self._user = ""
        await self._connection.start_tls(self._config.tls, b"+OK TLS begins")

    async def _name(self, argument: str) -> None:
        if not self._may_log_in():
            raise Pop3Error("passwords go through TLS only")
        if not argument:
            raise Pop3Error("USER goes with a name")
        self._user = argument
        # Whether there is such a user is nobody's business yet.
        await self._say("+OK and the password?")

    async def _pass(self, argument: str) -> None:
        if not self._user:
            raise Pop3Error("USER comes first")
        user, self._user = self._user, ""
        address = self._connection.name("peername")[0]
        if not await self._gate.lets_in(address, Credentials(user, argument)):
            _log.warning("login of %r from %s failed", user, address)
            self._failures += 1
            self._over |= self._failures >= _MAX_FAILURES
            raise Pop3Error("[AUTH] name and password do not go together")
        mailbox = self._config.mailbox(user)
        if mailbox in self._in_use:
            raise Pop3Error("[IN-USE] another client reads this mailbox")
        self._in_use.add(mailbox)
        try:
            drop = await asyncio.to_thread(Maildrop, self._maildirs.folder(mailbox))
        except BaseException:
            self._in_use.discard(mailbox)
            raise
        self._session = _Session(mailbox, drop)
        await self._say(f"+OK {len(drop.mails)} messages")

    async def _stat(self, argument: str) -> None:
        present = self._opened.present
        await self._say(f"+OK {len(present)} {sum(mail.size for mail in present.values())}")

    async def _list(self, argument: str) -> None:
        await self._listing(argument, lambda mail: str(mail.size))

    async def _uidl(self, argument: str) -> None:
        await self._listing(argument, lambda mail: mail.uid)

    async def _listing(self, argument: str, of: Callable[[StoredMail], str]) -> None:
        if argument:
            number = self._number(argument)
            await self._say(f"+OK {number} {of(self._opened.present[number])}")
            return
        present = self._opened.present
        lines = "".join(f"{number} {of(mail)}\r\n" for number, mail in present.items())
        await self._lines(f"{len(present)} messages", lines.encode())

    async def _retr(self, argument: str) -> None:
        content = await self._content(argument)
        await self._lines(f"{len(content)} octets", content)

    async def _top(self, argument: str) -> None:
        number, _, count = argument.partition(" ")
        if not count.isascii() or not count.isdigit() or len(count) > 9:
            raise Pop3Error("TOP goes with a message and a number of lines")
        header, empty, body = (await self._content(number)).partition(b"\r\n\r\n")
        lines = body.split(b"\r\n", int(count))[: int(count)]
        await self._lines("the beginning", header + empty + b"".join(line + b"\r\n" for line in lines))

    async def _content(self, number: str) -> bytes:
        mail = self._opened.present[self._number(number)]
        return await asyncio.to_thread(self._opened.drop.content, mail)

    async def _dele(self, argument: str) -> None:
        self._opened.deleted.add(self._number(argument))
        await self._say("+OK deleted at the end")

    async def _rset(self, argument: str) -> None:
        self._opened.deleted.clear()
        await self._say("+OK nothing is deleted")

    async def _noop(self, argument: str) -> None:
        await self._say("+OK")

    async def _quit(self, argument: str) -> None:
        self._over = True
        if self._session is not None:
            session = self._session
            for number in sorted(session.deleted):
                await asyncio.to_thread(session.drop.delete, session.drop.mails[number - 1])
        await self._say("+OK")

    @property
    def _opened(self) -> _Session:
        assert self._session is not None, "commands that need it come after login"
        return self._session

    def _number(self, argument: str) -> int:
        if not argument.isascii() or not argument.isdigit() or len(argument) > 9:
            raise Pop3Error("here stands the number of a message")
        if int(argument) not in self._opened.present:
            raise Pop3Error("there is no such message")
        return int(argument)
