"""Which servers take mail for a domain, in which order (RFC 5321 5.1, RFC 7505)."""

import random

import pytest

from filterd.lookup import Answer, Outcome, ZoneResolver
from filterd.mta.exchangers import UnroutableError, exchangers

_OWN = "192.0.2.99"


def _found(zone: dict[str, object]) -> list[str]:
    """The addresses for example.org; a zone has "NAME TYPE" and values, or an outcome."""
    answers = {}
    for key, value in zone.items():
        name, rdtype = key.split()
        outcome, values = (value, ()) if isinstance(value, Outcome) else (Outcome.FOUND, value)
        answers[name, rdtype] = Answer(name, rdtype, outcome, tuple(values))  # type: ignore[arg-type]
    found = exchangers(
        "example.org", ZoneResolver(answers), lambda name, addresses: name == "us.example" or _OWN in addresses
    )
    return [each.address for each in found]


_HOSTS = {f"{name}.example A": [f"192.0.2.{number}"] for number, name in enumerate("abc", 1)}


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ({"example.org MX": ["20 b.example", "10 a.example", "30 c.example"]}, ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ({"example.org A": ["192.0.2.7"]}, ["192.0.2.7"]),
        ({"example.org A": ["192.0.2.7"], "example.org AAAA": ["2001:db8::7"]}, ["2001:db8::7", "192.0.2.7"]),
        ({"example.org MX": ["10 a.example", "20 us.example", "30 c.example"]}, ["192.0.2.1"]),
        ({"example.org MX": ["10 a.example", "20 us.example", "20 c.example"]}, ["192.0.2.1"]),
        ({"example.org MX": ["10 a.example", "20 o.example", "30 c.example"], "o.example A": [_OWN]}, ["192.0.2.1"]),
        ({"example.org MX": ["10 gone.example", "20 b.example"]}, ["192.0.2.2"]),
        ({"example.org MX": ["10 bad.example", "20 b.example"], "bad.example A": Outcome.TEMPFAIL}, ["192.0.2.2"]),
        ({"example.org MX": ["10 .", "20 b.example"]}, ["192.0.2.2"]),
        ({"example.org MX": [r"10 a\032b.example", "20 b.example"]}, ["192.0.2.2"]),
    ],
)
def test_order(zone: dict[str, object], expected: list[str]) -> None:
    assert _found({**_HOSTS, **zone}) == expected


@pytest.mark.parametrize(
    ("zone", "status"),
    [
        ({}, "5.1.2"),
        ({"x.example.org A": ["192.0.2.7"]}, "5.4.4"),
        ({"example.org MX": Outcome.TEMPFAIL}, "4.4.3"),
        ({"example.org MX": ["0 ."]}, "5.1.10"),
        ({"example.org MX": ["10 gone.example"]}, "5.4.4"),
        ({"example.org MX": ["10 bad.example"], "bad.example A": Outcome.TEMPFAIL}, "4.4.3"),
        ({"example.org MX": ["10 us.example", "20 a.example"]}, "5.4.6"),
        ({"example.org A": [_OWN]}, "5.4.6"),
    ],
)
def test_no_way(zone: dict[str, object], status: str) -> None:
    with pytest.raises(UnroutableError) as error:
        _found({**_HOSTS, **zone})
    assert error.value.status == status


def test_equal_ones_come_in_any_order_and_a_hostile_zone_costs_little() -> None:
    zone: dict[str, object] = {"example.org MX": [f"10 h{number}.example" for number in range(500)]}
    zone |= {f"h{number}.example A": [f"192.0.2.{number % 90}"] for number in range(500)}
    random.seed(3)
    orders = {tuple(_found(zone)) for _ in range(5)}

    assert len(orders) > 1
    assert {len(each) for each in orders} == {10}
