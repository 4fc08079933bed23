"""A stream of octets to the milter packets in it, however it is cut; how each of them reads is for `milter_codec`."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from filterd.wire.milter import HeaderField, Macros, Packet
from filterd.wire.milter_codec import READERS, ProtocolError, letter

_LENGTH = struct.Struct(">I")
_BEGINNING = struct.Struct(">IBB")  # of a packet that has a payload
_MACROS, _FIELD = letter(Macros)[0], letter(HeaderField)[0]


@dataclass(frozen=True, slots=True)
class HeaderFields(Packet):
    """HeaderField packets one behind the other: the name and the value of each."""

    fields: tuple[tuple[bytes, bytes], ...]


class Decoder:
    """Bytes in, packets out, however the bytes are cut.

    A packet larger than `max_size` octets (letter and payload) is refused as soon as its length is read. After a
    ProtocolError every further call raises it again. Macros of a command in `unread_macros` are not given: Postfix
    sends some with each header field. If it `gathers`, header fields come as HeaderFields, all that stand together.
    """

    def __init__(
        self, max_size: int = 1 << 20, unread_macros: Iterable[type[Packet]] = (), *, gathers: bool = False
    ) -> None:
        self._max_size = max_size
        self._gathers = gathers
        self._unread_macros = frozenset(letter(kind)[0] for kind in unread_macros)
        self._rest = bytearray()
        self._awaited = _LENGTH.size
        self._error: ProtocolError | None = None
        self._passed: int | None = None

    def feed(self, received: bytes) -> Iterator[Packet]:
        """Take bytes, give each packet that they complete, in order: all are to be taken before the next call.

        Raises ProtocolError, while it is iterated, at the first bad packet; those ahead of it have been given.
        """
        if self._error is not None:
            raise self._error
        if self._rest:
            self._rest += received
            if len(self._rest) < self._awaited:
                # Looked at when it is whole: a packet in many pieces is copied once.
                return iter(())
            received = bytes(self._rest)
            self._rest.clear()
        return self._packets(received)

    def pass_over(self, kind: type[Packet]) -> None:
        """Give no more packets of that kind, and do not read them, up to the first of another that is given."""
        self._passed = letter(kind)[0]

    @property
    def passing_over(self) -> bool:
        """Whether packets are passed over, as far as is known."""
        return self._passed is not None

    @property
    def empty(self) -> bool:
        """Whether nothing is half received."""
        return not self._rest

    def _packets(self, received: bytes) -> Iterator[Packet]:
        start, size, self._awaited = 0, len(received), _LENGTH.size
        largest, unread, unpack = self._max_size, self._unread_macros, _LENGTH.unpack_from
        try:
            while size - start >= 4:
                (length,) = unpack(received, start)
                if not 1 <= length <= largest:
                    raise ProtocolError(f"a packet of {length} octets")
                code = start + 4
                end = code + length
                if end > size:
                    self._awaited = end - start
                    break
                first = received[code]
                if first == _MACROS and length > 1 and received[code + 1] in unread:
                    start = end
                    continue
                if first == self._passed:
                    start = self._passed_over(received, end)
                    continue
                self._passed = None
                if first == _FIELD and self._gathers:
                    fields, behind = self._gathered(received, start)
                    if fields:
                        yield HeaderFields(tuple(fields))
                        start = behind
                        continue
                found = READERS.get(first)
                if found is None:
                    raise ProtocolError(f"a packet of unknown kind 0x{first:02x}")
                kind, read = found
                yield kind(*read(received[code + 1 : end]))
                start = end
        except struct.error:
            self._error = ProtocolError("a packet ends too early")
            raise self._error from None
        except ProtocolError as error:
            self._error = error
            raise
        self._rest += received[start:]

    def _gathered(self, received: bytes, start: int) -> tuple[list[tuple[bytes, bytes]], int]:
        """The whole header fields from `start` on, up to the first packet that is something else, or bad."""
        largest, unread, unpack, size = self._max_size, self._unread_macros, _BEGINNING.unpack_from, len(received)
        fields: list[tuple[bytes, bytes]] = []
        while start + _BEGINNING.size <= size:
            length, first, second = unpack(received, start)
            end = start + 4 + length
            if end > size or not 2 <= length <= largest:
                break
            if first == _FIELD:
                parts = received[start + 5 : end].split(b"\0")
                if len(parts) != 3 or parts[2]:
                    break
                fields.append((parts[0], parts[1]))
            elif first != _MACROS or second not in unread:
                break
            start = end
        return fields, start

    def _passed_over(self, received: bytes, start: int) -> int:
        """Behind the packets that are passed over, which may be many and small: where the first other begins."""
        passed, unread, unpack, size = self._passed, self._unread_macros, _BEGINNING.unpack_from, len(received)
        last, end = start, size - _BEGINNING.size
        while start <= end:
            length, first, second = unpack(received, start)
            if length < 2 or (first != passed and (first != _MACROS or second not in unread)):
                return start
            last = start
            start += length + 4
        return start if start <= size else last
