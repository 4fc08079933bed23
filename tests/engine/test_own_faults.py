"""Whatever of ours fails, wherever: the mail gets the answer that the policy declares, and the transcript says why."""

import itertools
from ipaddress import ip_address

import pytest

from filterd.backend.zone import zone_resolver
from filterd.engine.changes import DeleteField
from filterd.engine.finish import Finished
from filterd.engine.runtime import Clock, Runtime
from filterd.engine.session import MailSession
from filterd.mail.address import parse_path
from filterd.mail.header import Field
from filterd.mail.reason import Reason
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.load import load
from filterd.policy.transcript import Transcript
from filterd.policy.verdict import Disposition, Verdict

POLICY = """\
version: 1
server: { on_error: %s }
identity: { authserv_id: mx.home.example, trusted_authserv_ids: [border.home.example] }
networks: { relays: [198.51.100.0/24], trusted: [192.0.2.0/28] }
rules:
  - { name: never, when: client.ip == "192.0.2.77", then: reject, at: connect }
  - { name: read, when: trusted.spf == "fail", then: tag }
"""
FORGED = Field(b"Authentication-Results", b" mx.home.example; dkim=pass header.d=bank.example")
RECEIVED = Field(b"Received", b" from x (h [203.0.113.66]) by border.home.example")
RELAY, OURS = "198.51.100.7", "192.0.2.1"


class Desk:
    def __init__(self, on_error: str = "defer", clock: Clock | None = None) -> None:
        self.transcripts: list[Transcript] = []
        policy = load(POLICY % on_error, "p.yaml")
        resolver = zone_resolver("@ 300 IN SOA a. b. 1 2 3 4 5\n")
        self.runtime = Runtime(policy, "mx.home.example", lambda _: resolver, self.transcripts.append, clock or Clock())

    def send(self, ip: str) -> Finished:
        """As an MTA does: a refusal ends it."""
        session = MailSession(self.runtime, "c")
        sender, recipient = parse_path("a@b.example"), ForwardPath("x@home.example", parse_path("x@home.example"))
        steps = (
            lambda: session.connect(Client(ip_address(ip)), None),
            lambda: session.helo("client.example", None),
            lambda: session.mail(ReversePath("a@b.example", sender), None, "Q"),
            lambda: session.rcpt(recipient, "Q"),
            lambda: session.data("Q"),
            lambda: session.end_of_headers((FORGED, RECEIVED, Field(b"From", b" a@b.example")), "Q"),
        )
        for step in steps:
            verdict: Verdict = step()
            if verdict.disposition.final:
                session.close()
                return Finished(verdict)
        session.body(b"text\r\n")
        return session.end_of_message("Q")


@pytest.mark.parametrize(
    ("on_error", "disposition"),
    [("defer", Disposition.DEFER), ("reject", Disposition.REJECT), ("accept", Disposition.ACCEPT)],
)
@pytest.mark.parametrize(
    ("broken", "ip"),
    [
        ("session.decide", RELAY),
        ("judgement.whose", RELAY),
        ("judgement.whose", "203.0.113.9"),
        ("judgement.author_of", OURS),
        ("judgement.may_write_as", OURS),
        ("judgement.handover", RELAY),
        ("judgement.topmost", RELAY),
        ("judgement.Outbound", OURS),
        ("checks.Checks.run", RELAY),
        ("making.finish", RELAY),
    ],
)
def test_a_fault_of_our_own_ends_as_declared(
    broken: str, ip: str, on_error: str, disposition: Disposition, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(f"filterd.engine.{broken}", breaks)
    desk = Desk(on_error)

    finished = desk.send(ip)

    (told,) = desk.transcripts
    assert (disposition, "server.on_error") == (finished.verdict.disposition, finished.verdict.rule)
    assert (disposition, "server.on_error") == (told.verdict.disposition, told.verdict.rule)
    assert "RuntimeError: boom" in (told.fault or "")
    if disposition is Disposition.ACCEPT:
        assert DeleteField("Authentication-Results", 1) in finished.changes


@pytest.mark.parametrize("broken", ["judgement.author_of", "judgement.Outbound", "making.finish"])
def test_mail_that_leaves_unsigned_by_a_fault_has_that_reason(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(f"filterd.engine.{broken}", breaks)
    desk = Desk("accept")
    desk.send(OURS)

    assert desk.transcripts[-1].unsigned is Reason.CHECK_FAILED


def test_how_long_it_took_does_not_depend_on_the_time_of_day() -> None:
    back = itertools.count(1e9, -3600.0)
    ticks = itertools.count(0.0, 0.001)
    desk = Desk(clock=Clock(back.__next__, ticks.__next__))
    desk.send(OURS)

    times = desk.transcripts[-1].times
    assert 0 < times["total"] < 1000
    assert times["end_of_message"] <= times["total"]
