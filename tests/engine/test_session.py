"""A connection is judged as SMTP goes, by one policy, and told of in one transcript a mail."""

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from filterd.backend.zone import zone_resolver
from filterd.engine import gather
from filterd.engine.changes import DeleteField, InsertField
from filterd.engine.judgement import MAX_FIELDS
from filterd.engine.runtime import Runtime
from filterd.engine.session import MailSession
from filterd.lookup import Answer, Outcome, Resolver
from filterd.mail.address import parse_path
from filterd.mail.header import Field
from filterd.mail.reason import Reason
from filterd.mail.transaction import Client, ForwardPath, ReversePath, Stage
from filterd.policy.load import load
from filterd.policy.transcript import Transcript
from filterd.policy.verdict import Disposition, Verdict

ZONE = """\
$TTL 300
@                         IN SOA ns.test. h.test. 1 2 3 4 5
bank.example.             IN TXT "v=spf1 ip4:192.0.2.10 -all"
_dmarc.bank.example.      IN TXT "v=DMARC1; p=reject"
stranger.example.         IN TXT "v=spf1 ip4:203.0.113.66 -all"
"""
FROM_BANK = (Field(b"From", b" service@bank.example"), Field(b"Subject", b" x"))
POLICY = """\
version: 1
identity: { authserv_id: mx.home.example }
rules:
  - { name: forged, when: dmarc.result == "fail" && dmarc.policy == "reject", then: reject }
"""


class Desk:
    """A session with its transcripts."""

    def __init__(self, policy: str = POLICY, resolver: Resolver | None = None) -> None:
        self.transcripts: list[Transcript] = []
        source = resolver or zone_resolver(ZONE)
        self.runtime = Runtime(load(policy, "p.yaml"), "mx.home.example", lambda _: source, self.transcripts.append)
        self.session = MailSession(self.runtime, "c1")

    def begin(self, ip: str, sender: str, user: str | None = None) -> Verdict:
        self.session.connect(Client(ip_address(ip)), None)
        self.session.helo("client.example", None)
        return self.session.mail(ReversePath(sender, parse_path(sender)), user, None)

    def send(self, ip: str, sender: str, fields: Sequence[Field] = FROM_BANK, user: str | None = None) -> Transcript:
        self.begin(ip, sender, user)
        self.session.rcpt(ForwardPath("anna@home.example", parse_path("anna@home.example")), "Q1")
        self.session.data("Q1")
        self.session.end_of_headers(fields, "Q1")
        self.session.body(b"text\r\n")
        self.finished = self.session.end_of_message("Q1")
        return self.transcripts[-1]


def test_an_honest_mail_passes_and_a_forged_one_is_refused() -> None:
    desk = Desk()

    honest = desk.send("192.0.2.10", "service@bank.example")
    assert (
        honest.verdict.disposition,
        honest.results.spf and honest.results.spf.code,
        honest.results.dmarc and honest.results.dmarc.code,
    ) == (Disposition.CONTINUE, "pass", "pass")
    forged = desk.send("203.0.113.66", "x@stranger.example")
    assert (
        forged.verdict.disposition,
        forged.verdict.rule,
        forged.results.dmarc and forged.results.dmarc.code,
    ) == (Disposition.REJECT, "forged", "fail")
    assert desk.finished.changes == ()


@pytest.mark.parametrize("name", [b"Authentication-Results", b"x-filterd-tag", b"X-Filterd-Quarantine"])
def test_a_mail_with_hundreds_of_forged_fields_is_refused(name: bytes) -> None:
    """To delete them is work for the MTA, which looks for each from the top."""
    desk = Desk()
    forged = Field(name, b" mx.home.example; dmarc=pass")

    few = desk.send("192.0.2.10", "service@bank.example", [forged] * 500 + [*FROM_BANK])
    assert (few.verdict.disposition, len(desk.finished.changes)) == (Disposition.CONTINUE, 501)
    many = desk.send("192.0.2.10", "service@bank.example", [forged] * 501 + [*FROM_BANK])
    assert (many.verdict.disposition, str(many.verdict.reply)[:9]) == (Disposition.REJECT, "552 5.3.4")
    assert desk.finished.changes == ()


def test_results_are_added_on_top_and_forged_ones_deleted_from_the_last_to_the_first() -> None:
    desk = Desk()
    fields = (
        Field(b"authentication-results", b" mx.home.example; dmarc=pass"),
        Field(b"Authentication-Results", b" other.example; dmarc=pass"),
        Field(b"Authentication-Results", b" (x) MX.HOME.EXAMPLE; dmarc=pass"),
        Field(b"X-Filterd-Tag", b" mine"),
        *FROM_BANK,
    )

    desk.send("192.0.2.10", "service@bank.example", fields)

    deletions = [change for change in desk.finished.changes if isinstance(change, DeleteField)]
    assert [
        DeleteField("Authentication-Results", 3),
        DeleteField("Authentication-Results", 1),
        DeleteField("X-Filterd-Tag", 1),
    ] == deletions
    added = desk.finished.changes[-1]
    assert isinstance(added, InsertField)
    assert (added.index, added.name) == (0, "Authentication-Results")
    assert added.value.startswith("mx.home.example;")
    assert "spf=pass smtp.mailfrom=service@bank.example" in " ".join(added.value.split())
    assert "dmarc=pass header.from=bank.example" in " ".join(added.value.split())


def test_mail_from_us_is_not_judged_as_a_strangers() -> None:
    desk = Desk()

    own = desk.send("203.0.113.66", "anna@bank.example", user="anna")

    assert True is own.from_us
    assert (own.results.spf, own.results.dkim, own.results.dmarc) == (None, None, None)
    assert Disposition.CONTINUE is own.verdict.disposition
    assert "not applicable" in [step.outcome.value for each in own.judgements for step in each.verdict.steps]
    assert desk.finished.changes == ()


def test_a_trusted_client_is_us_and_our_relay_is_not() -> None:
    assert True is Desk().send("127.0.0.1", "x@bank.example").from_us
    relayed = POLICY + "networks: { relays: ['127.0.0.1'] }\n"
    assert False is Desk(relayed).send("127.0.0.1", "x@bank.example").from_us


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ((*FROM_BANK, Field(b"from", b" x@stranger.example")), Reason.AUTHOR_SEVERAL_FIELDS),
        ((Field(b"From", b" a@bank.example, b@stranger.example"),), Reason.AUTHOR_SEVERAL),
        ((Field(b"From", b" nonsense <"),), Reason.AUTHOR_MALFORMED),
        ((), Reason.AUTHOR_MISSING),
    ],
)
def test_no_single_author_is_refused_without_any_rule(fields: tuple[Field, ...], reason: Reason) -> None:
    refused = Desk("version: 1\n").send("203.0.113.66", "x@stranger.example", fields)

    assert Disposition.REJECT is refused.verdict.disposition
    assert refused.author
    assert reason is refused.author.reason
    assert f"550 5.7.1 the From field must name exactly one author ({reason})" == str(refused.verdict.reply)


def test_behind_a_relay_of_ours_spf_judges_the_client_that_the_relay_recorded() -> None:
    desk = Desk(POLICY + "networks: { relays: [198.51.100.0/24] }\n")
    by_us = Field(b"Received", b" from mx2.home.example (h [198.51.100.8]) by mx1.home.example")
    honest = Field(b"Received", b" from mail.bank.example (h [192.0.2.10]) by mx2.home.example")
    forged = Field(b"Received", b" from [192.0.2.10] (h [203.0.113.66]) by mx2.home.example")

    results = [
        desk.send("198.51.100.7", "service@bank.example", (*received, *FROM_BANK)).results.spf
        for received in ((honest,), (by_us, honest), (by_us, forged, honest), (by_us,), ())
    ]
    assert [spf and spf.code for spf in results] == ["pass", "pass", "none", "temperror", "temperror"]


def test_a_recipient_is_judged_alone() -> None:
    rule = '  - { name: no-root, when: envelope.recipient == "root@home.example", then: reject }\n'
    desk = Desk(POLICY + rule)
    desk.begin("192.0.2.10", "service@bank.example")

    refused = desk.session.rcpt(ForwardPath("root@home.example", None), "Q1")
    taken = desk.session.rcpt(ForwardPath("anna@home.example", None), "Q1")
    desk.session.end_of_headers(FROM_BANK, "Q1")
    finished = desk.session.end_of_message("Q1")

    assert (refused.disposition, taken.disposition) == (Disposition.REJECT, Disposition.CONTINUE)
    assert Disposition.CONTINUE is finished.verdict.disposition
    assert tuple(each.text for each in desk.transcripts[-1].transaction.recipients) == ("anna@home.example",)


def test_a_recipient_without_text_is_judged_alone_too() -> None:
    desk = Desk(POLICY + '  - { name: none, when: envelope.recipient == "", then: reject }\n')
    desk.begin("192.0.2.10", "service@bank.example")

    refused = desk.session.rcpt(ForwardPath("", None), "Q1")
    desk.session.end_of_headers(FROM_BANK, "Q1")

    assert Disposition.REJECT is refused.disposition
    assert Disposition.CONTINUE is desk.session.end_of_message("Q1").verdict.disposition


def test_the_first_final_action_ends_the_judgement_and_tags_add_up() -> None:
    rules = """\
  - { name: one, when: client.ip == "192.0.2.10", then: tag }
  - { name: two, when: envelope.sender_domain == "bank.example", then: accept }
  - { name: three, when: "true", then: reject }
  - { name: four, when: spf.result == "pass", then: reject, at: end_of_message }
"""
    desk = Desk("version: 1\nrules:\n" + rules)

    accepted = desk.send("192.0.2.10", "service@bank.example")

    assert (accepted.verdict.disposition, accepted.verdict.rule) == (Disposition.ACCEPT, "two")
    outcomes = {step.rule: step.outcome.value for each in accepted.judgements for step in each.verdict.steps}
    assert outcomes == {"one": "fired", "two": "fired", "three": "not reached"}
    assert InsertField(0, "X-Filterd-Tag", "one") in desk.finished.changes


def test_addresses_are_compared_in_lower_case() -> None:
    rule = '  - { name: no-kid, when: envelope.recipient == "kid@home.example", then: reject }\n'
    desk = Desk(POLICY + rule)
    desk.begin("192.0.2.10", "service@bank.example")

    assert desk.session.rcpt(ForwardPath("Kid@HOME.example", None), "Q1").disposition is Disposition.REJECT
    desk.session.rcpt(ForwardPath("anna@home.example", None), "Q1")
    desk.session.end_of_headers(FROM_BANK, "Q1")
    desk.session.end_of_message("Q1")

    assert desk.transcripts[-1].log_line()["refused"] == "no-kid:<Kid@HOME.example>"


def test_a_condition_that_fails_counts_as_false_and_is_told() -> None:
    desk = Desk("version: 1\nrules: [{ name: odd, when: client.ip.in_net(client.helo), then: reject }]\n")

    mail = desk.send("192.0.2.10", "service@bank.example")

    assert mail.verdict.disposition is Disposition.CONTINUE
    assert mail.log_line()["not_evaluated"] == "odd"


def test_a_client_without_an_address_is_in_doubt_not_a_forger() -> None:
    desk = Desk()
    desk.session.connect(Client(None), None)
    desk.session.helo("x", None)
    desk.session.mail(ReversePath("service@bank.example", parse_path("service@bank.example")), None, None)
    desk.session.rcpt(ForwardPath("anna@home.example", None), "Q1")
    desk.session.end_of_headers(FROM_BANK, "Q1")
    finished = desk.session.end_of_message("Q1")

    assert finished.verdict.disposition is Disposition.CONTINUE
    assert desk.transcripts[-1].results.dmarc
    assert desk.transcripts[-1].results.dmarc.code == "temperror"


def test_observed_rules_are_told_and_not_carried_out() -> None:
    desk = Desk(POLICY.replace("then: reject", "then: reject, mode: observe"))

    mail = desk.send("203.0.113.66", "x@stranger.example")

    assert Disposition.CONTINUE is mail.verdict.disposition
    assert mail.observed() == ("forged",)


def test_a_refusal_before_the_end_is_told_once() -> None:
    desk = Desk('version: 1\nrules: [{ name: a, when: client.ip == "192.0.2.10", then: reject }]\n')

    verdict = desk.begin("192.0.2.10", "service@bank.example")
    desk.session.abort()
    desk.session.abort()
    desk.session.close()

    assert Disposition.REJECT is verdict.disposition
    assert [each.completed for each in desk.transcripts] == [False]


def test_a_connection_refused_at_connect_is_told() -> None:
    desk = Desk('version: 1\nrules: [{ name: a, when: client.ip == "192.0.2.10", then: reject, at: connect }]\n')

    verdict = desk.session.connect(Client(ip_address("192.0.2.10")), None)

    assert Disposition.REJECT is verdict.disposition
    assert [each.verdict.rule for each in desk.transcripts] == ["a"]


def test_several_mails_on_a_connection_share_nothing() -> None:
    desk = Desk()
    desk.send("203.0.113.66", "x@stranger.example")

    desk.session.mail(ReversePath("", None), None, None)
    desk.session.abort()
    desk.session.abort()
    desk.session.mail(ReversePath("service@bank.example", parse_path("service@bank.example")), None, "Q2")
    desk.session.rcpt(ForwardPath("anna@home.example", None), "Q2")
    desk.session.end_of_headers(FROM_BANK, "Q2")
    desk.session.end_of_message("Q2")

    assert [each.transaction.id for each in desk.transcripts] == ["c1.1", "c1.3"]
    assert (desk.transcripts[-1].results.spf and desk.transcripts[-1].results.spf.code) == "fail"


def test_verbs_out_of_order_do_no_harm() -> None:
    desk = Desk()

    desk.session.rcpt(ForwardPath("x", None), None)
    desk.session.data(None)
    desk.session.end_of_headers((), None)
    desk.session.body(b"x")
    assert Disposition.CONTINUE is desk.session.end_of_message(None).verdict.disposition
    desk.session.abort()
    desk.session.close()
    assert desk.transcripts == []


def test_a_message_without_end_of_headers_has_no_author() -> None:
    desk = Desk()
    desk.begin("192.0.2.10", "service@bank.example")

    assert desk.session.end_of_message("Q1").verdict.rule == "dmarc.on_multiple_authors"


def test_a_header_section_beyond_the_bound_is_refused() -> None:
    desk = Desk()

    refused = desk.send("192.0.2.10", "service@bank.example", FROM_BANK * MAX_FIELDS)

    assert str(refused.verdict.reply) == "552 5.3.4 the header section is too large"


class Broken:
    """A resolver that can tell nothing."""

    def lookup(self, name: str, rdtype: str) -> Answer:
        return Answer(name, rdtype, Outcome.TEMPFAIL, reason=Reason.DNS_SERVFAIL)

    def prefetch(self, name: str, rdtype: str) -> None:
        pass


@pytest.mark.parametrize(
    ("on_error", "disposition", "reply"),
    [
        ("skip", Disposition.CONTINUE, "None"),
        ("accept", Disposition.ACCEPT, "None"),
        ("defer", Disposition.DEFER, "451 4.4.3 a DNS answer is missing, try again later"),
        ("reject", Disposition.REJECT, "550 5.4.3 a DNS answer is missing"),
    ],
)
def test_what_becomes_of_mail_without_dns_is_declared(on_error: str, disposition: Disposition, reply: str) -> None:
    desk = Desk(f"version: 1\ndns: {{ on_error: {on_error} }}\n", Broken())

    mail = desk.send("192.0.2.10", "service@bank.example")

    assert (mail.results.dmarc and mail.results.dmarc.code) == "temperror"
    assert (disposition, reply) == (mail.verdict.disposition, str(mail.verdict.reply))


def test_a_fault_in_a_check_is_its_temperror_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(gather, "check_mail_from", broken)
    desk = Desk()

    mail = desk.send("192.0.2.10", "service@bank.example")

    assert Reason.CHECK_FAILED is (mail.results.spf and mail.results.spf.reason)
    assert "spf: RuntimeError: boom" in (mail.fault or "")
    assert (mail.results.dmarc and (mail.results.dmarc.code, mail.results.dmarc.reason)) == (
        "temperror",
        Reason.CHECK_FAILED,
    )
    assert (mail.verdict.disposition, mail.verdict.rule) == (Disposition.DEFER, "server.on_error")


@pytest.mark.parametrize(
    ("on_error", "disposition"),
    [("defer", Disposition.DEFER), ("reject", Disposition.REJECT), ("accept", Disposition.ACCEPT)],
)
def test_what_becomes_of_mail_that_we_fail_to_judge_is_declared(
    on_error: str, disposition: Disposition, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("filterd.engine.judgement.decide", broken)
    desk = Desk(
        f"version: 1\nserver: {{ on_error: {on_error} }}\nrules: [{{ name: a, when: message.size > 1, then: tag }}]\n"
    )

    mail = desk.send("192.0.2.10", "service@bank.example")

    assert disposition is mail.verdict.disposition
    assert "RuntimeError: boom" in (mail.fault or "")


def test_judges_tells_which_stages_can_decide() -> None:
    judges = Desk().runtime.judges

    assert [stage for stage in Stage if judges(stage)] == [Stage.END_OF_HEADERS, Stage.END_OF_MESSAGE]
