"""The resolver, the demo's name server and zone files against Debian's NSD: the same zone, the same answers."""

import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import pytest
from servers import nsd
from servers.debian import free_port

from filterd.backend.resolver import DnsResolver
from filterd.backend.zone import zone_resolver
from filterd.demo.nameserver import Nameserver
from filterd.lookup import Answer, Outcome, Resolver
from filterd.mail.reason import Reason

pytestmark = pytest.mark.system

LONG = "x" * 240
ORG = f"""\
$TTL 600
@        TXT "v=spf1 " "include:example.com -all"
@        TXT "something else"
@        MX 10 mail
@        MX 20 Backup.example.com.
mail     60 A 192.0.2.1
mail     60 AAAA 2001:db8::1
www      30 CNAME mail
far      CNAME deep.example.com.
gone     CNAME nothing.example.com.
empty    CNAME example.com.
*.any    TXT "wild"
a.b.c    A 192.0.2.3
null     MX 0 .
octets   TXT "\\200\\000\\"\\\\"
large    TXT {" ".join([f'"{LONG}{i}"' for i in range(40)])}
"""
COM = """\
$TTL 300
@        TXT "v=spf1 ip4:192.0.2.0/24"
deep     CNAME deeper.example.org.
"""
ARPA = "1 3600 PTR mail.example.org.\n1 3600 PTR www.example.org.\n"
ZONES = {"example.org": ORG + "deeper TXT deep\n", "example.com": COM, "2.0.192.in-addr.arpa": ARPA}

QUESTIONS = [
    ("example.org", "TXT"),
    ("Example.ORG.", "MX"),
    ("example.org", "A"),
    ("mail.example.org", "A"),
    ("mail.example.org", "AAAA"),
    ("mail.example.org", "TXT"),
    ("www.example.org", "A"),
    ("www.example.org", "AAAA"),
    ("www.example.org", "TXT"),
    ("far.example.org", "TXT"),
    ("gone.example.org", "TXT"),
    ("empty.example.org", "TXT"),
    ("empty.example.org", "A"),
    ("x.any.example.org", "TXT"),
    ("y.x.any.example.org", "TXT"),
    ("x.any.example.org", "A"),
    ("any.example.org", "TXT"),
    ("b.c.example.org", "A"),
    ("x.b.c.example.org", "A"),
    ("null.example.org", "MX"),
    ("octets.example.org", "TXT"),
    ("large.example.org", "TXT"),
    ("nothing.example.org", "TXT"),
    ("1.2.0.192.in-addr.arpa", "PTR"),
    ("2.2.0.192.in-addr.arpa", "PTR"),
    ("a\\046b.example.org", "A"),
    ('a "b@.any.example.org', "TXT"),
]


@pytest.fixture(scope="module")
def view() -> Iterator[Resolver]:
    with nsd.running(ZONES) as address:
        resolver = DnsResolver([address], timeout=30)
        resolver.start()
        yield resolver.view(time.monotonic() + 600)
        resolver.close()


def in_one_text() -> str:
    return "".join(f"$ORIGIN {zone}.\n{text}" for zone, text in ZONES.items())


def said(answer: Answer) -> tuple[object, ...]:
    return answer.name, answer.rdtype, answer.outcome, sorted(map(str, answer.values)), answer.reason


@pytest.mark.parametrize(("name", "rdtype"), QUESTIONS)
def test_a_zone_file_answers_as_nsd_does(name: str, rdtype: str, view: Resolver) -> None:
    assert said(zone_resolver(in_one_text()).lookup(name, rdtype)) == said(view.lookup(name, rdtype))


def test_the_demos_name_server_answers_as_nsd_does(view: Resolver) -> None:
    with Nameserver(in_one_text()) as server:
        resolver = DnsResolver([server.address], timeout=30)
        resolver.start()
        demo = resolver.view(time.monotonic() + 600)
        found = [said(demo.lookup(*question)) for question in QUESTIONS]
        resolver.close()
    assert found == [said(view.lookup(*question)) for question in QUESTIONS]


@pytest.mark.parametrize(
    ("name", "rdtype", "outcome", "ttl"),
    [
        ("example.org", "TXT", Outcome.FOUND, 600),
        ("mail.example.org", "A", Outcome.FOUND, 60),
        ("www.example.org", "A", Outcome.FOUND, 30),
        ("far.example.org", "TXT", Outcome.FOUND, 300),
        ("nothing.example.org", "A", Outcome.NXDOMAIN, 60),
        ("example.org", "A", Outcome.NODATA, 60),
    ],
)
def test_ttls_are_those_of_the_shortest_link_or_of_the_soa(
    name: str, rdtype: str, outcome: Outcome, ttl: int, view: Resolver
) -> None:
    answer = view.lookup(name, rdtype)
    assert (answer.outcome, answer.ttl) == (outcome, ttl)


def test_a_zone_that_is_not_served_is_a_failure(view: Resolver) -> None:
    answer = view.lookup("example.invalid", "TXT")
    assert (answer.outcome, answer.reason) == (Outcome.TEMPFAIL, Reason.DNS_SERVFAIL)


def test_many_at_once(view: Resolver) -> None:
    names = [f"n{i}.any.example.org" for i in range(1_000)]
    for name in names:
        view.prefetch(name, "TXT")
    assert [view.lookup(name, "TXT").texts for name in names] == [(b"wild",)] * 1_000


def test_servers_that_went_and_came_back_are_told_of_once() -> None:
    port, told = free_port(), list[bool]()
    names = (f"n{number}.example.org" for number in count())
    with closing(DnsResolver([("127.0.0.1", port)], 10.0, report=told.append)) as resolver:
        resolver.start()

        def outcome() -> Outcome:
            return resolver.lookup(next(names), "TXT", time.monotonic() + 30).outcome

        # Two questions alone may be somebody's own broken servers.
        away = [outcome(), outcome()]
        assert (away, told) == ([Outcome.TEMPFAIL] * 2, [])
        away = [outcome() for _ in range(5)]
        assert (away, told) == ([Outcome.TEMPFAIL] * 5, [True])
        with nsd.running({"example.org": ""}, port):
            found = {outcome() for _ in range(3)}

    assert (found, told) == ({Outcome.NXDOMAIN}, [True, False])
