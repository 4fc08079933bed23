"""DNS lists as RFC 5782 has them."""

from ipaddress import ip_address

import pytest

from filterd.dnsbl import Codes, DnsList, ListCode, check_list, check_lists, query_name
from filterd.lookup import Answer, Outcome, ZoneResolver
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason

_LIST = DnsList(Domain("dnsbl.example"))
_NAME = "9.113.0.203.dnsbl.example"
_CLIENT = ip_address("203.0.113.9")


def _zone(*addresses: str, name: str = _NAME) -> ZoneResolver:
    return ZoneResolver({(name, "A"): Answer(name, "A", Outcome.FOUND, addresses)} if addresses else {})


@pytest.mark.parametrize(
    ("addresses", "codes", "expected"),
    [
        ((), (), ListCode.NOT_LISTED),
        (("127.0.0.2",), (), ListCode.LISTED),
        (("127.0.0.2",), ("127.0.0.3",), ListCode.NOT_LISTED),
        (("127.0.0.2",), ("127.0.0.3", "127.0.0.2"), ListCode.LISTED),
        (("127.0.0.10",), ("127.0.0.2-11",), ListCode.LISTED),
        (("127.0.0.12",), ("127.0.0.[2..11]",), ListCode.NOT_LISTED),
        (("127.0.7.3",), ("127.0.*.2..3",), ListCode.LISTED),
        (("127.0.0.1",), (), ListCode.REFUSED),
        (("127.255.255.254",), (), ListCode.REFUSED),
        (("127.255.255.252",), ("127.*.*.*",), ListCode.REFUSED),
        (("127.0.0.2", "127.255.255.255"), (), ListCode.REFUSED),
        (("192.0.2.1",), (), ListCode.REFUSED),
    ],
)
def test_an_answer_is_a_listing_or_none(addresses: tuple[str, ...], codes: tuple[str, ...], expected: ListCode) -> None:
    listing = DnsList(_LIST.zone, codes=tuple(map(Codes.parse, codes)))
    found = check_list(listing, _CLIENT, _zone(*addresses))

    assert found.code is expected
    assert (found.reason is Reason.DNSBL_REFUSED) == (expected is ListCode.REFUSED)


def test_only_codes_that_count_are_told() -> None:
    listing = DnsList(_LIST.zone, codes=(Codes.parse("127.0.0.4-7"),))

    assert check_list(listing, _CLIENT, _zone("127.0.0.2", "127.0.0.4")).answers == ("127.0.0.4",)


def test_a_list_that_cannot_be_asked_says_nothing() -> None:
    broken = ZoneResolver({(_NAME, "A"): Answer(_NAME, "A", Outcome.TEMPFAIL, reason=Reason.DNS_TIMEOUT)})
    found = check_list(_LIST, _CLIENT, broken)

    assert (found.code, found.reason) == (ListCode.TEMPERROR, Reason.DNS_TIMEOUT)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (ip_address("203.0.113.9"), _NAME),
        (ip_address("::ffff:203.0.113.9"), _NAME),
        (ip_address("2001:db8::1"), "1" + ".0" * 23 + ".8.b.d.0.1.0.0.2.dnsbl.example"),
        (Domain("spam.example"), "spam.example.dnsbl.example"),
    ],
)
def test_the_name_that_is_asked(subject, name: str) -> None:
    assert query_name(_LIST, subject) == name


def test_a_name_that_does_not_fit_was_listed_by_nobody() -> None:
    long = Domain.parse(".".join(["a" * 60] * 4))

    assert check_list(_LIST, long, _zone()).code is ListCode.NOT_LISTED


@pytest.mark.parametrize(
    "text", ["", "127.0.0", "127.0.0.256", "127.0.0.9-2", "127.0.0.x", "127.0.0.2.3", "127.0.0.[2", "127.0.0.٣"]
)
def test_a_malformed_code_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="return code"):
        Codes.parse(text)


def test_all_lists_are_asked_at_once() -> None:
    asked: list[str] = []

    class Watched(ZoneResolver):
        def lookup(self, name: str, rdtype: str) -> Answer:
            asked.append(f"lookup {name}")
            return super().lookup(name, rdtype)

        def prefetch(self, name: str, rdtype: str) -> None:
            asked.append(f"prefetch {name}")

    other = DnsList(Domain("other.example"))
    found = check_lists([(_LIST, _CLIENT), (other, _CLIENT)], Watched({}))

    assert [each.listing for each in found] == [_LIST, other]
    assert [each.split()[0] for each in asked] == ["prefetch", "prefetch", "lookup", "lookup"]
