"""One SMTP connection's dialogue: which command may come when, and what is replied (RFC 5321).

What a command means is `session`'s to say, and what a line is `connection`'s.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from filterd.mta.auth import MECHANISMS, AuthAbortedError, AuthError, Gate, exchange
from filterd.mta.client_identity import XCLIENT_ATTRIBUTES, TlsIdentity, XclientError, is_loopback
from filterd.mta.commands import CommandError, parse_mail_parameters, parse_path_command
from filterd.mta.config import MtaConfig, Service
from filterd.mta.connection import Connection, RefusedLineError
from filterd.mta.judgement import Judgement, Kind
from filterd.mta.mail_object import ContentError
from filterd.mta.session import SmtpSession

_log = logging.getLogger("filterd.mta")
_MAX_AUTH_FAILURES = 3
_TOO_MANY_FAILURES = "421 4.7.0 Error: too many failed logins"
# As Postfix: so many commands that lead to no mail, and each further one is an error.
_MAX_IDLE_COMMANDS = 100
_IDLE_COMMANDS = frozenset({"HELO", "EHLO", "RSET", "NOOP", "VRFY", "XCLIENT"})
# What browsers say that were talked into writing to us.
_FOREIGN = frozenset({"GET", "POST", "PUT", "CONNECT"})

_Command = Callable[[str], Awaitable[None]]


class SmtpDialogue:
    """One SMTP connection, from its greeting to its end."""

    def __init__(
        self, config: MtaConfig, service: Service, connection: Connection, session: SmtpSession, gate: Gate
    ) -> None:
        self._config = config
        self._service = service
        self._connection = connection
        self._session = session
        self._gate = gate
        self._may_pretend = config.xclient and is_loopback(connection.name("peername")[0])
        self._over = False
        self._errors = 0
        self._idle_commands = 0
        self._auth_failures = 0
        self._commands: dict[str, _Command] = {
            "HELO": self._helo,
            "EHLO": self._ehlo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "XCLIENT": self._xclient,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "VRFY": self._vrfy,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }

    async def run(self) -> None:
        """Talk until it is over. Raises EOFError or OSError where the client ends it without a word."""
        try:
            await self._reply(self._greeting(await self._session.connect()))
            while not self._over:
                await self._next()
        except TimeoutError:
            await self._reply(f"421 4.4.2 {self._config.hostname} Error: timeout exceeded")
        except asyncio.CancelledError:
            await self._reply(f"421 4.3.2 {self._config.hostname} Service shutting down")
        finally:
            self._session.close()

    async def refuse(self, problem: str) -> None:
        """Turn the client away."""
        await self._reply(f"421 4.7.0 {self._config.hostname} Error: {problem}")

    def end(self) -> bool:
        """End with the command that is under way, whose reply the client shall have; False where there is none."""
        self._over = True
        return not self._connection.reads

    async def _next(self) -> None:
        try:
            line = await self._connection.line()
        except RefusedLineError as error:
            await self._reply(str(error))
        else:
            try:
                await self._obey(line.decode("utf-8", "surrogateescape"))
            except (EOFError, OSError):
                raise
            except Exception:  # noqa: BLE001 - no client goes without a reply
                # A fault of ours: say so without details.
                _log.exception("SMTP session")
                self._session.reset()
                await self._reply("451 4.3.0 Internal error")
        if self._errors >= self._config.error_limit and not self._over:
            await self._reply(f"421 4.7.0 {self._config.hostname} Error: too many errors")

    async def _obey(self, line: str) -> None:
        word, _, argument = line.partition(" ")
        verb = word.upper()
        if not word:
            await self._reply("500 5.5.2 Error: bad syntax")
        elif verb in _FOREIGN:
            await self._reply("521 5.5.1 Error: this is no web server")
        elif verb not in self._known():
            await self._unknown(verb)
        else:
            if verb in _IDLE_COMMANDS:
                self._idle_commands += 1
                self._errors += self._idle_commands > _MAX_IDLE_COMMANDS
            await self._commands[verb](argument.strip(" "))

    def _known(self) -> set[str]:
        hidden = {"AUTH": not self._config.users, "STARTTLS": self._config.tls is None}
        return {verb for verb in self._commands if not hidden.get(verb)}

    async def _reply(self, text: str | bytes) -> None:
        """Reply. 421 ends the connection (RFC 5321 3.8), and 521 as in Postfix."""
        reply = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
        self._over |= reply.startswith((b"421", b"521"))
        self._errors += reply.startswith((b"4", b"5"))
        await self._connection.reply(reply)

    def _greeting(self, judgement: Judgement) -> str:
        if judgement.hangs_up:
            return f"421 {self._config.hostname} Service unavailable - try again later"
        if judgement.permanent:
            return f"554 {self._config.hostname} ESMTP not accepting connections"
        # A temporary refusal is said at MAIL, by the milter's standing judgement.
        return f"220 {self._config.hostname} ESMTP filterd"

    async def _helo(self, name: str) -> None:
        """HELO (RFC 5321 4.1.1.1)."""
        await self._hello(name, esmtp=False)

    async def _ehlo(self, name: str) -> None:
        """EHLO."""
        await self._hello(name, esmtp=True)

    async def _hello(self, name: str, esmtp: bool) -> None:
        if not name:
            await self._reply(f"501 5.5.4 Syntax: {'EHLO' if esmtp else 'HELO'} hostname")
            return
        judgement = await self._session.helo(name, esmtp)
        # As Sendmail and Postfix: any other refusal is said at MAIL.
        if judgement.hangs_up:
            await self._reply(judgement.text)
            return
        lines = [self._config.hostname, *(self._extensions() if esmtp else ())]
        *first, last = lines
        await self._reply("\r\n".join([*(f"250-{line}" for line in first), f"250 {last}"]))

    def _extensions(self) -> list[str]:
        lines = ["PIPELINING", f"SIZE {self._config.message_size_limit}"]
        lines += ["STARTTLS"] if self._config.tls is not None and self._connection.tls is None else []
        lines += [f"AUTH {' '.join(MECHANISMS)}"] if self._config.users and self._may_log_in() else []
        lines += [f"XCLIENT {XCLIENT_ATTRIBUTES}"] if self._may_pretend else []
        return [*lines, "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8"]

    def _may_log_in(self) -> bool:
        """Nobody's password goes through a network as it is (RFC 4954 4)."""
        on_loopback = self._config.auth_without_tls and is_loopback(self._connection.name("peername")[0])
        return self._connection.tls is not None or on_loopback

    async def _starttls(self, argument: str) -> None:
        """STARTTLS (RFC 3207): all that was said before is forgotten."""
        assert self._config.tls is not None, "hidden without"
        if argument:
            await self._reply("501 5.5.4 Syntax: STARTTLS")
        elif self._connection.tls is not None:
            await self._reply("554 5.5.1 Error: TLS already active")
        else:
            agreed = await self._connection.start_tls(self._config.tls, b"220 2.0.0 Ready to start TLS")
            self._session.start_tls(TlsIdentity.of(agreed))

    async def _auth(self, argument: str) -> None:
        """AUTH (RFC 4954 4)."""
        client = self._session.client
        mechanism, _, initial = argument.partition(" ")
        if not client.esmtp:
            await self._reply("503 5.5.1 Error: send EHLO first")
        elif self._session.transaction is not None:
            await self._reply("503 5.5.1 Error: MAIL transaction in progress")
        elif not self._may_log_in():
            await self._reply("538 5.7.11 Encryption required for requested authentication mechanism")
        elif client.login is not None:
            await self._reply("503 5.5.1 Error: already authenticated")
        elif self._gate.closed_to(client.address):
            await self._reply(_TOO_MANY_FAILURES)
        elif mechanism.upper() not in MECHANISMS:
            await self._reply("504 5.5.4 Error: the mechanisms are PLAIN and LOGIN")
        else:
            await self._log_in(mechanism.upper(), initial.encode("utf-8", "surrogateescape"))

    async def _log_in(self, mechanism: str, initial: bytes) -> None:
        client = self._session.client
        try:
            given = await exchange(mechanism, initial, self._challenge)
        except AuthAbortedError:
            await self._reply("501 5.7.0 Authentication aborted")
            return
        except (AuthError, RefusedLineError) as error:
            await self._reply(f"501 5.5.2 Error: {error}" if isinstance(error, AuthError) else str(error))
            return
        if await self._gate.lets_in(client.address, given):
            self._session.authenticate(given.login, mechanism)
            await self._reply("235 2.7.0 Authentication successful")
            return
        self._auth_failures += 1
        _log.warning("login of %r from %s failed", given.login, client.address)
        many = self._auth_failures >= _MAX_AUTH_FAILURES
        await self._reply(_TOO_MANY_FAILURES if many else "535 5.7.8 Error: authentication failed")

    async def _challenge(self, question: bytes) -> bytes:
        await self._reply(b"334 " + question)
        return await self._connection.line()

    async def _xclient(self, argument: str) -> None:
        """XCLIENT: go on as another client, from the greeting."""
        if not self._may_pretend:
            await self._reply("550 5.7.0 Error: insufficient authorization")
            return
        if self._session.transaction is not None:
            await self._reply("503 5.5.1 Error: MAIL transaction in progress")
            return
        try:
            client = self._session.client.pretending(argument)
        except XclientError as error:
            await self._reply(str(error))
            return
        self._session.pretend(client)
        await self._reply(self._greeting(await self._session.connect()))

    async def _mail(self, argument: str) -> None:
        """MAIL (RFC 5321 4.1.1.2)."""
        try:
            self._may_send()
            path = parse_path_command(argument, "FROM", allow_null=True)
            parameters = parse_mail_parameters(path.parameters)
            if parameters.size > self._config.message_size_limit:
                raise CommandError("552 5.3.4 Message size exceeds fixed limit")
            if not path.written.isascii() and not parameters.smtputf8:
                raise CommandError("553 5.6.7 The address needs SMTPUTF8")
        except CommandError as error:
            await self._reply(str(error))
            return
        await self._reply_judgement(await self._session.mail(path, parameters), "250 2.1.0 Ok")

    def _may_send(self) -> None:
        client = self._session.client
        if client.helo is None:
            raise CommandError("503 5.5.1 Error: send HELO/EHLO first")
        if self._session.transaction is not None:
            raise CommandError("503 5.5.1 Error: nested MAIL command")
        if self._service is not Service.SMTP and client.login is None:
            # RFC 6409 4.3, RFC 3207 4
            encrypted = self._may_log_in()
            raise CommandError(f"530 5.7.0 {'Authentication required' if encrypted else 'Issue STARTTLS first'}")

    async def _rcpt(self, argument: str) -> None:
        """RCPT (RFC 5321 4.1.1.3)."""
        transaction = self._session.transaction
        if transaction is None:
            await self._reply("503 5.5.1 Error: need MAIL command")
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
            await self._reply(str(error))
            return
        await self._reply_judgement(await self._session.rcpt(path), "250 2.1.5 Ok")

    async def _data(self, argument: str) -> None:
        """DATA (RFC 5321 4.1.1.4)."""
        transaction = self._session.transaction
        if transaction is None or not transaction.recipients:
            await self._reply("503 5.5.1 Error: need RCPT command")
            return
        if argument:
            await self._reply("501 5.5.4 Syntax: DATA")
            return
        judgement = await self._session.data()
        if judgement.kind is not Kind.GO_ON:
            await self._reply(judgement.text)
            return
        await self._reply("354 End data with <CR><LF>.<CR><LF>")
        content = await self._connection.content(self._config.message_size_limit)
        if content is None:
            self._session.reset()
            await self._reply("552 5.3.4 Message size exceeds fixed limit")
            return
        try:
            judgement = await self._session.content(content)
        except ContentError as error:
            await self._reply(str(error))
        except OSError as error:
            _log.error("the mail could not be stored: %s", error)
            await self._reply("451 4.3.0 The mail could not be stored")
        else:
            await self._reply_judgement(judgement, f"250 2.0.0 Ok: queued as {transaction.queue_id}")
            if judgement.kind is Kind.GO_ON:
                self._errors = self._idle_commands = 0

    async def _rset(self, argument: str) -> None:
        """RSET (RFC 5321 4.1.1.5)."""
        self._session.reset()
        await self._reply("250 2.0.0 Ok")

    async def _vrfy(self, argument: str) -> None:
        """VRFY tells nothing (RFC 5321 7.3)."""
        await self._reply("252 2.0.0 Cannot VRFY user")

    async def _noop(self, argument: str) -> None:
        """NOOP (RFC 5321 4.1.1.9)."""
        await self._reply("250 2.0.0 Ok")

    async def _quit(self, argument: str) -> None:
        """QUIT (RFC 5321 4.1.1.10)."""
        self._over = True
        await self._reply("221 2.0.0 Bye")

    async def _unknown(self, command: str) -> None:
        # As Postfix: milters hear the word alone.
        judgement = await self._session.unknown(command.encode("utf-8", "surrogateescape"))
        # As Postfix: only a temporary refusal replaces our own.
        temporary = judgement.kind is Kind.REFUSE and not judgement.permanent
        await self._reply(judgement.text if temporary else "500 5.5.2 Error: command not recognized")

    async def _reply_judgement(self, judgement: Judgement, ok: str) -> None:
        await self._reply(judgement.text if judgement.kind is Kind.REFUSE else ok)
