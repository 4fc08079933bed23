"""The filter's side of one milter connection, without libmilter: octets in, octets out.

It is called on a thread that may block: the engine runs in the call. It reads and writes nothing itself
(`connection`), knows neither how packets are written (`wire.milter_codec`) nor which may follow which
(`wire.milter_state`), and takes what libmilter takes.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from filterd.engine import changes
from filterd.frontend import milter_facts as facts
from filterd.frontend.conversation import Reception
from filterd.frontend.milter_reply import Action as Answered
from filterd.frontend.milter_reply import HeaderEdit, MilterEdit, answer, edits
from filterd.frontend.milter_terms import NOTHING_YET, STAGES, terms
from filterd.frontend.strand import Abandoned
from filterd.mail.transaction import ForwardPath, ReversePath
from filterd.policy.verdict import Verdict
from filterd.wire.milter import (
    Abort,
    Accept,
    AddRecipient,
    BodyChunk,
    ChangeHeader,
    ChangeSender,
    Connect,
    Continue,
    Data,
    DeleteRecipient,
    Discard,
    EndOfHeaders,
    EndOfMessage,
    Family,
    HeaderField,
    Helo,
    InsertHeader,
    Macros,
    Mail,
    Negotiate,
    Packet,
    Quarantine,
    Quit,
    QuitNewConnection,
    Rcpt,
    Reject,
    ReplyCode,
    Tempfail,
    UnknownCommand,
)
from filterd.wire.milter_codec import ProtocolError, encode, letter
from filterd.wire.milter_decoder import Decoder, HeaderFields
from filterd.wire.milter_state import EDITS, Order

_ANSWERS: dict[Answered, bytes] = {
    Answered.CONTINUE: encode(Continue()),
    Answered.ACCEPT: encode(Accept()),
    Answered.REJECT: encode(Reject()),
    Answered.DEFER: encode(Tempfail()),
    Answered.DISCARD: encode(Discard()),
}
_GO_ON = Verdict()
# What an MTA gives more time.
_CONTENT = frozenset({BodyChunk, EndOfMessage})
_MAIL = letter(Mail)
# The letters of commands that macros are sent with.
_OF_MESSAGE = (*map(letter, (EndOfMessage, EndOfHeaders, Data, Rcpt)), _MAIL)
# Nothing is looked for in the macros of others.
_WITHOUT_MACROS = (HeaderField, BodyChunk)
_READ_MACROS = frozenset((*_OF_MESSAGE, letter(Helo), letter(Connect)))


class NativeMilter:
    """One connection. Called by one thread at a time."""

    def __init__(self, reception: Reception) -> None:
        """Begin. Raises what the engine raises."""
        self._reception = reception
        self._conversation = reception.open(direct=True)
        self._decoder = Decoder(unread_macros=_WITHOUT_MACROS, gathers=True)
        self._order = Order()
        self._terms = NOTHING_YET
        # By command, in the order in which they came: what was said last, holds.
        self._macros: dict[bytes, dict[bytes, bytes]] = {}
        # What came and was not taken yet, the packet that is being taken first; and what was answered since.
        self._packets: deque[Packet] = deque()
        self._answers: list[bytes] = []
        #: Whether the MTA has said that no more comes.
        self.over = False

    def hear(self, octets: bytes) -> bytes:
        """Take what the MTA sent; returns what it is to be sent.

        Raises ProtocolError when the MTA breaks the protocol: the connection is of no further use then. Raises
        Abandoned when another thread has lost its patience, and goes on in the place of this one.
        """
        self._packets.extend(self._decoder.feed(octets))
        return self._work()

    @property
    def bored(self) -> bool:
        """Whether what comes next is mostly not even looked at."""
        return self._decoder.passing_over

    def overdue(self, seconds: float) -> bool:
        """Whether the engine has been at work for so long that the MTA will not wait much longer."""
        if not (self._conversation.waits and self._packets):
            return False
        bounds = self._reception.bounds
        return seconds > (bounds.content if type(self._packets[0]) in _CONTENT else bounds.command)

    def give_up(self) -> bytes | None:
        """Go on without the engine, as it is overdue; what the MTA is to be sent, None when it just came back."""
        if not self._conversation.abandon():
            return None
        packet = self._packets[0]
        kind = type(packet)
        failed = self._failed(kind, TimeoutError("the engine took too long"))
        # What is delivered all the same must not bear what others wrote in our name.
        self._answers.append(self._end_of_message(packet) if isinstance(packet, EndOfMessage) else failed)
        self._packets.popleft()
        self.over = kind is QuitNewConnection  # there is no conversation to go on with
        return self._work()

    def _work(self) -> bytes:
        packets, answers = self._packets, self._answers
        while packets:
            answers.append(self._heard(packets[0]))
            packets.popleft()
        self._answers = []
        return b"".join(answers)

    def close(self) -> None:
        """The connection is over, for whatever reason."""
        self._conversation.close()

    def _heard(self, packet: Packet) -> bytes:
        kind = HeaderField if type(packet) is HeaderFields else type(packet)
        if not (self._order.follow(kind, self._terms.protocol) or self._begins_anew(kind)):
            raise ProtocolError(f"{kind.__name__} comes out of order")
        try:
            return _TAKE[kind](self, packet)
        except (ProtocolError, Abandoned):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, the mail gets the declared answer
            return self._failed(kind, error)

    def _failed(self, kind: type[Packet], error: BaseException) -> bytes:
        stage = STAGES.get(kind)
        where = kind.__name__ if stage is None else stage.word
        return self._answer(kind, self._conversation.fail(where, error, for_good=kind in (Connect, Helo)))

    def _begins_anew(self, kind: type[Packet]) -> bool:
        # libmilter takes HELO and MAIL for the end of a message that was refused or given up without a word.
        if kind not in (Helo, Mail) or not self._order.follow(Abort, self._terms.protocol):
            return False
        self._conversation.abort()
        return self._order.follow(kind, self._terms.protocol)

    def _answer(self, kind: type[Packet], verdict: Verdict = _GO_ON) -> bytes:
        if kind not in self._terms.answered:
            return b""
        stage = STAGES.get(kind)
        if stage is None:
            return _ANSWERS[Answered.CONTINUE]
        given = answer(verdict, stage)
        edit = b"" if given.hold is None else self._edit(Quarantine(given.hold.encode()))
        return edit + (_ANSWERS[given.action] if given.reply is None else encode(ReplyCode(given.reply.smtp.encode())))

    def _edit(self, packet: Packet) -> bytes:
        needed = EDITS[type(packet)]
        if needed not in self._terms.actions:
            raise ValueError(f"the MTA does not offer {needed.name}")
        return encode(packet)

    def _macro(self, name: bytes) -> str | None:
        """A macro of the MTA; None where it is not set, or not UTF-8."""
        for values in reversed(self._macros.values()):
            value = values.get(name)
            if value is not None:
                return _text(value) or None
        return None

    def _forget_message(self) -> None:
        for each in _OF_MESSAGE:
            self._macros.pop(each, None)

    def _negotiate(self, packet: Negotiate) -> bytes:
        self._terms = terms(self._reception, packet.version, packet.actions, packet.protocol)
        self._conversation.lacks = self._terms.lacks
        return self._terms.reply

    def _note(self, packet: Macros) -> bytes:
        if packet.command == _MAIL:
            self._forget_message()
        if packet.command in _READ_MACROS:
            self._macros.pop(packet.command, None)
            self._macros[packet.command] = dict(packet.values)
        return b""

    def _connect(self, packet: Connect) -> bytes:
        address, port = None, 0
        if packet.family in (Family.INET, Family.INET6):
            address, port = packet.address.decode("ascii", "replace"), packet.port
        client = facts.client(_text(packet.hostname), address, port, self._macro(b"{client_port}"), self._macro(b"_"))
        return self._answer(Connect, self._conversation.connect(client, self._macro(b"{daemon_name}")))

    def _helo(self, packet: Helo) -> bytes:
        name = packet.name.decode("utf-8", "surrogateescape")
        return self._answer(Helo, self._conversation.helo(name, self._macro(b"{tls_version}")))

    def _mail(self, packet: Mail) -> bytes:
        sender = ReversePath(*facts.path(packet.sender))
        return self._answer(Mail, self._conversation.mail(sender, self._macro(b"{auth_authen}"), self._macro(b"i")))

    def _rcpt(self, packet: Rcpt) -> bytes:
        recipient, queue_id = ForwardPath(*facts.path(packet.recipient)), self._macro(b"i")
        if self._terms.hears_refused:
            refused = facts.refused(self._macro(b"{rcpt_mailer}"), self._macro(b"{rcpt_host}"))
            if refused is not facts.Refused.NO:
                if refused is facts.Refused.FOR_GOOD:
                    self._conversation.refused(recipient, queue_id)
                return self._answer(Rcpt)
        return self._answer(Rcpt, self._conversation.rcpt(recipient, queue_id))

    def _data(self, _: Data) -> bytes:
        return self._answer(Data, self._conversation.data(self._macro(b"i")))

    def _fields(self, packet: HeaderFields) -> bytes:
        if not self._conversation.fields(facts.fields(packet.fields, leading_space=self._terms.leading_space)):
            # The mail is refused whatever else comes.
            self._decoder.pass_over(HeaderField)
        return self._answer(HeaderField) * len(packet.fields)

    def _end_of_headers(self, _: EndOfHeaders) -> bytes:
        return self._answer(EndOfHeaders, self._conversation.end_of_headers(self._macro(b"i")))

    def _body(self, packet: BodyChunk) -> bytes:
        self._conversation.body(packet.content, self._macro(b"i"))
        return self._answer(BodyChunk)

    def _end_of_message(self, packet: EndOfMessage) -> bytes:
        queue_id = self._macro(b"i")
        self._forget_message()
        if packet.content:
            self._conversation.body(packet.content, queue_id)
        finished = self._conversation.end_of_message(queue_id)
        made = edits(finished.changes, leading_space=self._terms.leading_space)
        return b"".join(self._edit(_packet(each)) for each in made) + self._answer(EndOfMessage, finished.verdict)

    def _unknown(self, _: UnknownCommand) -> bytes:
        return self._answer(UnknownCommand)

    def _abort(self, _: Abort) -> bytes:
        self._forget_message()
        self._conversation.abort()
        return b""

    def _quit(self, _: Quit) -> bytes:
        self.over = True
        return b""

    def _next_client(self, _: QuitNewConnection) -> bytes:
        self._macros.clear()
        self._conversation.close()
        self._conversation = self._reception.open(direct=True)
        self._conversation.lacks = self._terms.lacks
        return b""


_TAKE: dict[type[Packet], Callable[[NativeMilter, Any], bytes]] = {
    Negotiate: NativeMilter._negotiate,
    Macros: NativeMilter._note,
    Connect: NativeMilter._connect,
    Helo: NativeMilter._helo,
    Mail: NativeMilter._mail,
    Rcpt: NativeMilter._rcpt,
    Data: NativeMilter._data,
    HeaderField: NativeMilter._fields,
    EndOfHeaders: NativeMilter._end_of_headers,
    BodyChunk: NativeMilter._body,
    EndOfMessage: NativeMilter._end_of_message,
    UnknownCommand: NativeMilter._unknown,
    Abort: NativeMilter._abort,
    Quit: NativeMilter._quit,
    QuitNewConnection: NativeMilter._next_client,
}


def _packet(edit: MilterEdit) -> Packet:
    match edit:
        case changes.AddRecipient(address):
            return AddRecipient(address.encode())
        case changes.DeleteRecipient(address):
            return DeleteRecipient(address.encode("utf-8", "surrogateescape"))
        case changes.ChangeSender(address):
            return ChangeSender(address.encode())
        case HeaderEdit():
            name, value = edit.name.encode(), (edit.value or "").encode()
            return InsertHeader(edit.index, name, value) if edit.insert else ChangeHeader(edit.index, name, value)


def _text(octets: bytes) -> str | None:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return None
