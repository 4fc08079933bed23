"""The client that a relay of ours recorded: clear, or not believed."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.mail.header import Field, Header
from filterd.mail.received import added_inside, handover


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            b" from mail.a.example (host.a.example [192.0.2.1])\r\n\tby mx2.home.example",
            ("mail.a.example", "192.0.2.1"),
        ),
        (b" from a (unknown [IPv6:2001:db8::1]) by b", ("a", "2001:db8::1")),
        (b" from a (h [192.0.2.1] (may be forged)) by b", ("a", "192.0.2.1")),
        (b" from h ([192.0.2.1] helo=a) by b", ("h", "192.0.2.1")),
        (b" from a (192.0.2.1) by b with Microsoft SMTP Server", ("a", "192.0.2.1")),
        (b" from [192.0.2.1] (h [192.0.2.1]) by b", ("192.0.2.1", "192.0.2.1")),
        (b" from [198.51.100.9] (h [192.0.2.1]) by b", ("198.51.100.9", None)),
        (b" from [192.0.2.1] (helo=[198.51.100.9]) by b", ("192.0.2.1", None)),
        (b" from a (h [999.0.2.1]) by b", None),
        (b" by b (Postfix, from userid 0) id 4Q", None),
        (b" from a by b", None),
        (b"", None),
    ],
)
def test_handover(value: bytes, expected: tuple[str, str | None] | None) -> None:
    found = handover(Field(b"Received", value))

    assert (expected and (expected[0], expected[1] and ip_address(expected[1]))) == (found and (found.helo, found.ip))


@given(st.binary(max_size=300) | st.text("from [](). by1:\r\n\t", max_size=200).map(str.encode))
def test_whatever_it_says_it_is_read_or_not(value: bytes) -> None:
    handover(Field(b"Received", b" from " + value))


@pytest.mark.parametrize(
    ("clients", "expected"),
    [
        # o is a client of ours, s a stranger's, x one that the field does not tell; digits are other fields
        ("", ""),
        ("12", "12"),
        ("1s2s3", "1s2"),
        ("1o2s3s4", "1o2s3"),
        ("1o2o3s4s5", "1o2o3s4"),
        ("1x2s3", "1x2"),
        ("1s2o3", "1s2"),
    ],
)
def test_what_servers_of_ours_may_have_added(clients: str, expected: str) -> None:
    values = {"o": b" from a (h [192.0.2.1]) by b", "s": b" from a (h [203.0.113.1]) by b", "x": b" by b"}
    fields = [Field(b"received" if each in values else b"X", values.get(each, each.encode())) for each in clients]
    found = added_inside(Header.of(fields), lambda ip: ip == ip_address("192.0.2.1"))

    assert tuple(fields[: len(expected)]) == found
