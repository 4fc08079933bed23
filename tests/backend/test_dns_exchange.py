"""Reading responses: whatever the octets, a response to this very question or MalformedResponseError."""

import dns.name
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers.fake_dns import reply

from filterd.backend.dns_exchange import MalformedResponseError, read_response
from filterd.backend.records import value_of

NAME = dns.name.from_text("a.example.")
QUERY = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x00\x00\x10\x00\x01"
RESPONSE = reply(
    QUERY,
    'a.example. 60 TXT "v=spf1 -all" "more"',
    "a.example. 60 MX 10 m.example.",
    "a.example. 60 AAAA 2001:db8::1",
    "a.example. 60 TYPE65280 \\# 2 0102",
    "example. 60 SOA ns.example. h.example. 1 2 3 4 5",
)
EDITS = st.lists(st.tuples(st.integers(4, len(RESPONSE) - 1), st.integers(0, 255)), max_size=6)


def read(wire: bytes, query_id: int = 0x1234, name: dns.name.Name = NAME) -> tuple[bytes | str, ...]:
    response = read_response(wire, query_id, name, dns.rdatatype.TXT)
    answer = response.resolve_chaining().answer
    return () if answer is None else tuple(map(value_of, answer))


def test_a_response() -> None:
    assert read(RESPONSE) == (b"v=spf1 -allmore",)
    assert read(RESPONSE + b"trailing") == (b"v=spf1 -allmore",)


def test_a_response_to_something_else() -> None:
    for arguments in (
        (RESPONSE, 0x1235, NAME),
        (RESPONSE, 0x1234, dns.name.from_text("b.example.")),
        (QUERY, 0x1234, NAME),
    ):
        with pytest.raises(MalformedResponseError):
            read(*arguments)


@given(EDITS, st.integers(0, len(RESPONSE)))
def test_no_octets_raise_anything_else(edits: list[tuple[int, int]], length: int) -> None:
    wire = bytearray(RESPONSE)
    for position, octet in edits:
        wire[position] = octet
    try:
        response = read_response(bytes(wire[:length]), 0x1234, NAME, dns.rdatatype.TXT)
    except MalformedResponseError:
        return
    assert [each.name for each in response.question] == [NAME]
    for rrset in response.answer:
        for rdata in rrset:
            assert isinstance(value_of(rdata), bytes | str)
