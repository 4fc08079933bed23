"""Header fields come together, and nothing else of a stream changes by that."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from filterd.wire import milter as m
from filterd.wire.milter_codec import ProtocolError, encode, letter
from filterd.wire.milter_decoder import Decoder, HeaderFields

_TEXT = st.binary(max_size=20).map(lambda text: text.replace(b"\0", b""))
_FIELD = st.builds(m.HeaderField, _TEXT, _TEXT)
_UNREAD = m.Macros(letter(m.HeaderField), ((b"i", b"4Q1"),))
_OTHER = st.sampled_from([_UNREAD, m.Macros(b"L"), m.Macros(b"N"), m.Data(), m.EndOfHeaders(), m.BodyChunk(b"L\0\0")])
# What is no packet: a field without value, with a third string, without payload; no length; too long.
_BAD = st.sampled_from([b"\0\0\0\3La\0", b"\0\0\0\7La\0b\0c\0", b"\0\0\0\1L", b"\0\0\0\0L", b"\0\0\x10\0L", b"\0"])


def _given(decoder: Decoder, wire: bytes, cuts: list[int]) -> list[m.Packet]:
    """What a decoder gives up to the first bad packet, fields one by one."""
    found: list[m.Packet] = []
    with suppress(ProtocolError):
        for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            for each in decoder.feed(wire[start:end]):
                found += [m.HeaderField(*pair) for pair in each.fields] if isinstance(each, HeaderFields) else [each]
    return found


@given(packets=st.lists(st.one_of(_FIELD, _OTHER).map(encode) | _BAD, max_size=12), data=st.data())
def test_gathered_fields_are_those_that_come_one_by_one(packets: list[bytes], data: st.DataObject) -> None:
    """Bad packets too are refused where they stand, and what was ahead of them is given."""
    wire = b"".join(packets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    one_by_one, gathering = (
        Decoder(max_size=1000, unread_macros=[m.HeaderField], gathers=gathers) for gathers in (False, True)
    )
    assert _given(one_by_one, wire, cuts) == _given(gathering, wire, cuts)


def test_fields_that_stand_together_come_as_one() -> None:
    """Macros that nobody reads do not part them."""
    fields = [m.HeaderField(b"A", b" 1"), _UNREAD, m.HeaderField(b"B", b" 2"), m.EndOfHeaders()]
    decoder = Decoder(unread_macros=[m.HeaderField], gathers=True)

    given_ = list(decoder.feed(b"".join(map(encode, fields))))

    assert [HeaderFields(((b"A", b" 1"), (b"B", b" 2"))), m.EndOfHeaders()] == given_
