"""One SMTP connection's dialogue: commands in, replies out (RFC 5321).

aiosmtpd reads the commands and does AUTH; what it does to paths, parameters and content is replaced, as it changes them
(it upper-cases parameters and keeps bare line feeds). What a command means is `session`'s to say.
"""

import collections
import hmac
import logging
import re
from collections.abc import Awaitable
from typing import Any, AnyStr

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword, Session

from filterd.mta.client_identity import XCLIENT_ATTRIBUTES, ClientIdentity, XclientError, is_loopback
from filterd.mta.commands import CommandError, parse_mail_parameters, parse_path_command, read_content
from filterd.mta.config import MtaConfig, Users
from filterd.mta.judgement import Judgement, Kind
from filterd.mta.mail_object import ContentError
from filterd.mta.queue_runner import QueueRunner
from filterd.mta.session import SmtpSession

_log = logging.getLogger("filterd.mta")
_MAX_AUTH_FAILURES = 3
_MAX_COMMAND = 12288
_NEVER = 86400.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class _Session(Session):
    login_data: Any = None  # aiosmtpd sets it, and warns of it as deprecated


class SmtpDialogue(SMTP):
    """One SMTP connection."""

    # What the reader holds at most without a line end; the content may have longer lines.
    line_length_limit = 1 << 16
    # RFC 4954 4: an AUTH line may have 12288 octets.
    command_size_limit = _MAX_COMMAND

    def __init__(self, config: MtaConfig, queue: QueueRunner, open_dialogues: set["SmtpDialogue"]) -> None:
        super().__init__(
            object(),
            data_size_limit=config.message_size_limit,
            enable_SMTPUTF8=True,
            hostname=config.hostname,
            ident="ESMTP filterd",
            timeout=config.smtp_timeout,
            auth_require_tls=False,  # it listens on loopback
            authenticator=self._authenticate_user,
        )
        self.command_size_limits = collections.defaultdict(lambda: _MAX_COMMAND)
        self._config = config
        self._queue = queue
        self._open_dialogues = open_dialogues
        self._greeting: str | None = None
        self._auth_failures = 0
        self._smtp: SmtpSession
        self._smtp_methods = _Commands(
            {
                "HELO": self._helo,
                "EHLO": self._ehlo,
                "AUTH": self._auth,
                "XCLIENT": self._xclient,
                "MAIL": self._mail,
                "RCPT": self._rcpt,
                "DATA": self._data,
                "RSET": self._rset,
                "VRFY": self._vrfy,
                "NOOP": self.smtp_NOOP,
                "QUIT": self._quit,
            },
            self._unknown,
        )

    def _create_session(self) -> Session:
        return _Session(self.loop)

    async def _handle_client(self) -> None:
        self._open_dialogues.add(self)
        peer, local = self._writer.get_extra_info("peername"), self._writer.get_extra_info("sockname")
        self._may_pretend = self._config.xclient and is_loopback(peer[0])
        self._smtp = SmtpSession(self._config, self._queue, ClientIdentity.of_peer(*peer[:2]), local[:2])
        try:
            self._greeting = self._greet(await self._smtp.connect())
            await super()._handle_client()
        finally:
            self._open_dialogues.discard(self)
            self._smtp.close()

    def _greet(self, judgement: Judgement) -> str:
        if judgement.hangs_up:
            return f"421 {self.hostname} Service unavailable - try again later"
        if judgement.permanent:
            return f"554 {self.hostname} ESMTP not accepting connections"
        # A temporary refusal is said at MAIL, by the milter's standing judgement.
        return f"220 {self.hostname} ESMTP filterd"

    async def push(self, status: AnyStr) -> None:
        """Write a reply. 421 ends the connection (RFC 5321 3.8), and 521 as in Postfix."""
        reply = status.encode() if isinstance(status, str) else bytes(status)
        if self._greeting is not None:
            # aiosmtpd greets with 220 whatever the milters said.
            reply, self._greeting = self._greeting.encode(), None
        await super().push(reply)
        if reply.startswith((b"421", b"521")):
            self.end()

    async def handle_exception(self, error: Exception) -> str:
        """A fault of ours: say so without details."""
        _log.error("SMTP session", exc_info=error)
        return "451 4.3.0 Internal error"

    def end(self) -> Awaitable[None] | None:
        """Close the connection; the client may try again. Gives what ends when all is tidied up."""
        if self.transport is not None:
            self.transport.close()
        return self._handler_coroutine

    async def _helo(self, name: str | None) -> None:
        """HELO (RFC 5321 4.1.1.1)."""
        await self._hello(name, esmtp=False)

    async def _ehlo(self, name: str | None) -> None:
        """EHLO."""
        await self._hello(name, esmtp=True)

    async def _hello(self, name: str | None, esmtp: bool) -> None:
        if not name or _CONTROL.search(name):
            await self.push(f"501 5.5.4 Syntax: {'EHLO' if esmtp else 'HELO'} hostname")
            return
        judgement = await self._smtp.helo(name, esmtp)
        assert self.session is not None
        self.session.host_name, self.session.extended_smtp = name, esmtp
        # As Sendmail and Postfix: any other refusal is said at MAIL.
        if judgement.hangs_up:
            await self.push(judgement.text)
            return
        lines = [self.hostname]
        if esmtp:
            lines += ["PIPELINING", f"SIZE {self._config.message_size_limit}"]
            lines += ["AUTH PLAIN LOGIN"] if self._config.users else []
            lines += [f"XCLIENT {XCLIENT_ATTRIBUTES}"] if self._may_pretend else []
            lines += ["ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8"]
        *first, last = lines
        await self.push("\r\n".join([*(f"250-{line}" for line in first), f"250 {last}"]))

    async def _mail(self, argument: str | None) -> None:
        """MAIL (RFC 5321 4.1.1.2)."""
        if await self.check_helo_needed("EHLO"):
            return
        if self._smtp.transaction is not None:
            await self.push("503 5.5.1 Error: nested MAIL command")
            return
        try:
            path = parse_path_command(argument, "FROM", allow_null=True)
            parameters = parse_mail_parameters(path.parameters)
            if parameters.size > self._config.message_size_limit:
                raise CommandError("552 5.3.4 Message size exceeds fixed limit")
            if not path.written.isascii() and not parameters.smtputf8:
                raise CommandError("553 5.6.7 The address needs SMTPUTF8")
        except CommandError as error:
            await self.push(str(error))
            return
        await self._push_judgement(await self._smtp.mail(path, parameters), "250 2.1.0 Ok")

    async def _rcpt(self, argument: str | None) -> None:
        """RCPT (RFC 5321 4.1.1.3)."""
        transaction = self._smtp.transaction
        if transaction is None:
            await self.push("503 5.5.1 Error: need MAIL command")
            return
        try:
            path = parse_path_command(argument, "TO", allow_null=False)
            if path.parameters:
                raise CommandError("555 5.5.4 Unsupported option")
            if not path.written.isascii() and not transaction.parameters.smtputf8:
                raise CommandError("553 5.6.7 The address needs SMTPUTF8")
            if len(transaction.recipients) >= self._config.recipient_limit:
                raise CommandError("452 4.5.3 Error: too many recipients")
        except CommandError as error:
            await self.push(str(error))
            return
        await self._push_judgement(await self._smtp.rcpt(path), "250 2.1.5 Ok")

    async def _data(self, argument: str | None) -> None:
        """DATA (RFC 5321 4.1.1.4)."""
        transaction = self._smtp.transaction
        if transaction is None or not transaction.recipients:
            await self.push("503 5.5.1 Error: need RCPT command")
            return
        if argument:
            await self.push("501 5.5.4 Syntax: DATA")
            return
        judgement = await self._smtp.data()
        if judgement.kind is not Kind.GO_ON:
            await self.push(judgement.text)
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        content = await read_content(self._reader, self._config.message_size_limit)
        if content is None:
            self._smtp.reset()
            await self.push("552 5.3.4 Message size exceeds fixed limit")
            return
        # Now the client waits for us, and the milters have their own time.
        self._reset_timeout(_NEVER)
        try:
            judgement = await self._smtp.content(content)
        except ContentError as error:
            await self.push(str(error))
        except OSError as error:
            _log.error("queue: %s", error)
            await self.push("451 4.3.0 The mail could not be stored")
        else:
            await self._push_judgement(judgement, f"250 2.0.0 Ok: queued as {transaction.queue_id}")
        finally:
            self._reset_timeout()

    async def _rset(self, argument: str | None) -> None:
        """RSET (RFC 5321 4.1.1.5)."""
        self._smtp.reset()
        await self.push("250 2.0.0 Ok")

    async def _quit(self, argument: str | None) -> None:
        """QUIT (RFC 5321 4.1.1.10)."""
        await self.push("221 2.0.0 Bye")
        self.end()

    async def _vrfy(self, argument: str | None) -> None:
        """VRFY tells nothing (RFC 5321 7.3)."""
        await self.push("252 2.0.0 Cannot VRFY user")

    async def _auth(self, argument: str | None) -> None:
        """AUTH (RFC 4954 4); `_authenticate_user` is asked for PLAIN and LOGIN alike."""
        if self._smtp.transaction is not None:
            await self.push("503 5.5.1 Error: MAIL transaction in progress")
        elif not self._config.users:
            await self._unknown("AUTH")
        else:
            mechanism, space, initial = (argument or "").partition(" ")
            await self.smtp_AUTH(mechanism.upper() + space + initial)

    async def _xclient(self, argument: str | None) -> None:
        """XCLIENT: go on as another client, from the greeting."""
        if not self._may_pretend:
            await self.push("550 5.7.0 Error: insufficient authorization")
            return
        if self._smtp.transaction is not None:
            await self.push("503 5.5.1 Error: MAIL transaction in progress")
            return
        try:
            client = self._smtp.client.pretending(argument or "")
        except XclientError as error:
            await self.push(str(error))
            return
        self._smtp.pretend(client)
        assert self.session is not None
        self.session.host_name, self.session.authenticated = client.helo, bool(client.login)
        await self.push(self._greet(await self._smtp.connect()))

    async def _unknown(self, command: str) -> None:
        # As Postfix: milters hear the word alone.
        judgement = await self._smtp.unknown(command.encode().replace(b"\0", b"?"))
        # As Postfix: only a temporary refusal replaces our own.
        temporary = judgement.kind is Kind.REFUSE and not judgement.permanent
        await self.push(judgement.text if temporary else b"500 5.5.2 Error: command not recognized")

    async def _push_judgement(self, judgement: Judgement, ok: str) -> None:
        await self.push(judgement.text if judgement.kind is Kind.REFUSE else ok.encode())

    def _authenticate_user(self, _server: Any, _session: Any, _envelope: Any, mechanism: str, proof: Any) -> AuthResult:
        assert isinstance(proof, LoginPassword)
        login, password = proof.login.decode("utf-8", "replace"), proof.password.decode("utf-8", "replace")
        if not _is_user(self._config.users, login, password):
            self._auth_failures += 1
            many = self._auth_failures >= _MAX_AUTH_FAILURES
            message = "421 4.7.0 Too many failures" if many else "535 5.7.8 Authentication credentials invalid"
            return AuthResult(success=False, handled=False, message=message)
        self._smtp.authenticate(login, mechanism)
        return AuthResult(success=True, auth_data=proof)


class _Commands(dict[str, Any]):
    """The commands, and for any other word the one that answers it: aiosmtpd offers no hook for these."""

    def __init__(self, methods: dict[str, Any], unknown: Any) -> None:
        super().__init__(methods)
        self._unknown = unknown

    def get(self, command: str, default: Any = None) -> Any:
        return super().get(command) or (lambda _argument: self._unknown(command))


def _is_user(users: Users, login: str, password: str) -> bool:
    if not login.isprintable():
        return False
    if callable(users):
        return users(login, password)
    known = users.get(login)
    # Compared in constant time, for unknown users too.
    same = hmac.compare_digest((known if known is not None else password + "x").encode(), password.encode())
    return same and known is not None
