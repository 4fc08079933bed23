"""One milter over its socket, for one SMTP session, as Postfix talks to it (milter8.c).

Says what happens in the dialogue, gives the milter's judgement back, and gathers its edits. A milter that is away, too
slow or breaks the protocol gets the declared default action for the rest of the session.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from filterd.mail.endpoint import Endpoint
from filterd.mta.config import DefaultAction, Milter, MtaConfig
from filterd.mta.judgement import DISCARD, GO_ON, Judgement, Kind, hold, refusal, refuse
from filterd.mta.mail_object import MailObject, apply_edits
from filterd.wire.milter import (
    BODY_CHUNK,
    Abort,
    Accept,
    Action,
    BodyChunk,
    Connect,
    Continue,
    Data,
    Discard,
    EndOfHeaders,
    EndOfMessage,
    HeaderField,
    Helo,
    Macros,
    MacroStage,
    Mail,
    Negotiate,
    Packet,
    Progress,
    Protocol,
    Quit,
    Rcpt,
    ReplaceBody,
    Skip,
)
from filterd.wire.milter_codec import ProtocolError, encode, letter
from filterd.wire.milter_decoder import Decoder
from filterd.wire.milter_state import EDITS, NOT_SENT, VERSIONS, is_answered, is_legal_reply, is_sent

_log = logging.getLogger("filterd.mta")

#: The value of a macro, named without braces; None where it has none now.
MacroValue = Callable[[str], bytes | None]

_ACTIONS, _PROTOCOL = Action(0x1FF), Protocol(0x1FFFFF)
_FLUSH_AT = 1 << 16
_MAX_EDITS = 20_000

# Postfix's milter_*_macros. The commands within a message use those of the end that they lead to.
_MACROS: Mapping[type[Packet], tuple[str, ...]] = {
    Connect: ("j", "{daemon_name}", "{daemon_addr}", "v", "_"),
    Helo: ("{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}"),
    Mail: ("i", "{auth_type}", "{auth_authen}", "{auth_author}", "{mail_addr}", "{mail_host}", "{mail_mailer}"),
    Rcpt: ("i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"),
    Data: ("i",),
    EndOfHeaders: ("i",),
    EndOfMessage: ("i",),
}
_MACROS_AS: Mapping[type[Packet], type[Packet]] = {HeaderField: EndOfHeaders, BodyChunk: EndOfMessage}
_STAGES: Mapping[int, type[Packet]] = {
    MacroStage.CONNECT: Connect,
    MacroStage.HELO: Helo,
    MacroStage.MAIL: Mail,
    MacroStage.RCPT: Rcpt,
    MacroStage.DATA: Data,
    MacroStage.END_OF_MESSAGE: EndOfMessage,
    MacroStage.END_OF_HEADERS: EndOfHeaders,
}
_DEFAULT_JUDGEMENTS: Mapping[DefaultAction, Judgement] = {
    DefaultAction.ACCEPT: GO_ON,
    DefaultAction.TEMPFAIL: refuse("451 4.7.1 Service unavailable - try again later"),
    DefaultAction.REJECT: refuse("550 5.5.0 Service unavailable"),
    DefaultAction.QUARANTINE: hold(b"default_action"),
}


class MilterClient:
    """The connection to one milter. `macro` is asked for values when they are due.

    Every command's method gives the judgement; it never raises for what the milter does.
    """

    def __init__(self, milter: str | Milter, config: MtaConfig, macro: MacroValue) -> None:
        milter = Milter(milter) if isinstance(milter, str) else milter
        self._socket = milter.socket
        self._offer = Negotiate(milter.version, _ACTIONS, _PROTOCOL & VERSIONS[milter.version])
        self._connect_timeout = _or(milter.connect_timeout, config.milter_connect_timeout)
        self._command_timeout = _or(milter.command_timeout, config.milter_command_timeout)
        self._content_timeout = _or(milter.content_timeout, config.milter_content_timeout)
        self._message_size_limit = config.message_size_limit
        self._macro = macro
        self._default = _DEFAULT_JUDGEMENTS[DefaultAction(milter.default_action or config.default_action)]
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._replies: AsyncIterator[Packet] | None = None
        self._unsent = bytearray()
        self._timeout = self._command_timeout
        self._version_knows = Protocol(0)
        self._protocol = Protocol(0)
        self._actions = Action(0)
        self._macro_names: Mapping[type[Packet], tuple[str, ...]] = _MACROS
        # What every further command gets, once the milter has judged the session or is gone.
        self._standing: Judgement | None = None
        self._message_judged = False
        self._skipped: type[Packet] | None = None

    async def connect(self, command: Connect) -> Judgement:
        """Open the socket, negotiate, and tell of the client."""
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._open()
            await self._negotiate()
        except (OSError, TimeoutError, EOFError, ProtocolError) as error:
            return self._gone(error)
        return await self.ask(command)

    async def ask(self, command: Packet) -> Judgement:
        """Tell of a command of the dialogue (Helo, Mail, Rcpt, Data, UnknownCommand)."""
        if self._standing is not None:
            return self._standing
        if self._message_judged and not isinstance(command, Helo):
            return GO_ON
        try:
            judgement, _ = await self._event(command)
        except (OSError, TimeoutError, EOFError, ProtocolError) as error:
            return self._gone(error)
        return judgement

    async def tell_refused(self, command: Packet) -> None:
        """Tell of a recipient that is refused, if the milter wants to know; what it answers changes nothing."""
        if self._standing is None and self._protocol & Protocol.REJECTED_RECIPIENTS:
            await self.ask(command)

    async def message(self, mail: MailObject) -> tuple[Judgement, MailObject]:
        """Show the content. Gives the judgement, and the mail with the milter's edits."""
        if self._standing is not None:
            return self._standing, mail
        if self._message_judged:
            return GO_ON, mail
        self._timeout = self._content_timeout
        try:
            judgement, edits = await self._content(mail)
            if judgement.kind is Kind.GO_ON and edits:
                mail = apply_edits(mail, edits, bool(self._protocol & Protocol.LEADING_SPACE))
        except (OSError, TimeoutError, EOFError, ProtocolError) as error:
            return self._gone(error), mail
        finally:
            self._timeout = self._command_timeout
        return judgement, mail

    def abort(self) -> None:
        """The message is over, for good or not. May come at any time."""
        self._message_judged, self._skipped = False, None
        if self._writer is not None and self._standing is None:
            self._writer.write(bytes(self._unsent) + encode(Abort()))
            self._unsent.clear()

    def quit(self) -> None:
        """The session is over."""
        if self._writer is not None:
            self._writer.write(bytes(self._unsent) + encode(Quit()))
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        self._unsent.clear()

    def _gone(self, error: Exception) -> Judgement:
        _log.warning("milter %s: %s", self._socket, str(error) or type(error).__name__)
        self._close()
        self._standing = self._default
        return self._default

    async def _open(self) -> None:
        endpoint = Endpoint.parse(self._socket)
        if endpoint.path is not None:
            opened = await asyncio.open_unix_connection(endpoint.path)
        else:
            opened = await asyncio.open_connection(endpoint.host, endpoint.port)
        self._reader, self._writer = opened
        self._replies = self._read(self._reader)

    async def _negotiate(self) -> None:
        self._unsent += encode(self._offer)
        await self._flush()
        choice = await self._reply()
        if not isinstance(choice, Negotiate):
            raise ProtocolError("the negotiation was not answered")
        if choice.version > self._offer.version or choice.version < min(VERSIONS):
            raise ProtocolError(f"the filter speaks version {choice.version}")
        if choice.actions | self._offer.actions != self._offer.actions:
            raise ProtocolError("the filter wants actions that were not offered")
        self._version_knows = VERSIONS[choice.version]
        self._actions, self._protocol = choice.actions, choice.protocol & self._version_knows
        if choice.macros:
            lists = {_STAGES[stage]: names for stage, names in choice.macros if stage in _STAGES}
            # A stage that is not named, or named with no macros, keeps the MTA's list.
            chosen = {kind: tuple(names.decode("latin-1").replace(",", " ").split()) for kind, names in lists.items()}
            self._macro_names = {kind: chosen.get(kind) or names for kind, names in _MACROS.items()}

    async def _event(self, command: Packet) -> tuple[Judgement, list[Packet]]:
        kind = type(command)
        if kind is self._skipped:
            return GO_ON, []
        self._skipped = None
        if kind in NOT_SENT and not NOT_SENT[kind] & self._version_knows:
            return GO_ON, []
        # As Postfix: the macros are told even where the command is not.
        self._unsent += encode(Macros(letter(kind), self._macros(kind)))
        if not is_sent(kind, self._protocol):
            return GO_ON, []
        self._unsent += encode(command)
        if not is_answered(kind, self._protocol):
            if len(self._unsent) >= _FLUSH_AT:
                await self._flush()
            return GO_ON, []
        await self._flush()
        return await self._judgement(kind)

    def _macros(self, kind: type[Packet]) -> tuple[tuple[bytes, bytes], ...]:
        names = self._macro_names.get(_MACROS_AS.get(kind, kind), ())
        values = ((name, self._macro(name.strip("{}"))) for name in names)
        return tuple((name.encode(), value) for name, value in values if value is not None)

    async def _judgement(self, command: type[Packet]) -> tuple[Judgement, list[Packet]]:
        edits: list[Packet] = []
        size = 0
        while True:
            reply = await self._reply()
            if not is_legal_reply(command, type(reply), self._actions):
                raise ProtocolError(f"{type(reply).__name__} answers {command.__name__}")
            if type(reply) in EDITS:
                edits.append(reply)
                size += len(reply.content) if isinstance(reply, ReplaceBody) else 0
                if len(edits) > _MAX_EDITS or size > self._message_size_limit:
                    raise ProtocolError("too many edits, or too large a body")
            elif not isinstance(reply, Progress):
                return self._final(command, reply), edits

    def _final(self, command: type[Packet], reply: Packet) -> Judgement:
        in_session = command in (Connect, Helo)
        match reply:
            case Continue():
                return GO_ON
            case Skip():
                self._skipped = command
                return GO_ON
            case Accept():
                # At Connect and Helo for the whole session, else for this message.
                if in_session:
                    self._standing = GO_ON
                self._message_judged = True
                return GO_ON
            case Discard():
                self._message_judged = True
                return DISCARD
            case _:
                judgement = refusal(reply)
                if in_session or judgement.hangs_up:
                    self._standing = judgement
                return judgement

    async def _content(self, mail: MailObject) -> tuple[Judgement, list[Packet]]:
        for command in _content_commands(mail, self._protocol):
            judgement, edits = await self._event(command)
            if judgement.kind is not Kind.GO_ON or self._message_judged:
                return judgement, edits
        return await self._event(EndOfMessage())

    async def _flush(self) -> None:
        assert self._writer is not None
        sent, self._unsent = bytes(self._unsent), bytearray()
        self._writer.write(sent)
        async with asyncio.timeout(self._timeout):
            await self._writer.drain()

    async def _reply(self) -> Packet:
        assert self._replies is not None
        async with asyncio.timeout(self._timeout):
            return await anext(self._replies)

    async def _read(self, reader: asyncio.StreamReader) -> AsyncIterator[Packet]:
        decoder = Decoder()
        while received := await reader.read(_FLUSH_AT):
            for packet in decoder.feed(received):
                yield packet
        raise EOFError("the filter closed the connection")


def _or(own: float | None, general: float) -> float:
    return general if own is None else own


def _content_commands(mail: MailObject, protocol: Protocol) -> Iterator[Packet]:
    if is_sent(HeaderField, protocol):
        for each in mail.shown:
            value = each.value.replace(b"\r\n", b"\n")
            # Without the flag one space (no tab) after the colon is eaten, as Sendmail does.
            yield HeaderField(each.name, value if protocol & Protocol.LEADING_SPACE else value.removeprefix(b" "))
    if is_sent(EndOfHeaders, protocol):
        yield EndOfHeaders()
    if is_sent(BodyChunk, protocol) and mail.body is not None:
        for start in range(0, len(mail.body), BODY_CHUNK):
            yield BodyChunk(mail.body[start : start + BODY_CHUNK])
