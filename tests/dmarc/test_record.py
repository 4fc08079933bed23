"""filterd.dmarc.record: RFC 9989 4.7, 4.8 and the fallback of 4.10.1; RFC 7489 6.3 and the fallback of 6.6.3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.dmarc.record import Alignment, PublicSuffix, Record, Request, parse

NONE, QUARANTINE, REJECT = Request
RUA = ("mailto:a@example.org",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"v=DMARC1; p=reject", Record(REJECT)),
        (b"v=DMARC1;p=quarantine;", Record(QUARANTINE)),
        (b"V = DMARC1 ;\tp = none ; ", Record(NONE)),
        (b"v=DMARC1; P=Reject", Record(REJECT)),
        (b"v=DMARC1; sp=none; p=reject; np=quarantine", Record(REJECT, NONE, QUARANTINE)),
        # p= is not required
        (b"v=DMARC1", Record(NONE)),
        (b"v=DMARC1; sp=reject", Record(NONE, REJECT)),
        # psd, t, adkim, aspf
        (b"v=DMARC1; p=none; psd=y", Record(NONE, psd=PublicSuffix.YES)),
        (b"v=DMARC1; p=none; psd=N", Record(NONE, psd=PublicSuffix.NO)),
        (b"v=DMARC1; p=none; psd=u", Record(NONE)),
        (b"v=DMARC1; p=reject; t=y", Record(REJECT, testing=True)),
        (b"v=DMARC1; p=reject; t=n", Record(REJECT)),
        (b"v=DMARC1; p=none; adkim=s", Record(NONE, adkim=Alignment.STRICT)),
        (b"v=DMARC1; p=none; aspf=S; adkim=r", Record(NONE, aspf=Alignment.STRICT)),
        # unknown tags, tags that RFC 9989 removed, and syntax errors are passed over
        (b"v=DMARC1; p=reject; pct=5; ri=1; rf=afrf; x=y", Record(REJECT)),
        (b"v=DMARC1; p=reject; psd=maybe; t=1; adkim=strict; aspf=; fo=7; junk;;; =; \xff=\xff", Record(REJECT)),
        # twice: nobody can tell which is meant
        (b"v=DMARC1; p=reject; psd=y; psd=n", Record(REJECT)),
        # reports
        (b"v=DMARC1; rua=mailto:a@example.org", Record(NONE, rua=RUA)),
        (
            b"v=DMARC1; rua=mailto:a@example.org!10m , https://b.example/x",
            Record(NONE, rua=(*RUA, "https://b.example/x")),
        ),
        (b"v=DMARC1; ruf=nonsense,mailto:a@example.org; fo=1:d:s", Record(NONE, ruf=RUA, fo=frozenset("1ds"))),
    ],
)
def test_reads(text: bytes, expected: Record) -> None:
    assert expected == parse(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"DMARC1; p=reject",
        b"v=DMARC1 p=reject",
        b"v=DMARC2; p=reject",
        b"v=DMARC1.0; p=reject",
        b"v=dmarc1; p=reject",
        b"p=reject; v=DMARC1",
        b" v=DMARC1; p=reject",
        b"; v=DMARC1; p=reject",
        b"v=spf1 -all",
        b"v=DMARC1\xff; p=reject",
        b"v=DMARC1\n; p=reject",
        b"v=DMARC1\n",
        b"v=DMARC1; p=reject;" + b" " * 8_192,
    ],
)
def test_what_does_not_begin_with_the_version_is_no_record(text: bytes) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("tags", [b"p=block", b"p=", b"p=reject; sp=block", b"p=reject; np=", b"p=reject; p=reject"])
def test_request_that_cannot_be_read(tags: bytes) -> None:
    """RFC 9989 4.10.1: with an address for reports the record asks for nothing, without one nobody applies DMARC."""
    assert Record(None) == parse(b"v=DMARC1; " + tags)
    assert Record(None) == parse(b"v=DMARC1; " + tags + b"; rua=nonsense")
    assert Record(NONE, rua=RUA) == parse(b"v=DMARC1; " + tags + b"; rua=mailto:a@example.org")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"v=DMARC1; p=reject", Record(REJECT)),
        (b"v=DMARC1; p=none; sp=quarantine; adkim=s", Record(NONE, QUARANTINE, adkim=Alignment.STRICT)),
        # p= is required
        (b"v=DMARC1", Record(None)),
        (b"v=DMARC1; sp=reject", Record(None)),
        (b"v=DMARC1; rua=mailto:a@example.org", Record(NONE, rua=RUA)),
        (b"v=DMARC1; p=reject; sp=block", Record(None)),
        # not known yet
        (b"v=DMARC1; p=reject; np=block; psd=y; t=y", Record(REJECT)),
        # pct
        (b"v=DMARC1; p=reject; pct=50", Record(REJECT, testing=True, pct=50)),
        (b"v=DMARC1; p=reject; pct=0", Record(REJECT, testing=True, pct=0)),
        (b"v=DMARC1; p=reject; pct=007", Record(REJECT, testing=True, pct=7)),
        *(
            (b"v=DMARC1; p=reject; pct=" + value, Record(REJECT))
            for value in (b"", b"100", b"101", b"-1", b"5%", b"\xb2")
        ),
        (b"v=DMARC1; p=reject; pct=5; pct=6", Record(REJECT)),
    ],
)
def test_reads_as_rfc_7489_has_it(text: bytes, expected: Record) -> None:
    assert expected == parse(text, rfc7489=True)


def test_one_level_lower() -> None:
    assert tuple(request.one_level_lower for request in Request) == (NONE, NONE, QUARANTINE)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: b"v=DMARC1;" + rest))
def test_raises_nothing(text: bytes) -> None:
    parse(text)
    parse(text, rfc7489=True)


def test_number_of_addresses_is_bounded() -> None:
    record = parse(b"v=DMARC1; rua=" + b",".join([b"a:b"] * 1_000))

    assert record is not None
    assert len(record.rua) == 100
