"""Names and values between dnspython and Answer."""

import dns.name
import dns.rdata
import pytest

from filterd.backend.records import name_of, text_of, value_of


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("example.org", (b"example", b"org", b"")),
        ("Example.ORG.", (b"example", b"org", b"")),
        ("_dmarc.example", (b"_dmarc", b"example", b"")),
        ("a\\.b", (b"a\\", b"b", b"")),
        ("\\065.b", (b"\\065", b"b", b"")),
        ("@.b", (b"@", b"b", b"")),
        ("a b.\0", (b"a b", b"\0", b"")),
        ("x" * 63, (b"x" * 63, b"")),
    ],
)
def test_dots_separate_labels_and_nothing_is_an_escape(text: str, labels: tuple[bytes, ...]) -> None:
    assert name_of(text) == dns.name.Name(labels)


@pytest.mark.parametrize("text", ["", ".", "..", "a..b", ".a", "a..", "x" * 64, "a." * 127 + "ab", "ü", "\udcff"])
def test_what_cannot_be_asked(text: str) -> None:
    assert name_of(text) is None


def test_a_name_as_text() -> None:
    assert text_of(dns.name.from_text("Mail.example.org.")) == "mail.example.org"
    assert text_of(dns.name.Name((b"a.b", b"c", b""))) == "a\\.b.c"  # not the same as a.b.c
    assert text_of(dns.name.root) == "."


@pytest.mark.parametrize(
    ("rdtype", "text", "value"),
    [
        ("TXT", '"v=spf1 " "-all\\255"', b"v=spf1 -all\xff"),
        ("TXT", '""', b""),
        ("A", "192.0.2.1", "192.0.2.1"),
        ("AAAA", "2001:DB8:0::1", "2001:db8::1"),
        ("MX", "10 Mail.example.", "10 mail.example"),
        ("MX", "0 .", "0 ."),
        ("PTR", "host.example.", "host.example"),
        ("CNAME", "host.example.", "host.example"),
        ("NS", "ns.example.", "ns.example"),
    ],
)
def test_values(rdtype: str, text: str, value: bytes | str) -> None:
    assert value_of(dns.rdata.from_text("IN", rdtype, text)) == value
