"""What the end of message needs of DNS is asked for at the end of headers, all at once, and nothing else is.

Time is counted in round trips: an answer is there one after it was first asked for, and only who waits spends them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from arc_mail import sealed_by_hand
from dkim_mail import NOW, SELECTOR, ed25519_pair, signed, split
from dmarc_zone import Suffixes

from filterd.backend.zone import zone_resolver
from filterd.engine.runtime import Clock, Runtime
from filterd.engine.session import MailSession
from filterd.lookup import Answer
from filterd.mail.address import parse_path
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.load import load
from filterd.policy.transcript import Transcript

PAIR = ed25519_pair()
SIGNERS = ("mail.bank.example", "bank.example", "a.co.uk", "b.co.uk", "evil.example")
ZONE = """\
$TTL 300
@                          IN SOA ns.test. h.test. 1 2 3 4 5
_dmarc.bank.example.       IN TXT "v=DMARC1; p=reject"
_dmarc.a.co.uk.            IN TXT "v=DMARC1; p=reject"
bounce.bank.example.       IN TXT "v=spf1 ip4:192.0.2.10 -all"
evil.example.              IN TXT "v=spf1 ip4:192.0.2.10 -all"
refuses.bank.example.      IN TXT "v=spf1 -all"
""" + "".join(f'{SELECTOR}._domainkey.{name}. IN TXT "{PAIR.record.decode()}"\n' for name in SIGNERS)  # fmt: skip


class FarAway:
    """Answers from the zone, and notes when each question was asked first."""

    def __init__(self) -> None:
        self.now = 0
        self.asked: dict[str, int] = {}
        self._zone = zone_resolver(ZONE)

    def lookup(self, name: str, rdtype: str) -> Answer:
        self.prefetch(name, rdtype)
        self.now = max(self.now, self.asked[name] + 1)
        return self._zone.lookup(name, rdtype)

    def prefetch(self, name: str, rdtype: str) -> None:
        self.asked.setdefault(name, self.now)

    @property
    def asked_of_dmarc(self) -> set[str]:
        return {name.removeprefix("_dmarc.") for name in self.asked if name.startswith("_dmarc.")}


@dataclass(frozen=True)
class Seen:
    """DMARC's result; the round trips that end of headers and end of message waited for; what was asked when."""

    dmarc: str
    waited: tuple[int, int]
    at_end_of_headers: set[str]
    in_all: set[str]


def send(
    author: str,
    sender: str,
    signers: Sequence[str] = (),
    policy: str = "version: 1\n",
    *,
    sealers: Sequence[str] = (),
    slowly: bool = False,
) -> Seen:
    resolver = FarAway()
    transcripts: list[Transcript] = []
    compiled = load(policy, "p.yaml", read_suffixes=lambda: Suffixes("co.uk"))
    clock = Clock(lambda: float(NOW), lambda: 0.0)
    session = MailSession(Runtime(compiled, "mx.home.example", lambda _: resolver, transcripts.append, clock), "c")
    mail = f"From: a@{author}\r\nTo: b@home.example\r\nSubject: x\r\nDate: y\r\n\r\ntext\r\n".encode()
    for signer in signers:
        mail = signed(mail, PAIR, d=signer)
    for number, sealer in enumerate(sealers, 1):
        mail = sealed_by_hand(mail, number, "none" if number == 1 else "pass", domain=sealer, pair=PAIR)
    header, body = split(mail)
    session.connect(Client(ip_address("192.0.2.10")), None)
    session.helo("client.example", None)
    session.mail(ReversePath(sender, parse_path(sender)), None, None)
    session.rcpt(ForwardPath("b@home.example", None), "Q")
    begun = resolver.now
    session.end_of_headers(header.fields, "Q")
    then, now = set(resolver.asked_of_dmarc), resolver.now
    session.body(body)
    if slowly:
        # longer than any answer is kept
        resolver.asked.clear()
    session.end_of_message("Q")
    dmarc = transcripts[-1].results.dmarc
    assert dmarc
    return Seen(dmarc.code.value, (now - begun, resolver.now - now), then, resolver.asked_of_dmarc)


AUTHORS = {"news.bank.example", "bank.example", "example"}


@pytest.mark.parametrize(
    ("sender", "signers", "dmarc", "more"),
    [
        # no identifier, or only the author itself
        ("x@evil.example", (), "fail", set()),
        # above the author: the author's walk passes there
        ("x@evil.example", ("bank.example",), "pass", set()),
        # beside the author
        ("x@bounce.bank.example", (), "pass", {"bounce.bank.example"}),
        ("x@evil.example", ("mail.bank.example",), "pass", {"mail.bank.example"}),
        ("x@bounce.bank.example", ("mail.bank.example",), "pass", {"bounce.bank.example", "mail.bank.example"}),
        # SPF has not authenticated it
        ("x@refuses.bank.example", (), "fail", set()),
        # strangers
        ("x@evil.example", ("evil.example", "a.co.uk"), "fail", set()),
        ("", (), "fail", set()),
    ],
)
def test_the_end_of_message_waits_once(sender: str, signers: tuple[str, ...], dmarc: str, more: set[str]) -> None:
    seen = send("news.bank.example", sender, signers)

    assert (dmarc, (0, 1)) == (seen.dmarc, seen.waited)
    assert AUTHORS | more == seen.at_end_of_headers
    assert seen.at_end_of_headers == seen.in_all


def test_below_a_public_suffix_of_two_labels_a_stranger_costs_one_question() -> None:
    """Whether co.uk is an organization is what the walk finds out."""
    seen = send("a.co.uk", "x@evil.example", ("b.co.uk",))

    assert {"a.co.uk", "b.co.uk", "co.uk", "uk"} == seen.in_all
    assert (seen.dmarc, seen.waited) == ("fail", (0, 1))


@pytest.mark.parametrize(
    ("mode", "asked"),
    [
        ("psl", {"a.news.bank.example", "bank.example"}),
        ("compare", {"a.news.bank.example", "bounce.bank.example", *AUTHORS}),
    ],
)
def test_the_list_needs_no_walk(mode: str, asked: set[str]) -> None:
    policy = f"version: 1\ndmarc: {{ organizational_domain: {mode} }}\n"
    seen = send("a.news.bank.example", "x@bounce.bank.example", policy=policy)

    assert asked == seen.at_end_of_headers == seen.in_all
    assert (seen.dmarc, seen.waited) == ("pass", (0, 1))


def test_all_lists_are_asked_at_once_beside_the_keys() -> None:
    lists = "".join(
        f"  - {{ zone: {of}{number}.test, of: {of}, score: 1 }}\n"
        for of in ("client", "helo", "sender", "author")
        for number in range(3)
    )
    policy = f"version: 1\ndnsbl:\n{lists}score: {{ reject: 20 }}\n"
    seen = send("news.bank.example", "x@bounce.bank.example", ("mail.bank.example",), policy)

    assert (seen.dmarc, seen.waited) == ("pass", (0, 1))


@pytest.mark.parametrize("by", ["signers", "sealers"])
def test_a_body_that_takes_long_has_keys_asked_for_at_once_again(by: str) -> None:
    """Then the keys and DMARC's records are waited for once each, not each key: the deadline is not the sender's."""
    seen = send("news.bank.example", "x@evil.example", slowly=True, **{by: ("evil.example", "a.co.uk", "b.co.uk")})

    assert (seen.dmarc, seen.waited) == ("fail", (0, 2))


def test_hostile_signatures_cost_few_questions() -> None:
    """Five signatures are looked at, eight questions each."""
    deep = [f"{letter}{letter}.2.3.4.5.6.7.8.bank.example" for letter in "abcdefgh"]
    seen = send("news.bank.example", "x@evil.example", deep)

    assert len(seen.in_all) <= 8 + 5 * 8
    assert seen.waited == (0, 1)
