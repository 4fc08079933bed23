"""iprev as RFC 8601 has it."""

from ipaddress import ip_address

import pytest

from filterd.iprev import IprevCode, IprevResult, check_iprev, reverse_name
from filterd.lookup import Answer, Outcome, ZoneResolver
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason

_PTR = "9.113.0.203.in-addr.arpa"
_NAME = Domain("mx.example.org")


def _zone(*answers: Answer) -> ZoneResolver:
    return ZoneResolver({(each.name, each.rdtype): each for each in answers})


def _ptr(*names: str) -> Answer:
    return Answer(_PTR, "PTR", Outcome.FOUND, names)


def _a(name: str, *addresses: str) -> Answer:
    return Answer(name, "A", Outcome.FOUND, addresses)


def _broken(name: str, rdtype: str) -> Answer:
    return Answer(name, rdtype, Outcome.TEMPFAIL, reason=Reason.DNS_SERVFAIL)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([_ptr("mx.example.org"), _a("mx.example.org", "203.0.113.9")], IprevResult(IprevCode.PASS, _NAME)),
        (
            [_ptr("mx.example.org"), _a("mx.example.org", "203.0.113.10")],
            IprevResult(IprevCode.FAIL, reason=Reason.IPREV_OTHER_ADDRESS),
        ),
        ([_ptr("mx.example.org")], IprevResult(IprevCode.FAIL, reason=Reason.IPREV_OTHER_ADDRESS)),
        ([], IprevResult(IprevCode.PERMERROR, reason=Reason.IPREV_NO_NAME)),
        ([_ptr("no name", "")], IprevResult(IprevCode.PERMERROR, reason=Reason.IPREV_NO_NAME)),
        ([_broken(_PTR, "PTR")], IprevResult(IprevCode.TEMPERROR, reason=Reason.DNS_SERVFAIL)),
        (
            [_ptr("mx.example.org"), _broken("mx.example.org", "A")],
            IprevResult(IprevCode.TEMPERROR, reason=Reason.DNS_SERVFAIL),
        ),
        (
            [_ptr("a.example", "mx.example.org"), _broken("a.example", "A"), _a("mx.example.org", "203.0.113.9")],
            IprevResult(IprevCode.PASS, _NAME),
        ),
        (
            [_ptr(*[f"{n}.example" for n in range(5)], "mx.example.org"), _a("mx.example.org", "203.0.113.9")],
            IprevResult(IprevCode.FAIL, reason=Reason.IPREV_OTHER_ADDRESS),
        ),
    ],
    ids=["pass", "other", "gone", "nameless", "malformed", "ptr breaks", "a breaks", "second name", "sixth name"],
)
@pytest.mark.parametrize("client", ["203.0.113.9", "::ffff:203.0.113.9"])
def test_an_address_has_a_name_that_leads_back(client: str, answers: list[Answer], expected: IprevResult) -> None:
    assert check_iprev(ip_address(client), _zone(*answers)) == expected


def test_an_ipv6_address_is_asked_for_by_its_nibbles() -> None:
    client = ip_address("2001:db8::25")
    name = reverse_name(client)
    answers = [
        Answer(name, "PTR", Outcome.FOUND, ("mx.example.org",)),
        Answer("mx.example.org", "AAAA", Outcome.FOUND, ("2001:0db8:0:0::25",)),
    ]

    assert name == "5.2" + ".0" * 22 + ".8.b.d.0.1.0.0.2.ip6.arpa"
    assert check_iprev(client, _zone(*answers)) == IprevResult(IprevCode.PASS, _NAME)
