"""The milter protocol's packets to bytes and back, one at a time, without input or output.

A packet is a length (four octets, big-endian, not counting itself), one letter, and a payload, whose layout the table
below names for every kind.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from filterd.wire.milter import (
    Abort,
    Accept,
    Action,
    AddHeader,
    AddRecipient,
    AddRecipientWithParameters,
    BodyChunk,
    ChangeHeader,
    ChangeSender,
    Connect,
    ConnectionFailure,
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
    Progress,
    Protocol,
    Quarantine,
    Quit,
    QuitNewConnection,
    Rcpt,
    Reject,
    ReplaceBody,
    ReplyCode,
    Shutdown,
    Skip,
    Tempfail,
    UnknownCommand,
)

_LENGTH = struct.Struct(">I")
_NEGOTIATION = struct.Struct(">III")
_PORT = struct.Struct(">H")


class ProtocolError(Exception):
    """The peer broke the protocol, or a packet cannot be put into it. The connection is of no further use."""


# Layouts: how a payload reads as the values of a packet's fields, and back.


def _nothing(payload: bytes) -> tuple[()]:
    if payload:
        raise ProtocolError("a packet that has no payload came with one")
    return ()


def _write_nothing(*_: object) -> bytes:
    return b""


def _raw(payload: bytes) -> tuple[bytes]:
    return (payload,)


def _write_raw(content: bytes) -> bytes:
    return content


def _strings(payload: bytes) -> list[bytes]:
    parts = payload.split(b"\0")
    if parts.pop():
        raise ProtocolError("a string has no end")
    return parts


def _write_strings(*strings: bytes) -> bytes:
    joined = b"\0".join(strings) + b"\0"
    if joined.count(0) != len(strings):
        raise ProtocolError("a string cannot have NUL in it")
    return joined


def _one(payload: bytes) -> list[bytes]:
    parts = payload.split(b"\0")
    if len(parts) != 2 or parts[1]:
        raise ProtocolError("one string was expected")
    return parts[:1]


def _text(payload: bytes) -> tuple[bytes]:
    # libmilter counts the final NUL in, others leave it away; Postfix takes both.
    text = payload.removesuffix(b"\0")
    if b"\0" in text:
        raise ProtocolError("a text cannot have NUL in it")
    return (text,)


def _two(payload: bytes) -> list[bytes]:
    parts = payload.split(b"\0")
    if len(parts) != 3 or parts[2]:
        raise ProtocolError("two strings were expected")
    return parts[:2]


def _one_or_two(payload: bytes) -> list[bytes]:
    parts = _strings(payload)
    if len(parts) not in (1, 2):
        raise ProtocolError("one or two strings were expected")
    return parts


def _write_one_or_two(first: bytes, second: bytes) -> bytes:
    return _write_strings(first, second) if second else _write_strings(first)


def _indexed(payload: bytes) -> tuple[int, bytes, bytes]:
    name, value = _two(payload[_LENGTH.size :])
    return _LENGTH.unpack_from(payload)[0], name, value


def _write_indexed(index: int, name: bytes, value: bytes) -> bytes:
    return _LENGTH.pack(index) + _write_strings(name, value)


def _path(payload: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    parts = _strings(payload)
    if not parts:
        raise ProtocolError("the path is missing")
    return parts[0], tuple(parts[1:])


def _write_path(path: bytes, parameters: tuple[bytes, ...]) -> bytes:
    return _write_strings(path, *parameters)


def _macros(payload: bytes) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    if not payload:
        raise ProtocolError("the command that the macros belong to is missing")
    parts = _strings(payload[1:])
    if len(parts) % 2:
        raise ProtocolError("a macro has no value")
    return payload[:1], tuple(zip(parts[::2], parts[1::2], strict=True))


def _write_macros(command: bytes, values: tuple[tuple[bytes, bytes], ...]) -> bytes:
    if len(command) != 1:
        raise ProtocolError("a command is one letter")
    return command + (_write_strings(*(part for pair in values for part in pair)) if values else b"")


def _connect(payload: bytes) -> tuple[bytes, Family, int, bytes]:
    hostname, _, rest = payload.partition(b"\0")
    try:
        family = Family(rest[:1].decode("latin-1"))
    except ValueError:
        raise ProtocolError("the address family is unknown") from None
    if family is Family.UNKNOWN:
        return hostname, family, 0, b""
    (address,) = _one(rest[1 + _PORT.size :])
    return hostname, family, _PORT.unpack_from(rest, 1)[0], address


def _write_connect(hostname: bytes, family: Family, port: int, address: bytes) -> bytes:
    start = _write_strings(hostname) + family.encode()
    return start if family is Family.UNKNOWN else start + _PORT.pack(port) + _write_strings(address)


def _negotiation(payload: bytes) -> tuple[int, Action, Protocol, tuple[tuple[int, bytes], ...]]:
    version, actions, protocol = _NEGOTIATION.unpack_from(payload)
    position, macros = _NEGOTIATION.size, []
    while position < len(payload):
        (stage,) = _LENGTH.unpack_from(payload, position)
        end = payload.find(b"\0", position + _LENGTH.size)
        if end < 0:
            raise ProtocolError("a macro list has no end")
        macros.append((stage, payload[position + _LENGTH.size : end]))
        position = end + 1
    return version, Action(actions), Protocol(protocol), tuple(macros)


def _write_negotiation(
    version: int, actions: Action, protocol: Protocol, macros: tuple[tuple[int, bytes], ...]
) -> bytes:
    lists = (_LENGTH.pack(stage) + _write_strings(names) for stage, names in macros)
    return _NEGOTIATION.pack(version, actions, protocol) + b"".join(lists)


@dataclass(frozen=True, slots=True)
class _Layout:
    read: Callable[[bytes], Any]
    write: Callable[..., bytes]


_NOTHING = _Layout(_nothing, _write_nothing)
_RAW = _Layout(_raw, _write_raw)
_STRING = _Layout(_one, _write_strings)
_TEXT = _Layout(_text, _write_strings)
_PAIR = _Layout(_two, _write_strings)
_OPTIONAL_PAIR = _Layout(_one_or_two, _write_one_or_two)
_INDEXED_PAIR = _Layout(_indexed, _write_indexed)
_PATH = _Layout(_path, _write_path)

_PACKETS: dict[type[Packet], tuple[bytes, _Layout]] = {
    Negotiate: (b"O", _Layout(_negotiation, _write_negotiation)),
    Macros: (b"D", _Layout(_macros, _write_macros)),
    Connect: (b"C", _Layout(_connect, _write_connect)),
    Helo: (b"H", _STRING),
    Mail: (b"M", _PATH),
    Rcpt: (b"R", _PATH),
    Data: (b"T", _NOTHING),
    HeaderField: (b"L", _PAIR),
    EndOfHeaders: (b"N", _NOTHING),
    BodyChunk: (b"B", _RAW),
    EndOfMessage: (b"E", _RAW),
    Abort: (b"A", _NOTHING),
    Quit: (b"Q", _NOTHING),
    QuitNewConnection: (b"K", _NOTHING),
    UnknownCommand: (b"U", _STRING),
    Continue: (b"c", _NOTHING),
    Accept: (b"a", _NOTHING),
    Reject: (b"r", _NOTHING),
    Discard: (b"d", _NOTHING),
    Tempfail: (b"t", _NOTHING),
    Skip: (b"s", _NOTHING),
    Progress: (b"p", _NOTHING),
    Shutdown: (b"4", _NOTHING),
    ConnectionFailure: (b"f", _NOTHING),
    ReplyCode: (b"y", _TEXT),
    AddHeader: (b"h", _PAIR),
    InsertHeader: (b"i", _INDEXED_PAIR),
    ChangeHeader: (b"m", _INDEXED_PAIR),
    ReplaceBody: (b"b", _RAW),
    AddRecipient: (b"+", _STRING),
    AddRecipientWithParameters: (b"2", _OPTIONAL_PAIR),
    DeleteRecipient: (b"-", _STRING),
    ChangeSender: (b"e", _OPTIONAL_PAIR),
    Quarantine: (b"q", _TEXT),
}

#: By a packet's letter, as a number: its kind, and what reads a payload as the values of its fields; that raises
#: ProtocolError, and struct.error where the payload ends too early.
READERS: Mapping[int, tuple[type[Packet], Callable[[bytes], Any]]] = {
    code[0]: (packet, layout.read) for packet, (code, layout) in _PACKETS.items()
}


def _values_of(kind: type[Packet]) -> Callable[[Packet], tuple[Any, ...]]:
    names = [each.name for each in fields(kind)]
    if len(names) > 1:
        return attrgetter(*names)

    def few(packet: Packet) -> tuple[Any, ...]:
        return tuple(getattr(packet, name) for name in names)

    return few


_WRITERS = {packet: (code, layout.write, _values_of(packet)) for packet, (code, layout) in _PACKETS.items()}


def letter(packet: type[Packet]) -> bytes:
    """The letter that a kind of packet goes by, as Macros name the command that they belong to."""
    return _PACKETS[packet][0]


def encode(packet: Packet) -> bytes:
    """The packet as it goes over the wire.

    Raises ProtocolError for what cannot be written: NUL within a string, a number out of range.
    """
    code, write, values = _WRITERS[type(packet)]
    try:
        payload = write(*values(packet))
    except struct.error:
        raise ProtocolError("a number is out of range") from None
    return _LENGTH.pack(len(payload) + 1) + code + payload
