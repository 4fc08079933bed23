"""What rules edit is worked out on the mail as it leaves: envelope, header, signature and score."""

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from filterd.backend.zone import zone_resolver
from filterd.engine.changes import (
    AddRecipient,
    Change,
    ChangeField,
    ChangeSender,
    DeleteField,
    DeleteRecipient,
    InsertField,
    envelope_changes,
)
from filterd.engine.finish import Finished
from filterd.engine.runtime import Runtime
from filterd.engine.session import MailSession
from filterd.mail.address import parse_path
from filterd.mail.header import Field
from filterd.mail.transaction import Client, ForwardPath, ReversePath, Stage
from filterd.policy import verdict as edits
from filterd.policy.load import load
from filterd.policy.transcript import Transcript
from filterd.policy.verdict import Disposition, StepOutcome, Summand

HEAD = "version: 1\nidentity: { authserv_id: mx.home.example }\nrules:\n"
ADDED = "Authentication-Results"
ZONE = """\
$TTL 300
@                         IN SOA ns.test. h.test. 1 2 3 4 5
bank.example.             IN TXT "v=spf1 ip4:192.0.2.10 -all"
"""
FROM_BANK = (Field(b"From", b" service@bank.example"), Field(b"Subject", b" x"))
ANNA = "anna@home.example"


class Desk:
    """Sends a mail, and keeps what became of it."""

    def __init__(self, policy: str) -> None:
        self.transcripts: list[Transcript] = []
        zone = zone_resolver(ZONE)
        runtime = Runtime(load(policy, "p.yaml"), "mx.home.example", lambda _: zone, self.transcripts.append)
        self.session = MailSession(runtime, "c1")

    def send(self, fields: Sequence[Field] = FROM_BANK, lacks: frozenset[type[Change]] = frozenset()) -> Transcript:
        self.session.connect(Client(ip_address("192.0.2.10")), None)
        self.session.helo("client.example", None)
        sender = "service@bank.example"
        self.session.mail(ReversePath(sender, parse_path(sender)), None, None)
        self.session.rcpt(ForwardPath(ANNA, parse_path(ANNA)), "Q1")
        self.session.data("Q1")
        self.session.end_of_headers(fields, "Q1")
        self.session.body(b"text\r\n")
        self.finished: Finished = self.session.end_of_message("Q1", lacks)
        return self.transcripts[-1]


def sent(then: str, *fields: Field, when: str = "'true'") -> Desk:
    desk = Desk(f"{HEAD}  - {{ name: r, when: {when}, then: {then} }}\n")
    desk.send((*FROM_BANK, *fields))
    return desk


def changes(desk: Desk) -> list[Change]:
    return [each for each in desk.finished.changes if getattr(each, "name", "") != ADDED]


@pytest.mark.parametrize(
    ("then", "fields", "expected"),
    [
        ("{ add_header: { name: X-S, value: '{spf.result}' } }", [], [InsertField(0, "X-S", "pass")]),
        ("{ add_header: { name: X-S, value: Käse } }", [], [InsertField(0, "X-S", "=?utf-8?b?S8Okc2U=?=")]),
        ("{ remove_header: { name: x-a } }", [(b"X-A", b" 1"), (b"X-A", b" 2")], [DeleteField("x-a", 2), DeleteField("x-a", 1)]),
        ("{ remove_header: { name: X-A, matching: ^2 } }", [(b"X-A", b" 1"), (b"X-A", b" 2")], [DeleteField("X-A", 2)]),
        ("{ remove_header: { name: X-A } }", [], []),
        ("{ rewrite_header: { name: X-A, value: new } }", [(b"x-a", b" 1")], [ChangeField("X-A", 1, "new")]),
        ("{ rewrite_header: { name: X-A, value: '{client.user}' } }", [(b"x-a", b" 1")], [DeleteField("X-A", 1)]),
        ("{ subject_prefix: '[S]' }", [], [ChangeField("Subject", 1, "[S] x")]),
        ("{ subject_prefix: x }", [], []),
        ("[{ subject_prefix: A }, { subject_prefix: B }]", [], [ChangeField("Subject", 1, "B A x")]),
        ("[{ add_header: { name: X-A, value: a } }, { rewrite_header: { name: X-A, value: b } }]", [], [InsertField(0, "X-A", "b")]),
        ("[{ add_header: { name: X-A, value: a } }, { remove_header: { name: X-A } }]", [], []),
        ("[{ rewrite_header: { name: X-A, value: b } }, { remove_header: { name: X-A, matching: b } }]", [(b"X-A", b" a")], [DeleteField("X-A", 1)]),
        ("{ add_recipient: archive@home.example }", [], [AddRecipient("archive@home.example")]),
        ("{ add_recipient: ANNA@home.example }", [], []),
        ("{ redirect: spam@home.example }", [], [DeleteRecipient("anna@home.example"), AddRecipient("spam@home.example")]),
        ("[{ add_recipient: b@x.example }, { remove_recipient: anna@home.example }]", [], [DeleteRecipient("anna@home.example"), AddRecipient("b@x.example")]),
        ("{ change_sender: <> }", [], [ChangeSender("")]),
        ("[{ add_recipient: b@x.example }, reject]", [], []),
    ],
)  # fmt: skip
def test_each_action(then: str, fields: list[tuple[bytes, bytes]], expected: list[Change]) -> None:
    assert expected == changes(sent(then, *(Field(*each) for each in fields)))


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (b" =?utf-8?q?K=C3=A4se?=\r\n und", "[S] =?utf-8?q?K=C3=A4se?=\n und"),
        (b" K\xe4se", "[S] =?utf-8?b?S8Okc2U=?="),
        (b"", "[S] "),
    ],
)
def test_a_subject_keeps_what_its_author_wrote(subject: bytes, expected: str) -> None:
    desk = Desk(f"{HEAD}  - {{ name: r, when: 'true', then: {{ subject_prefix: '[S]' }} }}\n")

    desk.send((FROM_BANK[0], Field(b"Subject", subject)))

    assert [ChangeField("Subject", 1, expected)] == changes(desk)


def test_a_mail_without_a_subject_gets_one() -> None:
    desk = Desk(f"{HEAD}  - {{ name: r, when: 'true', then: {{ subject_prefix: '[S]' }} }}\n")

    desk.send(FROM_BANK[:1])

    assert [InsertField(0, "Subject", "[S]")] == changes(desk)


def test_results_stand_above_what_rules_add() -> None:
    desk = sent("{ add_header: { name: X-A, value: a } }")

    assert [each.name for each in desk.finished.changes if isinstance(each, InsertField)] == ["X-A", ADDED]


def test_a_mail_that_loses_its_last_recipient_is_discarded_aloud() -> None:
    desk = sent("{ remove_recipient: anna@home.example }")

    assert (
        desk.finished.verdict.disposition,
        desk.transcripts[-1].verdict.rule,
    ) == (Disposition.DISCARD, "recipients.none-left")


def test_recipients_are_compared_without_case_and_removed_as_they_were_written() -> None:
    wanted = [edits.RemoveRecipient("kid@home.example"), edits.AddRecipient("ANNA@home.example")]

    found = envelope_changes(wanted, ["Kid@Home.Example", "anna@home.example", "Kid@Home.Example"])

    assert ([DeleteRecipient("Kid@Home.Example")], 1) == found


def test_what_the_mta_does_not_offer_is_a_fault_of_ours() -> None:
    policy = f"{HEAD}  - {{ name: r, when: 'true', then: {{ redirect: spam@home.example }} }}\n"
    desk = Desk(policy)

    mail, finished = desk.send(lacks=frozenset({DeleteRecipient})), desk.finished

    assert (
        finished.verdict.disposition,
        finished.verdict.rule,
        finished.changes,
    ) == (Disposition.DEFER, "server.on_error", ())
    assert "the MTA does not let filterd make a change" in (mail.fault or "")


SCORED = f"""{HEAD}\
  - {{ name: early, when: client.name == "", then: {{ score: 0.1 }} }}
  - {{ name: watched, when: "true", then: {{ score: 100 }}, mode: observe }}
  - {{ name: late, when: spf.result == "pass", at: end_of_message, then: [{{ score: 0.2 }}, {{ add_header: {{ name: X-Score, value: "{{score}}" }} }}] }}
  - {{ name: seen, when: score >= 0.3, then: tag }}
score: {{ tag: 0.3, quarantine: 0.5, reject: 1, reply: "550 5.7.1 score {{score}}" }}
"""  # a rule a line


def test_a_score_is_the_sum_of_all_stages_in_decimal() -> None:
    desk = Desk(SCORED)

    mail = desk.send()

    assert (Summand("early", 0.1), Summand("late", 0.2)) == mail.verdict.summands
    assert mail.tags() == ("seen", "score.tag")
    assert InsertField(0, "X-Score", "0.3") in desk.finished.changes
    steps = {step.rule: step for each in mail.judgements if each.stage is Stage.END_OF_MESSAGE for step in each.verdict.steps}  # fmt: skip
    assert steps["seen"].facts == (("score", 0.3),)


@pytest.mark.parametrize(
    ("number", "disposition", "rule"),
    [
        ("0.29", Disposition.CONTINUE, None),
        ("0.3", Disposition.CONTINUE, None),
        ("0.5", Disposition.QUARANTINE, "score.quarantine"),
        ("1", Disposition.REJECT, "score.reject"),
        ("-5", Disposition.CONTINUE, None),
    ],
)
def test_what_a_score_comes_to(number: str, disposition: Disposition, rule: str | None) -> None:
    limits = "score: { tag: 0.3, quarantine: 0.5, reject: 1, reply: '550 5.7.1 score {score}' }\n"
    desk = Desk(f"{HEAD}  - {{ name: r, when: 'true', then: {{ score: {number} }} }}\n{limits}")

    mail = desk.send()

    assert (disposition, rule) == (mail.verdict.disposition, mail.verdict.rule)
    if rule == "score.reject":
        assert str(mail.verdict.reply) == "550 5.7.1 score 1"


def test_who_is_accepted_is_not_scored() -> None:
    desk = Desk(
        f"{HEAD}  - {{ name: a, when: 'true', at: end_of_message, then: [{{ score: 9 }}, accept] }}\nscore: {{ reject: 1 }}\n"
    )

    mail = desk.send()

    assert (mail.verdict.disposition, mail.verdict.rule) == (Disposition.ACCEPT, "a")
    assert StepOutcome.NOT_REACHED is mail.judgements[-1].verdict.steps[-1].outcome


def test_a_field_that_is_missing_makes_the_condition_false_and_the_trace_says_so() -> None:
    desk = sent("tag", when='\'header("list-id") == "a"\'')

    (step,) = [step for each in desk.transcripts[-1].judgements for step in each.verdict.steps if step.rule == "r"]

    assert (
        step.outcome,
        step.note,
    ) == (StepOutcome.NOT_EVALUATED, "the condition fails: the mail has no field list-id")


def test_what_a_rule_reads_of_the_header_is_in_the_trace_and_in_texts() -> None:
    desk = sent("{ add_header: { name: X-Was, value: '{header(\"subject\")}' } }", when='\'header("Subject") == "x"\'')

    (judgement,) = [each for each in desk.transcripts[-1].judgements if each.verdict.edits]

    assert (
        judgement.stage,
        judgement.verdict.steps[-1].facts,
    ) == (Stage.END_OF_HEADERS, (('header("subject")', "x"),))
    assert [InsertField(0, "X-Was", "x")] == changes(desk)
