"""Packets survive the wire however it cuts them, and nothing that comes in raises anything but ProtocolError."""

from contextlib import suppress
from dataclasses import fields
from itertools import dropwhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.wire import milter as m
from filterd.wire.milter_codec import ProtocolError, encode, letter
from filterd.wire.milter_decoder import Decoder

_KINDS = [
    kind for kind in vars(m).values() if isinstance(kind, type) and issubclass(kind, m.Packet) and kind is not m.Packet
]
_STRING = st.binary(max_size=40).map(lambda text: text.replace(b"\0", b""))
_NUMBER = st.integers(0, 2**32 - 1)
_STRINGS = st.lists(_STRING, max_size=4).map(tuple)
# A text may lack its final NUL, so that one cannot be told from none.
_PAIRS = st.lists(st.tuples(_STRING, _STRING), max_size=4).map(tuple)

_PLAIN = [
    m.Data, m.EndOfHeaders, m.Abort, m.Quit, m.QuitNewConnection, m.Continue, m.Accept, m.Reject, m.Discard, m.Tempfail,
    m.Skip, m.Progress, m.Shutdown, m.ConnectionFailure,
]  # fmt: skip
_PACKET = st.one_of(
    st.builds(
        m.Negotiate,
        _NUMBER,
        _NUMBER.map(m.Action),
        _NUMBER.map(m.Protocol),
        st.lists(st.tuples(_NUMBER, _STRING), max_size=4).map(tuple),
    ),
    st.builds(m.Macros, st.binary(min_size=1, max_size=1), _PAIRS),
    st.builds(m.Connect, _STRING),
    st.builds(
        m.Connect,
        _STRING,
        st.sampled_from([m.Family.INET, m.Family.INET6, m.Family.UNIX]),
        st.integers(0, 65535),
        _STRING,
    ),
    st.builds(m.Mail, _STRING, _STRINGS),
    st.builds(m.Rcpt, _STRING, _STRINGS),
    *(st.builds(kind, _STRING, _STRING) for kind in (m.HeaderField, m.AddHeader)),
    *(st.builds(kind, _STRING, _STRING) for kind in (m.AddRecipientWithParameters, m.ChangeSender)),
    *(st.builds(kind, _NUMBER, _STRING, _STRING) for kind in (m.InsertHeader, m.ChangeHeader)),
    *(st.builds(kind, st.binary(max_size=200)) for kind in (m.BodyChunk, m.EndOfMessage, m.ReplaceBody)),
    *(st.builds(kind, _STRING) for kind in (m.Helo, m.UnknownCommand, m.AddRecipient, m.DeleteRecipient)),
    *(st.builds(kind, _STRING) for kind in (m.ReplyCode, m.Quarantine)),
    *(st.builds(kind) for kind in _PLAIN),
)


def test_every_kind_of_packet_is_tried() -> None:
    """The strategy above leaves no packet out, and every packet has a letter of its own but for the negotiation."""
    kinds = set(_KINDS)
    letters = {letter(kind) for kind in kinds}

    assert 34 == len(kinds) == len(letters)


@given(_PACKET)
def test_what_is_written_reads_back(packet: m.Packet) -> None:
    assert [packet] == list(Decoder().feed(encode(packet)))


@given(st.lists(_PACKET, max_size=6), st.data())
def test_every_cut_of_the_stream_gives_the_same_packets(packets: list[m.Packet], data: st.DataObject) -> None:
    stream = b"".join(map(encode, packets))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = Decoder()
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert packets == [packet for piece in pieces for packet in decoder.feed(piece)]
    assert decoder.empty


@given(_PACKET)
def test_octet_by_octet_is_no_different(packet: m.Packet) -> None:
    decoder = Decoder()

    assert [packet] == [each for octet in encode(packet) for each in decoder.feed(bytes([octet]))]


@given(st.binary(max_size=200))
def test_garbage_is_a_protocol_error_or_nothing(garbage: bytes) -> None:
    with suppress(ProtocolError):
        list(Decoder().feed(garbage))


@given(st.sampled_from(sorted(letter(kind) for kind in _KINDS)), st.binary(max_size=60))
def test_a_known_letter_with_any_payload_is_a_packet_that_can_be_written_or_a_protocol_error(
    code: bytes, payload: bytes
) -> None:
    try:
        (packet,) = Decoder().feed((len(payload) + 1).to_bytes(4, "big") + code + payload)
    except ProtocolError:
        return

    assert [packet] == list(Decoder().feed(encode(packet)))


@given(_PACKET, st.data())
def test_a_damaged_packet_raises_nothing_else(packet: m.Packet, data: st.DataObject) -> None:
    wire = bytearray(encode(packet))
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ProtocolError):
        list(Decoder().feed(bytes(wire)))


def test_packets_ahead_of_a_bad_one_are_given_and_then_the_error_stays() -> None:
    decoder = Decoder()
    packets = decoder.feed(encode(m.Continue()) + b"\0\0\0\1?" + encode(m.Accept()))

    assert m.Continue() == next(packets)
    with pytest.raises(ProtocolError):
        next(packets)
    with pytest.raises(ProtocolError):
        list(decoder.feed(encode(m.Continue())))


@pytest.mark.parametrize("length", [0, 101, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_before_anything_of_it_has_come(length: int) -> None:
    with pytest.raises(ProtocolError):
        list(Decoder(max_size=100).feed(length.to_bytes(4, "big")))


def test_the_largest_packet_is_taken() -> None:
    chunk = m.BodyChunk(b"x" * 99)

    assert [chunk] == list(Decoder(max_size=100).feed(encode(chunk)))


@pytest.mark.parametrize(
    "packet",
    [
        m.Helo(b"a\0b"),
        m.HeaderField(b"a", b"b\0c"),
        m.Mail(b"<>", (b"A=\0",)),
        m.ReplyCode(b"550 \0"),
        m.Macros(b"MM"),
        m.Macros(b"M", ((b"i", b"\0"),)),
        m.InsertHeader(-1, b"a", b"b"),
        m.InsertHeader(2**32, b"a", b"b"),
        m.Connect(b"a", m.Family.INET, 65536, b"192.0.2.1"),
    ],
)
def test_what_the_wire_cannot_carry_is_not_written(packet: m.Packet) -> None:
    with pytest.raises(ProtocolError):
        encode(packet)


@pytest.mark.parametrize(
    ("packet", "wire"),
    [
        # Octets as libmilter's mfdef.h and mfapi have them.
        (m.Negotiate(6, m.Action(0x1FF), m.Protocol(0x1FFFFF)), b"\0\0\0\rO\0\0\0\6\0\0\1\xff\0\x1f\xff\xff"),
        (
            m.Negotiate(6, m.Action.SET_MACROS, m.Protocol(0), ((m.MacroStage.MAIL, b"i {auth_authen}"),)),
            b"\0\0\0\x21O\0\0\0\6\0\0\1\0\0\0\0\0\0\0\0\2i {auth_authen}\0",
        ),
        (m.Macros(b"M", ((b"i", b"4X"), (b"{mail_addr}", b"a@b"))), b"\0\0\0\x17DMi\0004X\0{mail_addr}\0a@b\0"),
        (m.Connect(b"h.example", m.Family.INET, 25, b"192.0.2.1"), b"\0\0\0\x18Ch.example\0004\0\x19192.0.2.1\0"),
        (m.Connect(b"localhost"), b"\0\0\0\x0cClocalhost\0U"),
        (m.Mail(b"<a@b>", (b"SIZE=1",)), b"\0\0\0\x0eM<a@b>\0SIZE=1\0"),
        (m.EndOfMessage(), b"\0\0\0\1E"),
        (m.InsertHeader(1, b"A", b" b"), b"\0\0\0\x0ai\0\0\0\1A\0 b\0"),
        (m.ChangeSender(b"<a@b>"), b"\0\0\0\7e<a@b>\0"),
        (m.ReplyCode(b"550 5.7.1 No"), b"\0\0\0\x0ey550 5.7.1 No\0"),
    ],
)
def test_the_octets_are_those_of_libmilter(packet: m.Packet, wire: bytes) -> None:
    assert wire == encode(packet)


def test_a_reply_without_its_final_nul_is_read_as_postfix_reads_it() -> None:
    assert [m.ReplyCode(b"550 No")] == list(Decoder().feed(b"\0\0\0\7y550 No"))


def test_packets_are_immutable_and_slotted() -> None:
    for kind in _KINDS:
        assert all(each.name in kind.__slots__ for each in fields(kind))


_PASSED = m.HeaderField(b"X", b" y")
_UNREAD = m.Macros(letter(m.HeaderField), ((b"i", b"4Q1"),))


@given(
    packets=st.lists(st.one_of(_PACKET, st.sampled_from([_PASSED, _UNREAD, m.Macros(b"L")])), max_size=12),
    data=st.data(),
)
def test_what_is_passed_over_is_left_out_however_the_stream_is_cut(
    packets: list[m.Packet], data: st.DataObject
) -> None:
    """Up to the first packet of another kind; macros that nobody reads are left out everywhere, and are no such packet."""
    wire = b"".join(map(encode, packets))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    decoder = Decoder(unread_macros=[m.HeaderField])
    decoder.pass_over(m.HeaderField)
    given_ = [
        each
        for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)
        for each in decoder.feed(wire[start:end])
    ]

    wanted = [each for each in packets if not (isinstance(each, m.Macros) and each.command == b"L")]
    assert given_ == list(dropwhile(lambda each: isinstance(each, m.HeaderField), wanted))


def test_an_empty_packet_among_those_passed_over_is_refused() -> None:
    decoder = Decoder(unread_macros=[m.HeaderField])
    decoder.pass_over(m.HeaderField)
    with pytest.raises(ProtocolError, match="a packet of 0 octets"):
        list(decoder.feed(encode(_PASSED) * 3 + b"\0\0\0\0" + encode(_PASSED)))
