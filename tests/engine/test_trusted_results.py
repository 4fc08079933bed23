"""`identity.trusted_authserv_ids`: what our other servers found is read, what strangers say in their name is removed."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from filterd.backend.zone import zone_resolver
from filterd.engine.changes import DeleteField
from filterd.engine.finish import Finished
from filterd.engine.runtime import Runtime
from filterd.engine.session import MailSession
from filterd.mail.address import parse_path
from filterd.mail.header import Field
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.errors import PolicyErrors
from filterd.policy.load import load
from filterd.policy.transcript import Transcript

FACTS = ("trusted.spf", "trusted.dkim", "trusted.dmarc", "trusted.arc")
POLICY = """\
version: 1
identity: { authserv_id: mx.home.example, trusted_authserv_ids: [border.home.example] }
networks: { relays: [198.51.100.0/24], trusted: [192.0.2.0/28] }
dmarc: { on_multiple_authors: skip }
"""
RULES = """\
rules:
  - { name: read, when: "[trusted.spf, trusted.dkim, trusted.dmarc, trusted.arc] != ['', '', '', '']", then: tag }
  - { name: refused, when: trusted.dmarc == "fail", then: reject }
"""
RELAY, LAN, STRANGER = "198.51.100.7", "192.0.2.5", "203.0.113.66"
BY_RELAY = Field(b"Received", b" from x (h [203.0.113.66]) by border.home.example")
BY_INNER = Field(b"Received", b" from border (h [198.51.100.8]) by inner.home.example")
BY_STRANGER = Field(b"Received", b" from y (h [198.51.100.9]) by x")
FROM = Field(b"From", b" a@b.example")
FOUND = "border.home.example; spf=softfail smtp.mailfrom=b.example; dkim=pass header.d=b.example; dmarc=pass; arc=none"


def results(value: str) -> Field:
    return Field(b"Authentication-Results", b" " + value.encode())


@dataclass(frozen=True)
class Judged:
    transcript: Transcript
    finished: Finished

    @property
    def words(self) -> tuple[object, ...]:
        """The facts, as the rule read them."""
        steps = (step for each in self.transcript.judgements for step in each.verdict.steps)
        facts = dict(next(step for step in steps if step.rule == "read").facts)
        return tuple(facts[name] for name in FACTS)

    @property
    def deleted(self) -> list[int]:
        return [each.occurrence for each in self.finished.changes if isinstance(each, DeleteField)]


def send(
    ip: str, *fields: Field, sender: str = "a@b.example", user: str | None = None, policy: str = POLICY + RULES
) -> Judged:
    transcripts: list[Transcript] = []
    resolver = zone_resolver("$TTL 300\n@ IN SOA a. b. 1 2 3 4 5\n")
    session = MailSession(
        Runtime(load(policy, "p.yaml"), "mx.home.example", lambda _: resolver, transcripts.append), "c"
    )
    session.connect(Client(ip_address(ip)), None)
    session.helo("client.example", None)
    session.mail(ReversePath(sender, parse_path(sender)), user, None)
    session.rcpt(ForwardPath("c@home.example", None), "Q")
    session.end_of_headers((*fields, FROM), "Q")
    finished = session.end_of_message("Q")
    return Judged(transcripts[-1], finished)


NOTHING = ("", "", "", "")
ALL = ("softfail", "pass", "pass", "none")


@pytest.mark.parametrize(
    ("ip", "fields", "expected"),
    [
        (RELAY, (results(FOUND),), ALL),
        (LAN, (results(FOUND),), ALL),
        (STRANGER, (results(FOUND),), NOTHING),
        (RELAY, (), NOTHING),
        (RELAY, (results("border.home.example; none"),), NOTHING),
        # above the Received field of the server that added it, or right below
        (RELAY, (results(FOUND), BY_RELAY, BY_STRANGER), ALL),
        (RELAY, (BY_RELAY, results(FOUND), BY_STRANGER), ALL),
        (RELAY, (BY_INNER, results(FOUND), BY_RELAY, BY_STRANGER), ALL),
        # from an earlier journey, or a stranger's
        (RELAY, (BY_RELAY, BY_STRANGER, results(FOUND)), NOTHING),
        (RELAY, (results("border.home.example; spf=fail"), BY_RELAY, results(FOUND)), ("fail", "", "", "")),
        # nobody's that we know
        (RELAY, (results(FOUND.replace("border", "other")),), NOTHING),
        (RELAY, (results("mx.home.example; dmarc=pass"),), NOTHING),
    ],
)
def test_only_what_our_servers_added_is_read(ip: str, fields: Sequence[Field], expected: tuple[str, ...]) -> None:
    assert expected == send(ip, *fields).words


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # the best signature speaks for the mail
        ("dkim=fail header.d=x; dkim=pass header.d=y; dkim=none", ("", "pass", "", "")),
        # SPF of the HELO name proves nothing about a sender (CVE-2019-20790)
        ("spf=pass smtp.helo=evil.example", NOTHING),
        ("spf=pass smtp.helo=evil.example; spf=fail smtp.mailfrom=b.example", ("fail", "", "", "")),
        ("spf=pass", ("pass", "", "", "")),
        # two words at once, and words that are none
        ("dmarc=pass header.from=a; dmarc=fail header.from=b", NOTHING),
        ("dmarc=pass header.from=a; dmarc=pass header.from=b", ("", "", "pass", "")),
        ("dmarc=bestguesspass; dkim=ok; spf=hardfail; arc=maybe", NOTHING),
        ("DMARC=Pass", ("", "", "pass", "")),
        # results of other methods, and what only looks like one
        ('x-dmarc=pass; iprev=pass reason="dmarc=pass"', NOTHING),
    ],
)
def test_words(said: str, expected: tuple[str, ...]) -> None:
    assert expected == send(RELAY, results(f"border.home.example; {said}")).words


def test_of_a_bounce_spf_judges_the_helo_name() -> None:
    """RFC 7208 2.4."""
    said = results("border.home.example; spf=pass smtp.helo=b.example")

    assert send(RELAY, said, sender="").words == ("pass", "", "", "")


def test_rules_decide_by_them() -> None:
    assert send(RELAY, results("border.home.example; dmarc=fail")).transcript.verdict.rule == "refused"
    assert send(STRANGER, results("border.home.example; dmarc=fail")).transcript.verdict.rule is None


@pytest.mark.parametrize(
    ("ip", "user", "deleted"),
    [
        (RELAY, None, [2]),
        (LAN, None, [2]),
        # a stranger, and a user from anywhere, know nothing of what our servers found
        (STRANGER, None, [4, 2, 1]),
        (STRANGER, "anna", [4, 2, 1]),
    ],
)
def test_what_strangers_say_in_our_servers_names_is_removed(ip: str, user: str | None, deleted: list[int]) -> None:
    """RFC 8601 5; whether or not a rule reads it."""
    fields = (
        results("border.home.example; dmarc=pass"),
        results("mx.home.example; dmarc=pass"),
        results("other.example; dmarc=pass"),
        results('(x) "Border.Home.Example"; dmarc=pass'),
    )

    assert deleted == send(ip, *fields, user=user, policy=POLICY).deleted


def test_servers_may_share_our_own_name() -> None:
    """RFC 8601 2.5: one name for all border servers. The field is read before it is removed."""
    shared = (POLICY + RULES).replace("[border.home.example]", "[mx.home.example]")
    judged = send(RELAY, results("mx.home.example; dmarc=pass"), policy=shared)

    assert judged.words == ("", "", "pass", "")
    assert judged.deleted == [1]


def test_nothing_is_parsed_unless_a_rule_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr("filterd.engine.judgement.topmost", broken)

    assert send(RELAY, results(FOUND), policy=POLICY).transcript.completed


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('trusted.dmarc == "fail"', 'trusted.dmarc == "reject"', "rules[1].when: it is never 'reject'"),
        ('trusted.dmarc == "fail"', 'trusted.spif == "fail"', "did you mean trusted.spf?"),
        ("[border.home.example]", "[border..example]", "identity.trusted_authserv_ids[0]: a label of the domain"),
    ],
)
def test_faults_are_found_at_load(old: str, new: str, expected: str) -> None:
    with pytest.raises(PolicyErrors) as caught:
        load((POLICY + RULES).replace(old, new), "p.yaml")

    assert expected in str(caught.value)
