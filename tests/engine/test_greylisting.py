"""Strangers who are new have to come again; who proves who it is, and whoever is ours, does not."""

from ipaddress import ip_address

import pytest

from filterd.backend.memory_store import MemoryStore
from filterd.backend.zone import zone_resolver
from filterd.engine.policy_tests import run_tests
from filterd.engine.replay_record import rejudge
from filterd.engine.runtime import Clock, Runtime
from filterd.engine.session import MailSession
from filterd.limits.greylist import Answer, Attempt
from filterd.limits.state import StoreError
from filterd.mail.address import parse_path
from filterd.mail.header import Field
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.envelope import envelope_part
from filterd.policy.errors import PolicyErrors
from filterd.policy.explain import explain
from filterd.policy.load import load
from filterd.policy.rules import Policy
from filterd.policy.transcript import Transcript
from filterd.policy.verdict import Disposition

C, D = Disposition.CONTINUE, Disposition.DEFER
ZONE = 'good.example. TXT "v=spf1 ip4:192.0.2.0/24 ip4:198.51.100.0/24 -all"\n'
FIELDS = (Field(b"From", b" a@shop.example"), Field(b"Subject", b" x"))


class Away(MemoryStore):
    def attempt(self, asked: Attempt, now: int) -> Answer:
        raise StoreError("it is away")


def policy(greylist: str = "{ }", more: str = "") -> Policy:
    return load(f"version: 1\ngreylist: {greylist}\n{more}", "p.yaml")


class Office:
    def __init__(self, used: Policy, store: MemoryStore | None = None) -> None:
        self.now = 1_800_000_000.0
        self.transcripts: list[Transcript] = []
        self.policy = used
        self.store = store or MemoryStore()

    def send(
        self,
        *recipients: str,
        sender: str = "a@shop.example",
        ip: str = "203.0.113.9",
        user: str | None = None,
        service: bool = False,
    ) -> list[Disposition]:
        """What RCPT, DATA and the end were answered."""
        judged = envelope_part(self.policy) if service else self.policy
        clock = Clock(lambda: self.now, lambda: self.now)
        runtime = Runtime(
            judged, "mx.example.org", lambda _: zone_resolver(ZONE), self.transcripts.append, clock, store=self.store
        )
        session = MailSession(runtime, "c1")
        session.connect(Client(ip_address(ip), port=1234), None)
        session.helo("client.example", None)
        session.mail(ReversePath(sender, parse_path(sender)), user, None)
        told = [session.rcpt(ForwardPath(each, parse_path(each)), None) for each in recipients or ("anna@example.org",)]
        if not service and not all(each.disposition.final for each in told):
            told.append(session.data("Q1"))
            if not told[-1].disposition.final:
                session.end_of_headers(FIELDS, "Q1")
                session.body(b"text\r\n")
                told.append(session.end_of_message("Q1").verdict)
        session.close()
        self.reply = str(told[0].reply)
        return [each.disposition for each in told]


def test_the_first_try_waits_a_retry_passes_and_the_next_mail_is_known() -> None:
    office = Office(policy())
    assert office.send() == [D]
    assert office.reply == "450 4.7.1 new here: try again in 300 s"
    office.now += 60
    assert office.send() == [D]
    assert office.reply == "450 4.7.1 new here: try again in 240 s"
    office.now += 240
    assert office.send() == [C, C, C]
    assert office.send() == [C, C, C]

    told = [each.log_line()["greylist"] for each in office.transcripts]
    assert told == ["first try, passes in 5m", "too early, passes in 4m", "passed after 5m", "known"]
    assert "greylist  fired: first try, passes in 5m" in explain(office.transcripts[0])
    assert office.transcripts[0].log_line()["refused"] == "greylist:<anna@example.org>"


def test_the_retry_may_come_from_the_same_network() -> None:
    office = Office(policy())
    assert office.send(ip="203.0.113.9") == [D]
    office.now += 300
    assert office.send(ip="198.51.100.9") == [D]
    assert office.send(ip="203.0.113.250", sender="other-local-part@shop.example") == [C, C, C]


def test_the_retry_may_come_from_any_server_that_spf_has_verified() -> None:
    office = Office(policy('{ when: "true" }'))
    assert office.send(ip="192.0.2.1", sender="a@good.example") == [D]
    office.now += 300
    assert office.send(ip="198.51.100.7", sender="a@good.example") == [C, C, C]
    assert office.send(ip="203.0.113.7", sender="a@good.example") == [D]


@pytest.mark.parametrize(
    ("what", "sender", "ip", "user", "more"),
    [
        ("spf passes", "a@good.example", "192.0.2.1", None, ""),
        ("logged in", "a@shop.example", "203.0.113.9", "anna", ""),
        ("logged in, and not ours", "a@shop.example", "203.0.113.9", "anna", "mail_from_us: 'false'"),
        ("trusted", "a@shop.example", "127.0.0.1", None, ""),
        ("a relay", "a@shop.example", "203.0.113.9", None, "networks: { relays: [203.0.113.9] }"),
        (
            "let in by a rule",
            "a@shop.example",
            "203.0.113.9",
            None,
            "rules: [{ name: friend, when: 'envelope.sender_domain == \"shop.example\"', then: accept }]",
        ),
    ],
)
def test_nobody_waits_who(what: str, sender: str, ip: str, user: str | None, more: str) -> None:
    assert D not in Office(policy(more=more)).send(sender=sender, ip=ip, user=user)


def test_exempt_and_observe() -> None:
    exempt = """{ exempt: 'envelope.sender_domain == "shop.example"' }"""
    assert Office(policy(exempt)).send() == [C, C, C]
    office = Office(policy("{ mode: observe }"))
    assert office.send() == [C, C, C]
    assert office.transcripts[0].observed() == ("greylist",)


def test_a_probe_by_the_null_sender_is_answered_and_its_mail_waits() -> None:
    office = Office(policy())
    assert office.send(sender="") == [C, D]
    office.now += 300
    assert office.send(sender="") == [C, C, C]


@pytest.mark.parametrize(("on_error", "said"), [("accept", [C, C, C]), ("skip", [C, C, C]), ("defer", [D])])
def test_without_the_store(on_error: str, said: list[Disposition]) -> None:
    assert Office(policy(f"{{ on_error: {on_error} }}"), Away()).send() == said


def test_who_is_to_come_again_is_charged_for_nothing() -> None:
    limits = "limits: [{ name: per-client, key: client.ip, rate: [1 recipients per 1h, 1 failures per 1h] }]"
    office = Office(policy(more=limits))
    for _ in range(3):
        assert office.send("a@x.example", "b@x.example") == [D, D]
    assert {name: bucket.used for name, bucket in office.store.buckets() if bucket.used} == {}


@pytest.mark.parametrize(("then", "next_mail"), [("tag", [C, C, C]), ("quarantine", [D]), ("discard", [D])])
def test_what_is_not_delivered_to_the_inbox_makes_nobody_known(then: str, next_mail: list[Disposition]) -> None:
    rules = f"rules: [{{ name: junk, when: 'has_header(\"subject\")', then: {then} }}]"
    office = Office(policy("{ allow_after: 1 }", rules))
    office.send()
    office.now += 300
    assert office.send() != [D]
    assert office.send("new@example.org") == next_mail


def test_the_policy_service_and_the_milter_agree_and_a_mail_counts_once() -> None:
    office = Office(policy("{ allow_after: 2 }", 'server: { policy_service: ["unix:/run/x.sock"] }'))
    assert office.send(service=True) == [D]
    office.now += 300
    assert office.send(service=True) == [C]
    assert office.send() == [C, C, C]
    assert office.send("new@example.org") == [D]  # one mail was delivered, not two


def test_the_policy_service_alone_takes_what_went_on_for_delivered() -> None:
    office = Office(policy("{ allow_after: 1 }", 'server: { milter: [], policy_service: ["unix:/run/x.sock"] }'))
    assert office.send(service=True) == [D]
    office.now += 300
    assert office.send(service=True) == [C]
    assert office.send("new@example.org", service=True) == [C]


def test_a_record_is_judged_by_what_was_answered_then() -> None:
    office = Office(policy())
    office.send()
    office.now += 400
    office.send()
    first, passed = office.transcripts

    assert rejudge(office.policy, "mx.example.org", first).transcript.refused_recipients()  # type: ignore[union-attr]
    again = rejudge(office.policy, "mx.example.org", passed)
    assert (again.unknown, again.transcript.verdict.disposition) == ((), C)  # type: ignore[union-attr]
    longer = rejudge(policy("{ delay: 10m }"), "mx.example.org", passed)
    assert longer.transcript.refused_recipients()  # type: ignore[union-attr]
    before = Office(load("version: 1\n", "p.yaml"))
    before.send()
    asked = rejudge(office.policy, "mx.example.org", before.transcripts[0])
    assert asked.unknown == ("greylisting was not asked then",)


def test_in_a_policys_tests() -> None:
    tested = policy(
        more="""
tests:
  - { name: new, expect: { verdict: defer, rule: greylist, at: rcpt, reply: 450 4.7.1 } }
  - { name: early, given: { greylist: { tried: 4m } }, expect: { verdict: defer } }
  - { name: came again, given: { greylist: { tried: 5m } }, expect: { verdict: accept } }
  - { name: known, given: { greylist: { delivered: 5 } }, expect: { verdict: accept } }
  - { name: proven, given: { dns: { example.com: v=spf1 +all } }, expect: { verdict: accept } }
"""
    )
    assert [each.problem for each in run_tests(tested, tested.tests)] == [""] * 5


@pytest.mark.parametrize(
    ("greylist", "problem"),
    [
        ("{ when: 'dkim.result != \"pass\"' }", "greylisting judges at RCPT; dkim.result is known at end_of_message"),
        ("{ exempt: 'score > 3' }", "greylisting judges at RCPT; score is known"),
        ("{ reply: '550 5.7.1 no' }", "the code is 4xx, not 550"),
        ("{ reply: '450 4.7.1 {dkim.result}' }", "at RCPT there is no fact {dkim.result}"),
        ("{ delay: 1h, retry_window: 1h }", "retry_window is longer than delay"),
        ("{ when: nonsense }", "nonsense"),
    ],
)
def test_what_is_wrong_is_told(greylist: str, problem: str) -> None:
    with pytest.raises(PolicyErrors, match="greylist") as found:
        policy(greylist)
    assert problem in str(found.value)
