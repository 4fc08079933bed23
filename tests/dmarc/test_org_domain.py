"""filterd.dmarc.org_domain: RFC 9989 4.10.2."""

import pytest
from dmarc_zone import Zone

from filterd.dmarc.org_domain import organization_of
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason

RECORD = "v=DMARC1; p=none"


@pytest.mark.parametrize(
    ("start", "records", "expected"),
    [
        # no record at all: the name itself
        ("a.mail.example.com", {}, "a.mail.example.com"),
        # the fewest labels
        ("a.mail.example.com", {"mail.example.com": RECORD, "example.com": RECORD}, "example.com"),
        ("example.com", {"example.com": RECORD}, "example.com"),
        ("a.mail.example.com", {"a.mail.example.com": RECORD}, "a.mail.example.com"),
        # psd=n wins, even over records above it and at the start
        ("a.mail.example.com", {"mail.example.com": f"{RECORD}; psd=n", "example.com": RECORD}, "mail.example.com"),
        ("mail.example.com", {"mail.example.com": f"{RECORD}; psd=n", "example.com": RECORD}, "mail.example.com"),
        # psd=y: one label below, whether or not that has a record
        ("a.mail.example.com", {"com": f"{RECORD}; psd=y"}, "example.com"),
        (
            "mail.giant.bank.example",
            {"giant.bank.example": RECORD, "bank.example": f"{RECORD}; psd=y"},
            "giant.bank.example",
        ),
        ("mail.mega.bank.example", {"bank.example": f"{RECORD}; psd=y", "example": RECORD}, "mega.bank.example"),
        # psd=y where the walk began: that name
        ("bank.example", {"bank.example": f"{RECORD}; psd=y", "example": RECORD}, "bank.example"),
        # a record of a top-level domain without psd=
        ("mail.example.com", {"example.com": RECORD, "com": RECORD}, "com"),
        # one label below, though the walk jumped over that name
        ("a.b.c.d.e.f.g.h.i.j.example", {"e.f.g.h.i.j.example": f"{RECORD}; psd=y"}, "d.e.f.g.h.i.j.example"),
        ("a.b.c.d.e.f.g.h.i.j.example", {"d.e.f.g.h.i.j.example": RECORD}, "a.b.c.d.e.f.g.h.i.j.example"),
        # several records at a name count as none
        ("mail.example.com", {"mail.example.com": RECORD, "example.com": [RECORD, RECORD]}, "mail.example.com"),
    ],
)
def test_organizational_domain(start: str, records: dict[str, str | list[str]], expected: str) -> None:
    assert Domain(expected) == organization_of(Domain(start), Zone(records), None)


def test_failure_leaves_it_open() -> None:
    zone = Zone({"mail.example.com": RECORD}, broken=("_dmarc.com",))

    assert Reason.DNS_TIMEOUT is organization_of(Domain("mail.example.com"), zone, None)


def test_failure_above_psd_does_not() -> None:
    zone = Zone({"example.com": f"{RECORD}; psd=n"}, broken=("_dmarc.com",))

    assert Domain("example.com") == organization_of(Domain("mail.example.com"), zone, None)
