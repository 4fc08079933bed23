"""What Postfix is told when it asks at some stage, or at several, and what it never is."""

from dataclasses import replace
from typing import Any

import pytest

from filterd.engine.runtime import Runtime
from filterd.engine.session import MailSession
from filterd.frontend.access_policy import AccessPolicy, envelope_runtime
from filterd.frontend.conversation import Reception
from filterd.lookup import Answer, Outcome, ZoneResolver
from filterd.policy.load import load
from filterd.policy.transcript import Transcript
from filterd.wire.access_policy import AccessPolicyError, ProtocolState, Request, encode_request

CONNECT, HELO, MAIL, RCPT, DATA, EOM, VRFY, ETRN = (
    ProtocolState[name] for name in ("CONNECT", "HELO", "MAIL", "RCPT", "DATA", "END_OF_MESSAGE", "VRFY", "ETRN")
)
ASKED = Request(
    RCPT,
    protocol_name="ESMTP",
    helo_name="client.example",
    sender="a@example.org",
    recipient="b@example.net",
    client_address="192.0.2.1",
    client_name="unknown",
    client_port=40000,
    instance="1.2.3.0",
)
_SPF = Answer("example.org", "TXT", Outcome.FOUND, (b"v=spf1 ip4:192.0.2.1 -all",), 300)
ZONE = {("example.org", "TXT"): _SPF}


class Desk:
    """A connection to filterd under these rules. `told` are the transcripts, `faults` what went wrong."""

    def __init__(self, rules: str = "", more: str = "", session: Any = MailSession) -> None:
        self.told: list[Transcript] = []
        self.faults: list[BaseException] = []
        policy = load(f"version: 1\n{more}\nrules: [{rules}]\n", "policy.yaml")
        resolver = ZoneResolver(ZONE)
        runtime = Runtime(policy, "mx.example", lambda _: resolver, self.told.append)
        self.reception = Reception(envelope_runtime(runtime), self._report, None, session)
        self.talk = AccessPolicy(self.reception)

    def _report(self, where: str, error: BaseException, conversation: str | None) -> None:
        self.faults.append(error)

    def ask(self, request: Request = ASKED, **changes: Any) -> str | None:
        """What is to be done by the answer; None where there is no answer, but an end."""
        answer = self.talk.hear(encode_request(replace(request, **changes)))
        assert self.talk.over == (not answer)
        return answer.decode().removeprefix("action=").removesuffix("\n\n") or None


def rule(when: str, then: str = "reject", **more: str) -> str:
    named = "".join(f", {key}: {value!r}" for key, value in more.items())
    return f"{{ name: {more.pop('name', 'r')}, when: '{when}', then: {then}{named} }}"


def test_where_no_rule_decides_postfix_goes_on() -> None:
    assert Desk().ask() == "DUNNO"


@pytest.mark.parametrize(
    ("then", "reply", "answer"),
    [
        ("reject", None, "550 5.7.1 refused by policy (r)"),
        ("reject", "554 5.7.0 no", "554 5.7.0 no"),
        ("reject", "521 5.3.2 go away", "521 5.3.2 go away"),
        ("defer", None, "DEFER_IF_PERMIT 4.7.1 try again later (r)"),
        ("defer", "450 4.2.0 greylisted", "DEFER_IF_PERMIT 4.2.0 greylisted"),
        ("defer", "421 4.7.0 hang up", "421 4.7.0 hang up"),
        ("defer", "452 4.5.3 too many", "452 4.5.3 too many"),
        ("accept", None, "DUNNO"),
        ("hold", None, "HOLD r"),
        ("discard", None, "DISCARD r"),
        ("quarantine", None, "PREPEND X-Filterd-Quarantine: r"),
        ("tag", None, "PREPEND X-Filterd-Tag: r"),
    ],
)
def test_what_each_action_is(then: str, reply: str | None, answer: str) -> None:
    more = {} if reply is None else {"reply": reply}
    desk = Desk(rule("true", then, **more))

    assert desk.ask() == answer
    assert desk.faults == []


FACTS = {
    'client.ip == "192.0.2.1"': {},
    'client.name == "mail.example.org"': {"client_name": "mail.example.org"},
    'client.name == ""': {"client_name": "unknown"},
    'client.helo == "client.example"': {},
    'client.user == "anna"': {"sasl_username": "anna"},
    "!client.authenticated": {},
    'envelope.sender == "a@example.org"': {},
    'envelope.sender == ""': {"sender": ""},
    'envelope.sender_domain == "xn--bcher-kva.example"': {"sender": "a@b\u00fccher.example"},
    'envelope.recipient == "b@example.net"': {},
    'envelope.recipient_domain == "example.net"': {},
    'spf.result == "pass"': {},
    'spf.result == "fail"': {"client_address": "203.0.113.1"},
    "client.trusted": {"client_address": "127.0.0.1"},
    'client.ip == "2001:db8::1"': {"client_address": "2001:db8::1"},
    'client.ip == "fe80::1"': {"client_address": "fe80::1%eth0"},
    'client.ip == "192.0.2.2"': {"client_address": "::ffff:192.0.2.2"},
    'client.ip == ""': {"client_address": "unknown"},
}


@pytest.mark.parametrize("fact", FACTS)
def test_a_question_at_rcpt_has_all_that_is_known_by_then(fact: str) -> None:
    desk = Desk(rule(fact))

    assert desk.ask(**FACTS[fact]) == "550 5.7.1 refused by policy (r)"
    assert Desk(rule(f"!({fact})")).ask(**FACTS[fact]) == "DUNNO"


@pytest.mark.parametrize("at", ["connect", "helo", "mail", "rcpt"])
def test_rules_of_all_stages_up_to_the_question_are_judged(at: str) -> None:
    assert Desk(rule("true", at=at)).ask() == "550 5.7.1 refused by policy (r)"


@pytest.mark.parametrize("at", ["data", "end_of_headers", "end_of_message"])
def test_rules_of_later_stages_wait(at: str) -> None:
    desk = Desk(rule("true", at=at))
    later = {"recipient_count": 1}
    found = [desk.ask(), desk.ask(protocol_state=DATA, **later), desk.ask(protocol_state=EOM, size=9, **later)]

    refused = "550 5.7.1 refused by policy (r)"
    assert found == ["DUNNO", refused if at == "data" else "DUNNO", refused]


def test_at_its_end_a_mail_has_its_size() -> None:
    desk = Desk(rule("message.size > 1000"))
    asked = replace(ASKED, protocol_state=EOM, recipient_count=1)

    assert desk.ask(asked, size=1000) == "DUNNO"
    assert desk.ask(asked, size=1001, instance="1.2.3.1") == "550 5.7.1 refused by policy (r)"
    assert [(each.size, each.completed) for each in desk.told] == [(1000, True), (1001, True)]


@pytest.mark.parametrize(
    "when", ['dkim.result != "pass"', 'dmarc.result != "pass"', "message.header_fields < 9", "!message.indirect"]
)
def test_rules_that_need_content_are_the_milters(when: str) -> None:
    desk = Desk(rule(when))

    assert [desk.ask(protocol_state=state, recipient_count=1) for state in (RCPT, DATA, EOM)] == ["DUNNO"] * 3
    assert desk.faults == []


@pytest.mark.parametrize(
    ("first", "answer"),
    [("accept", "DUNNO"), ("hold", "DUNNO"), ("quarantine", "DUNNO"), ("tag", "refused"), ("reject", "refused")],
)
def test_nothing_is_refused_that_an_earlier_rule_may_let_pass(first: str, answer: str) -> None:
    rules = f"{{ name: first, when: 'dkim.result == \"pass\"', then: {first} }}, {rule('message.size > 10')}"
    found = Desk(rules).ask(protocol_state=EOM, size=11, recipient_count=1)

    assert found == (answer if answer == "DUNNO" else "550 5.7.1 refused by policy (r)")


def test_a_recipient_is_refused_alone() -> None:
    desk = Desk(rule('envelope.recipient == "no@example.net"'))

    found = [desk.ask(recipient=f"{name}@example.net") for name in ("a", "no", "no", "b")]
    assert found == ["DUNNO", *["550 5.7.1 refused by policy (r)"] * 2, "DUNNO"]
    assert desk.ask(protocol_state=DATA, recipient="", recipient_count=2) == "DUNNO"


def test_what_is_refused_as_a_whole_is_refused_to_each_recipient() -> None:
    desk = Desk(rule('envelope.sender == "a@example.org"'))

    assert [desk.ask(recipient=f"{name}@example.net") for name in "abc"] == ["550 5.7.1 refused by policy (r)"] * 3
    desk.talk.close()
    assert [each.verdict.rule for each in desk.told] == ["r"]


def test_who_asks_only_at_data_has_the_one_recipient_judged() -> None:
    refused = "550 5.7.1 refused by policy (r)"
    asked = replace(ASKED, protocol_state=DATA, recipient_count=1)

    assert Desk(rule('envelope.recipient == "b@example.net"')).ask(asked) == refused
    assert Desk(rule("envelope.recipients == 3")).ask(asked, recipient="", recipient_count=3) == refused
    assert Desk(rule("envelope.recipients == 1")).ask(asked) == refused


def test_a_mail_is_marked_once_and_held_once() -> None:
    """Postfix may ask twice at a stage: for restrictions of the sender, and for those of the recipient."""
    tags = ", ".join(f"{{ name: t{number}, when: 'true', then: tag }}" for number in range(2))
    desk = Desk(f"{tags}, {rule('true', 'hold')}")
    requests = [replace(ASKED, recipient=name) for name in ("a@x.example", "a@x.example", "b@x.example", "c@x.example")]

    assert [desk.ask(each) for each in requests] == [
        "HOLD r",
        "PREPEND X-Filterd-Tag: t0",
        "PREPEND X-Filterd-Tag: t1",
        "DUNNO",
    ]
    desk.talk.close()
    assert [(each.verdict.disposition, each.completed) for each in desk.told] == [("hold", False)]


def test_the_next_mail_is_another() -> None:
    desk = Desk(rule("true", "tag"))

    assert [desk.ask(instance=name) for name in ("1.2.3.0", "1.2.3.0", "1.2.3.1", "")] == [
        "PREPEND X-Filterd-Tag: r",
        "DUNNO",
        *["PREPEND X-Filterd-Tag: r"] * 2,
    ]
    assert desk.reception.live == 1


#: What Postfix asks with smtpd_delay_reject=no: no instance before the first recipient.
EAGER = [
    Request(CONNECT, client_address="192.0.2.1", client_port=40000),
    Request(ProtocolState.EHLO, helo_name="client.example", client_address="192.0.2.1", client_port=40000),
    replace(ASKED, protocol_state=MAIL, recipient="", instance=""),
    ASKED,
    replace(ASKED, protocol_state=DATA, queue_id="4Q1", recipient_count=1),
    replace(ASKED, protocol_state=EOM, queue_id="4Q1", recipient_count=1, size=5),
]


def test_who_asks_at_every_stage_is_answered_once() -> None:
    desk = Desk(f"{{ name: c, when: 'true', then: tag, at: connect }}, {rule('true', 'tag')}")

    assert [desk.ask(each) for each in EAGER] == [
        "DUNNO",
        "DUNNO",
        "PREPEND X-Filterd-Tag: c",
        "PREPEND X-Filterd-Tag: r",
        "DUNNO",
        "DUNNO",
    ]
    told = [(each.transaction.queue_id, each.tags(), each.completed) for each in desk.told]
    assert told == [(None, ("r",), False), ("4Q1", ("c", "r"), True)]
    assert desk.reception.live == 1


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize(
    "change", [{"client_address": "192.0.2.9"}, {"client_port": 40001}, {"instance": "9.9"}, {"sender": "x@y.example"}]
)
def test_whatever_is_forgotten_between_two_questions_both_are_answered(number: int, change: dict[str, Any]) -> None:
    """The second is about another client or mail, or is all that this worker hears of it."""
    desk = Desk(rule('client.ip == "192.0.2.9" || envelope.sender == "x@y.example"', at="mail"))
    first, second = EAGER[max(0, number - 1)], replace(EAGER[number], **change)
    known = second.protocol_state not in (CONNECT, ProtocolState.EHLO) and (
        "sender" in change or "client_address" in change
    )
    same_mail = first.instance and first.instance == second.instance

    assert desk.ask(first) == "DUNNO"
    assert desk.ask(second) == ("550 5.7.1 refused by policy (r)" if known and not same_mail else "DUNNO")


@pytest.mark.parametrize("state", [CONNECT, ProtocolState.XCLIENT, HELO, VRFY, ETRN])
def test_what_is_no_mail_is_refused_or_let_be(state: ProtocolState) -> None:
    """access(5): before MAIL, Postfix would warn of HOLD, DISCARD and PREPEND, and do nothing."""
    asked = Request(state, client_address="192.0.2.1", recipient="b" if state is VRFY else "")

    for then, answer in (
        ("reject", "550 5.7.1 refused by policy (r)"),
        ("defer", "DEFER_IF_PERMIT 4.7.1 try again later (r)"),
        ("discard", "DEFER_IF_PERMIT 4.7.1 refused by policy for now, please try again later"),
        ("hold", "DUNNO"),
        ("tag", "DUNNO"),
        ("quarantine", "DUNNO"),
        ("accept", "DUNNO"),
    ):
        assert Desk(rule("true", then, at="connect")).ask(asked) == answer
        assert Desk(rule("true", then)).ask(asked) == "DUNNO"


def test_no_text_of_a_client_reaches_postfix_unescaped() -> None:
    desk = Desk(rule("true", reply="550 5.7.1 {client.helo} {envelope.sender}"))
    found = desk.ask(helo_name="a\r\x1b[2Jb %s\u202e", sender='"x\ty"@example.org\udcff')

    assert found is not None
    assert found.isascii()
    assert found.isprintable()
    assert "%" not in found


@pytest.mark.parametrize(
    ("on_error", "answer"), [("accept", "DUNNO"), ("reject", "554 5.3.0 cannot judge this mail"), ("defer", None)]
)
def test_a_fault_of_ours_ends_as_declared(on_error: str, answer: str | None) -> None:
    """SMTPD_POLICY_README: in case of trouble the server does not answer; Postfix tries again, and then defers."""

    class Session(MailSession):
        def mail(self, *_: object) -> Any:
            raise RuntimeError("told to")

    desk = Desk(rule("true", at="rcpt"), f"server: {{ on_error: {on_error} }}", Session)

    assert desk.ask() == answer
    assert [str(error) for error in desk.faults] == ["told to"]


@pytest.mark.parametrize("broken", [b"\n", b"x\n\n", b"request=junk\n\n", b"a=\0\n\n"])
def test_what_breaks_the_protocol_ends_the_connection(broken: bytes) -> None:
    desk = Desk()
    found = desk.talk.hear(encode_request(ASKED) + broken + encode_request(ASKED))

    assert found == b"action=DUNNO\n\n"
    assert desk.talk.over
    assert [type(error) for error in desk.faults] == [AccessPolicyError]


def test_a_client_address_that_is_none_ends_the_connection() -> None:
    desk = Desk()

    assert desk.ask(client_address="192.0.2.256") is None
    desk.talk.close()
    assert [type(error) for error in desk.faults] == [AccessPolicyError]
    assert desk.reception.live == 0


def test_questions_that_come_at_once_are_answered_in_order() -> None:
    desk = Desk(rule('envelope.recipient == "1@example.net"'))
    stream = b"".join(encode_request(replace(ASKED, recipient=f"{number}@example.net")) for number in range(3))
    answers = [desk.talk.hear(stream[start : start + 7]) for start in range(0, len(stream), 7)]

    refused = b"action=550 5.7.1 refused by policy (r)\n\n"
    assert b"".join(answers) == b"action=DUNNO\n\n" + refused + b"action=DUNNO\n\n"


def test_nobody_is_asked_for_what_no_rule_names() -> None:
    """A policy service that judges no SPF costs no DNS, though the milter's part of the policy reports SPF."""
    desk = Desk(rule("false", at="rcpt"))
    asked: list[str] = []
    desk.reception._runtime = replace(desk.reception._runtime, resolver=lambda _: asked.append("") or ZoneResolver({}))  # type: ignore[func-returns-value]
    desk.ask()

    assert asked == []
