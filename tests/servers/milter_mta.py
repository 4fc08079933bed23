"""The MTA's side of a milter connection, packet by packet: as hostile, broken or impatient as a test wants it."""

import socket
from collections.abc import Sequence
from typing import Self

from filterd.wire.milter import (
    Action,
    AddHeader,
    BodyChunk,
    ChangeHeader,
    Connect,
    Data,
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
    Progress,
    Protocol,
    Quarantine,
    Quit,
    Rcpt,
)
from filterd.wire.milter_codec import encode
from filterd.wire.milter_decoder import Decoder
from filterd.wire.milter_state import is_answered

POSTFIX_ACTIONS = Action(0x1FF)
POSTFIX_PROTOCOL = Protocol(0x1FFFFF)
_EDITS = (AddHeader, ChangeHeader, InsertHeader, Quarantine)
_PATIENCE = 30.0


class ClosedError(Exception):
    """The filter has closed the connection."""


class MilterMta:
    """A connection to a filter, `unix:PATH` or `inet:PORT@HOST`. `edits` are those of the last message."""

    def __init__(self, address: str) -> None:
        kind, _, place = address.partition(":")
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(place)
        else:
            port, _, host = place.partition("@")
            self.socket = socket.create_connection((host, int(port)))
        self.socket.settimeout(_PATIENCE)
        self.protocol = Protocol(0)
        self.edits: list[Packet] = []
        self._decoder = Decoder()
        self._received: list[Packet] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def negotiate(
        self, actions: Action = POSTFIX_ACTIONS, protocol: Protocol = POSTFIX_PROTOCOL, version: int = 6
    ) -> Negotiate:
        """Offer; the filter's choice holds from then on."""
        self.raw(encode(Negotiate(version, actions, protocol)))
        chosen = self._packet()
        assert isinstance(chosen, Negotiate)
        self.protocol = chosen.protocol
        return chosen

    def raw(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def say(self, packet: Packet, **macros: str) -> Packet | None:
        """Send a command, ahead of it its macros (`i`, `auth_authen`); the answer, None where there is none."""
        if macros:
            values = tuple((_macro_name(name), value.encode()) for name, value in macros.items())
            self.raw(encode(Macros(encode(packet)[4:5], values)))
        self.raw(encode(packet))
        if not is_answered(type(packet), self.protocol):
            return None
        return self.answer()

    def answer(self) -> Packet:
        """The next answer; edits ahead of it go to `edits`."""
        while True:
            packet = self._packet()
            if isinstance(packet, _EDITS):
                self.edits.append(packet)
            elif not isinstance(packet, Progress):
                return packet

    def open(self, ip: str = "192.0.2.1", helo: bytes = b"client.example", name: bytes = b"client.example") -> None:
        """All that comes before MAIL."""
        self.negotiate()
        family = Family.INET6 if ":" in ip else Family.INET
        self.say(Connect(name, family, 12345, ip.encode()), j="mx.example.org", daemon_name="smtpd")
        self.say(Helo(helo))

    def send(
        self,
        header: Sequence[tuple[bytes, bytes]] = ((b"From", b" a@example.org"), (b"Subject", b" x")),
        body: bytes = b"text\r\n",
        sender: bytes = b"<a@example.org>",
        recipient: bytes = b"<b@example.net>",
        queue_id: str = "4Q1",
    ) -> Packet:
        """A whole message, as far as it is not refused; the last answer."""
        self.edits.clear()
        steps: list[Packet] = [Mail(sender), Rcpt(recipient), Data()]
        steps += [HeaderField(field, value) for field, value in header]
        steps.append(EndOfHeaders())
        steps += [BodyChunk(body[start : start + 65535]) for start in range(0, len(body), 65535)]
        for step in steps:
            macros = {} if isinstance(step, HeaderField | BodyChunk) else {"i": queue_id}
            answer = self.say(step, **macros)
            if answer is not None and type(answer).__name__ != "Continue":
                return answer
        answer = self.say(EndOfMessage(), i=queue_id)
        assert answer is not None
        return answer

    def quit(self) -> None:
        self.raw(encode(Quit()))
        self.socket.close()

    def _packet(self) -> Packet:
        while not self._received:
            octets = self.socket.recv(65536)
            if not octets:
                raise ClosedError
            self._received += self._decoder.feed(octets)
        return self._received.pop(0)


def _macro_name(name: str) -> bytes:
    return name.encode() if len(name) == 1 else b"{" + name.encode() + b"}"
