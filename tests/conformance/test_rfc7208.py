"""The RFC 7208 test suite of openspf.org (release 2014.04), every case of it, through our own check functions."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from filterd.lookup import Answer, Outcome, Resolver, ZoneResolver
from filterd.mail.address import AddressLiteral, Mailbox
from filterd.mail.domain import Domain, DomainError
from filterd.mail.reason import Reason
from filterd.mail.reply import printable
from filterd.spf.check import SpfCode, SpfResult, check_helo, check_mail_from

SUITE = Path(__file__).with_name("rfc7208-tests.yml")
TYPES = ("A", "AAAA", "MX", "PTR", "TXT")

Zone = dict[tuple[str, str], Answer]


def cases() -> list[Any]:
    found = []
    for scenario in yaml.safe_load_all(SUITE.read_text("utf-8")):
        resolver = ZoneResolver(zone_of(scenario["zonedata"]))
        for name, case in scenario["tests"].items():
            found.append(pytest.param(case, resolver, id=f"{scenario['description']}-{name}".replace(" ", "-")))
    return found


def zone_of(data: dict[str, list[Any]]) -> Zone:
    """Read the suite's zone data: TXT stands for SPF too where there is no TXT, TIMEOUT for all that is not there."""
    zone: Zone = {}
    aliases: dict[str, str] = {}
    for owner, records in data.items():
        name = owner.lower()
        pairs = [pair for record in records if isinstance(record, dict) for pair in record.items()]
        has_txt = any(rdtype == "TXT" for rdtype, _ in pairs)
        silent = "TIMEOUT" in records
        for rdtype in TYPES:
            source = "SPF" if rdtype == "TXT" and not (has_txt or silent) else rdtype
            values = [value for kind, value in pairs if kind == source and value != "NONE"]
            if "TIMEOUT" in values or (silent and not values):
                zone[name, rdtype] = Answer(name, rdtype, Outcome.TEMPFAIL, reason=Reason.DNS_TIMEOUT)
            elif values:
                zone[name, rdtype] = Answer(name, rdtype, Outcome.FOUND, tuple(value_of(rdtype, v) for v in values))
        aliases.update((name, value.lower().rstrip(".")) for kind, value in pairs if kind == "CNAME")
    for alias, target in aliases.items():
        for rdtype in TYPES:
            answer = zone.get((target, rdtype))
            if answer is not None:
                zone[alias, rdtype] = answer
    return zone


def value_of(rdtype: str, value: Any) -> bytes | str:
    if rdtype == "TXT":
        return "".join([value] if isinstance(value, str) else value).encode()
    if rdtype == "MX":
        return f"{value[0]} {value[1].rstrip('.')}"
    return str(value)


def judge(case: dict[str, Any], resolver: Resolver) -> SpfResult:
    ip, helo = ip_address(case["host"]), case["helo"]
    if not case["mailfrom"]:
        return check_mail_from(ip, None, helo, resolver)
    local, _, domain = case["mailfrom"].rpartition("@")
    try:
        sender = Mailbox(local, AddressLiteral(domain[1:-1]) if domain.startswith("[") else Domain.parse(domain))
    except DomainError:
        # There is no Mailbox with such a domain; HELO takes any text, and RFC 7208 4.3 holds for both.
        return check_helo(ip, domain, resolver)
    return check_mail_from(ip, sender, helo, resolver)


def test_the_suite_is_whole() -> None:
    assert len(cases()) == 203


@pytest.mark.parametrize(("case", "resolver"), cases())
def test_case(case: dict[str, Any], resolver: Resolver) -> None:
    allowed = case["result"] if isinstance(case["result"], list) else [case["result"]]
    result = judge(case, resolver)
    assert result.code in [SpfCode(word) for word in allowed], result
    if "explanation" in case:
        expected = None if case["explanation"] == "DEFAULT" else printable(case["explanation"])
        assert expected == result.explanation
