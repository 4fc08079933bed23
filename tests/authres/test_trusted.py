"""Another server's results: its topmost field, and no other."""

import pytest

from filterd.authres.trusted import topmost
from filterd.mail.header import Field

IDS = frozenset({"mx1.home.example", "xn--bcher-kva.example"})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), None),
        ((" mx1.home.example; dmarc=pass",), "pass"),
        ((" other.example; dmarc=fail", " mx1.home.example; dmarc=pass"), "pass"),
        ((" mx1.home.example; dmarc=fail", " mx1.home.example; dmarc=pass"), "fail"),
        # names are compared as domain names are
        ((" MX1.Home.Example. 1; dmarc=pass",), "pass"),
        ((" bücher.example; dmarc=pass",), "pass"),
        ((" mx1.home.example.evil.example; dmarc=pass",), None),
        ((" evil.example; dmarc=pass (mx1.home.example)",), None),
        # what cannot be read, or only seems to be theirs, hides what is below
        ((" mx1.home.example.evil.example; dmarc=fail", " mx1.home.example; dmarc=pass"), None),
        ((" =?utf-8?q?mx1?= evil.example; dmarc=fail", " mx1.home.example; dmarc=pass"), None),
        ((' mx1.home.example; dmarc="fail', " mx1.home.example; dmarc=pass"), None),
    ],
)
def test_topmost(values: tuple[str, ...], expected: str | None) -> None:
    fields = [Field(b"authentication-RESULTS", value.encode()) for value in values]
    found = topmost([Field(b"Subject", b" mx1.home.example; dmarc=none"), *fields], IDS)

    assert expected == (found and found.results[0].code)


def test_nobody_is_trusted() -> None:
    assert topmost([Field(b"Authentication-Results", b" mx1.home.example; dmarc=pass")], frozenset()) is None
