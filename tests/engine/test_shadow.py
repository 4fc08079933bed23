"""The policy in shadow judges what the live one judges, is told of, and changes nothing."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest

from filterd.backend.zone import zone_resolver
from filterd.engine import judgement
from filterd.engine.finish import Finished
from filterd.engine.runtime import Runtime
from filterd.engine.session import MailSession
from filterd.mail.address import parse_path
from filterd.mail.header import Field
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.load import load
from filterd.policy.shadow import Candidate
from filterd.policy.transcript import Transcript
from filterd.policy.transcript_read import from_mapping

ZONE = """\
$TTL 300
@                         IN SOA ns.test. h.test. 1 2 3 4 5
bank.example.             IN TXT "v=spf1 ip4:192.0.2.10 -all"
_dmarc.bank.example.      IN TXT "v=DMARC1; p=reject"
"""
FORGED = '{ name: forged, when: dmarc.result == "fail", then: reject }'
STRANGER, BANK = "203.0.113.66", "192.0.2.10"


class Desk:
    def __init__(self, live: str, candidate: str) -> None:
        self.transcripts: list[Transcript] = []
        policy = load(f"version: 1\n{live}\n", "live.yaml")
        self.candidate = load(f"version: 1\n{candidate}\n", "candidate.yaml")
        policy = replace(policy, shadow=Candidate("candidate.yaml", self.candidate))
        self.runtime = Runtime(policy, "mx.example", lambda _: zone_resolver(ZONE), self.transcripts.append)

    def send(self, ip: str = STRANGER, recipients: Sequence[str] = ("anna",), user: str | None = None) -> Finished:
        session = MailSession(self.runtime, "c")
        session.connect(Client(ip_address(ip)), None)
        session.helo("x.example", None)
        verdict = session.mail(ReversePath("s@bank.example", parse_path("s@bank.example")), user, None)
        if verdict.disposition.final:
            session.close()
            return Finished(verdict)
        for name in recipients:
            session.rcpt(ForwardPath(f"{name}@home.example", parse_path(f"{name}@home.example")), "Q")
        session.end_of_headers((Field(b"From", b" s@bank.example"), Field(b"Subject", b" x")), "Q")
        session.body(b"text\r\n")
        return session.end_of_message("Q")

    def word(self) -> object:
        return self.transcripts[-1].log_line().get("shadow")


def rules(*written: str) -> str:
    return f"rules: [{', '.join(written)}]" if written else ""


@pytest.mark.parametrize(
    ("live", "candidate", "word"),
    [
        (rules(FORGED), rules(FORGED), "same"),
        (rules(FORGED), rules(FORGED.replace("forged,", "renamed,")), "same"),
        (rules(FORGED), "", "verdict:accept:-"),
        ("", rules(FORGED), "verdict:reject:forged"),
        (rules(FORGED), rules(FORGED.replace("reject", "quarantine")), "verdict:quarantine:forged"),
        ("", rules(FORGED.replace("reject", "tag")), "edits:accept:-"),
        # Who accepts what nobody refuses changes nothing.
        ("", rules("{ name: fine, when: 'true', then: accept }"), "same"),
        # What the live policy refuses at once was not seen to its end.
        (rules('{ name: a, when: client.helo == "x.example", then: reject }'), rules(FORGED), "verdict:continue:-"),
        # Each judges by its own stages: SPF was found out, if later than the candidate would have asked.
        ("", rules('{ name: early, when: spf.result == "fail", then: reject }'), "verdict:reject:early"),
        # No check is run for the candidate's sake.
        ("", rules('{ name: helo, when: spf.helo_result == "none", then: reject }'), "cannot-tell:helo"),
        ("", "mail_from_us: 'client.helo == \"x.example\"'\n" + rules(FORGED), "same"),
        ("mail_from_us: 'client.helo == \"x.example\"'", rules(FORGED), "cannot-tell:forged"),
        ("", "networks: { relays: [203.0.113.0/24] }\n" + rules(FORGED), "cannot-tell:forged"),
        ("", "networks: { trusted: [203.0.113.0/24] }\n" + rules("{ name: ours, when: client.trusted, then: tag }"), "edits:accept:-"),
        ("", rules("{ name: score, when: 'true', then: { score: 3 } }", "{ name: high, when: score > 2.0, then: reject }"), "verdict:reject:high"),
        ("", rules("{ name: small, when: message.size > 5, then: reject }"), "verdict:reject:small"),
        ("", rules("{ name: at, when: 'true', then: reject, at: connect }"), "verdict:reject:at"),
        ("", rules('{ name: watched, when: dmarc.result == "fail", then: reject, mode: observe }'), "same"),
    ],
)  # fmt: skip
def test_in_what_it_differs(live: str, candidate: str, word: str) -> None:
    desk, alone = Desk(live, candidate), Desk(live, "")
    finished, expected = desk.send(), alone.send()

    assert desk.word() == word
    assert (finished.verdict, finished.changes) == (expected.verdict, expected.changes)


@pytest.mark.parametrize(
    ("live", "candidate", "word"),
    [
        ("", "root", "recipients:reject:no"),
        ("root", "", "recipients:accept:-"),
        ("root", "root", "same"),
        ("root", "anna", "recipients:reject:no"),
    ],
)
def test_recipients_are_judged_alone(live: str, candidate: str, word: str) -> None:
    def refusing(name: str) -> str:
        return rules(f'{{ name: "no", when: envelope.recipient == "{name}@home.example", then: reject }}')

    desk = Desk(refusing(live), refusing(candidate))
    desk.send(recipients=("anna", "root"))

    assert desk.word() == word
    refused = [recipient for _, recipient in desk.transcripts[-1].refused_recipients()]
    assert refused == ([f"{live}@home.example"] if live else [])


def test_a_candidate_that_raises_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(judgement, "judge_in_shadow", broken)
    desk, alone = Desk(rules(FORGED), ""), Desk(rules(FORGED), "")
    finished = desk.send()

    assert (finished.verdict, finished.changes) == ((expected := alone.send()).verdict, expected.changes)
    assert desk.word() == "failed"
    assert "shadow: RuntimeError: boom" in (desk.transcripts[-1].fault or "")


def test_what_it_says_is_kept_with_the_transcript() -> None:
    desk = Desk("", rules(FORGED))
    desk.send()
    (transcript,) = desk.transcripts
    kept = transcript.to_mapping()["shadow"]

    assert kept == {
        "policy": desk.candidate.digest,
        "divergence": "verdict",
        "live": {"disposition": "accept"},
        "candidate": {"disposition": "reject", "rule": "forged"},
        "rules": [
            {"rule": "dmarc.on_multiple_authors", "outcome": "did not fire"},
            {"rule": "forged", "outcome": "fired"},
        ],
    }
    assert from_mapping(transcript.to_mapping()).shadow == transcript.shadow


def test_a_mail_that_we_failed_to_judge_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(judgement, "decide", broken)
    desk = Desk(rules(FORGED), rules(FORGED))
    desk.send()

    assert desk.transcripts[-1].verdict.rule == "server.on_error"
    assert desk.word() is None


def test_of_what_a_limit_has_decided_nothing_can_be_told() -> None:
    limit = "limits: [{ name: few, key: envelope.sender, rate: 1 messages per 1h, then: hold }]"
    desk = Desk(limit, limit)
    desk.send()
    assert desk.word() == "same"
    desk.send()
    assert desk.word() == "cannot-tell:few"
