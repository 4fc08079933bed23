"""Answers from a master file: RFC 1035's text, RFC 1034's aliases, RFC 4592's wildcards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.backend.zone import ZoneFileError, zone_resolver
from filterd.lookup import Answer, Outcome
from filterd.mail.reason import Reason

ZONE = """\
; two domains in one file
example.org.      IN SOA ns.example.org. hostmaster.example.org. 1 2 3 4 5
example.org.      60 TXT "v=spf1 " "-all"
                  MX 10 Mail.example.org.
                  MX 20 backup.example.net.
$ORIGIN example.net.
$TTL 1h
@                 SOA ns hostmaster ( 1 2 3 ; over lines
                      4 5 )
backup            A 192.0.2.2
                  AAAA 2001:db8::2
a.b.c             A 192.0.2.3
www          30   CNAME backup
away              CNAME example.org.
broken            CNAME nothing.example.
one               CNAME two
two               CNAME one
*.wild            TXT "any"
real.wild         A 192.0.2.4
null              MX 0 .
slow              A 192.0.2.9
alias             CNAME slow
; fails: slow.example.net
"""


@pytest.mark.parametrize(
    ("name", "rdtype", "values", "ttl"),
    [
        ("example.org", "TXT", (b"v=spf1 -all",), 60),
        ("EXAMPLE.ORG.", "TXT", (b"v=spf1 -all",), 60),
        ("example.org", "MX", ("10 mail.example.org", "20 backup.example.net"), 60),
        ("example.org", "SOA", ("ns.example.org. hostmaster.example.org. 1 2 3 4 5",), 300),
        ("backup.example.net", "A", ("192.0.2.2",), 3_600),
        ("backup.example.net", "AAAA", ("2001:db8::2",), 3_600),
        ("www.example.net", "A", ("192.0.2.2",), 30),
        ("www.example.net", "CNAME", ("backup.example.net",), 30),
        ("away.example.net", "TXT", (b"v=spf1 -all",), 60),
        ("x.wild.example.net", "TXT", (b"any",), 3_600),
        ("y.x.wild.example.net", "TXT", (b"any",), 3_600),
        ("null.example.net", "MX", ("0 .",), 3_600),
    ],
)
def test_what_is_there(name: str, rdtype: str, values: tuple[bytes | str, ...], ttl: int) -> None:
    expected = Answer(name.lower().removesuffix("."), rdtype, Outcome.FOUND, values, ttl)
    assert zone_resolver(ZONE).lookup(name, rdtype) == expected


@pytest.mark.parametrize(
    ("name", "rdtype", "outcome", "reason"),
    [
        ("example.org", "A", Outcome.NODATA, None),
        ("org", "A", Outcome.NODATA, None),  # a name above an existing one
        ("b.c.example.net", "A", Outcome.NODATA, None),
        ("wild.example.net", "TXT", Outcome.NODATA, None),
        ("x.wild.example.net", "A", Outcome.NODATA, None),
        ("real.wild.example.net", "TXT", Outcome.NODATA, None),
        ("x.real.wild.example.net", "TXT", Outcome.NXDOMAIN, None),  # the closest name has no wildcard
        ("x.b.c.example.net", "A", Outcome.NXDOMAIN, None),
        ("nothing.example", "A", Outcome.NXDOMAIN, None),
        ("broken.example.net", "A", Outcome.NXDOMAIN, None),
        ("one.example.net", "A", Outcome.TEMPFAIL, Reason.DNS_SERVFAIL),
        ("slow.example.net", "A", Outcome.TEMPFAIL, Reason.DNS_SERVFAIL),
        ("x.slow.example.net", "TXT", Outcome.TEMPFAIL, Reason.DNS_SERVFAIL),
        ("alias.example.net", "A", Outcome.TEMPFAIL, Reason.DNS_SERVFAIL),
        ("tooslow.example.net", "A", Outcome.NXDOMAIN, None),
        ("", "A", Outcome.NXDOMAIN, Reason.DNS_BAD_NAME),
        ("a..b", "A", Outcome.NXDOMAIN, Reason.DNS_BAD_NAME),
        ("x" * 64, "A", Outcome.NXDOMAIN, Reason.DNS_BAD_NAME),
    ],
)
def test_what_is_not(name: str, rdtype: str, outcome: Outcome, reason: Reason | None) -> None:
    answer = zone_resolver(ZONE).lookup(name, rdtype)
    assert (answer.outcome, answer.values, answer.reason) == (outcome, (), reason)


def test_relative_names_are_completed_with_the_origin() -> None:
    assert zone_resolver("www A 192.0.2.1\n", "example.org").lookup("www.example.org", "A").names == ("192.0.2.1",)
    assert zone_resolver("www A 192.0.2.1\n").lookup("www", "A").names == ("192.0.2.1",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x. A 1.2.3", "cannot be read"),
        ("x. A 1.2.3.4 5", "expected EOL"),
        ("x. BOGUS 1", "unknown rdatatype"),
        ('x. TXT "open', "quoted string"),
        ("x. SOA ( 1", "integer"),
        ("x..y A 1.2.3.4", "label is empty"),
        ("x" * 64 + ". A 1.2.3.4", "63 octets"),
        ("x. CH A 1.2.3.4", "class"),
        ("here. A 1.2.3.4", "CNAME"),
        ("here. CNAME there.", "CNAME"),
        ("$INCLUDE /etc/passwd", "$INCLUDE"),
        ("$GENERATE 1-9999999 a$ A 1.2.3.4", "$GENERATE"),
        ("$TTL soon", "TTL"),
    ],
)
def test_what_is_no_master_file_is_an_error_with_its_line(line: str, said: str) -> None:
    first = "here. TXT first" if "CNAME there" in line else "here. CNAME there."
    with pytest.raises(ZoneFileError) as caught:
        zone_resolver(f"; a comment\n{first}\n{line}\n\nlast. A 192.0.2.1\n")
    assert caught.value.line == (5 if "(" in line else 3)  # an open parenthesis joins lines
    assert said in caught.value.text


def test_an_origin_that_is_no_name_is_an_error() -> None:
    with pytest.raises(ZoneFileError):
        zone_resolver("", "a..b")


@given(st.text(st.sampled_from('a.*@ \t\n;"\\()$09:') | st.characters(), max_size=60), st.text(max_size=20))
def test_no_text_raises_anything_else(text: str, name: str) -> None:
    try:
        zone = zone_resolver(f"x. A 192.0.2.1\n{text}\n")
    except ZoneFileError as error:
        assert error.line >= 1
    else:
        assert zone.lookup(name, "TXT").name == name.lower().removesuffix(".")
