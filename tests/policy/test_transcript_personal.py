"""Without personal data: whatever a transcript holds, none of it is left; and what says why is left."""

from dataclasses import replace
from ipaddress import ip_address

from filterd.dkim.verify import DkimCode, DkimResult
from filterd.dnsbl import DnsList, ListCode, ListResult
from filterd.lookup import Answer, Outcome
from filterd.mail.address import Mailbox, parse_path
from filterd.mail.domain import Domain
from filterd.mail.header import Field, Header
from filterd.mail.message import Author
from filterd.mail.received import Handover
from filterd.mail.reply import Reply
from filterd.mail.transaction import Client, ForwardPath, ReversePath, Stage, Transaction
from filterd.policy.results import Results
from filterd.policy.transcript import Content, Judgement, Transcript
from filterd.policy.transcript_personal import impersonal
from filterd.policy.transcript_read import from_mapping
from filterd.policy.verdict import (
    AddField,
    AddRecipient,
    ChangeSender,
    Disposition,
    PrefixSubject,
    RewriteField,
    Step,
    StepOutcome,
    Verdict,
)
from filterd.spam import SpamCode, SpamResult
from filterd.spf.check import SpfCode, SpfIdentity, SpfResult

BANK = Domain.parse("bank.example")
SECRET = "anna"
VERDICT = Verdict(
    Disposition.REJECT,
    Reply(550, "5.7.1", "go away anna"),
    "no",
    (
        AddField("X-Who", SECRET),
        AddRecipient(f"{SECRET}@x.example"),
        ChangeSender(SECRET),
        PrefixSubject(SECRET),
        RewriteField("Subject", SECRET),
    ),
    (
        Step(
            "no", StepOutcome.FIRED, (("client.ip", "192.0.2.7"), ("envelope.sender", SECRET), ("spf.result", "fail"))
        ),
        Step("bad", StepOutcome.NOT_EVALUATED, (("x.unknown", [SECRET]),), f"the condition fails: {SECRET}"),
    ),
)
WHOLE = Transcript(
    Transaction(
        "c.1",
        Client(ip_address("192.0.2.7"), "anna-home.example", 25),
        "annas-phone",
        SECRET,
        ReversePath("anna@bank.example", parse_path("anna@bank.example")),
        (ForwardPath("Anna@home.example", parse_path("Anna@home.example")), ForwardPath("anna", None)),
    ),
    1.0,
    "p",
    "mx",
    False,
    Author(BANK, (Mailbox(SECRET, BANK),)),
    1,
    Results(
        SpfResult(SpfCode.FAIL, SpfIdentity.MAILFROM, BANK, "-all", "anna is not one of ours"),
        dnsbl=(ListResult(DnsList(Domain.parse("dnsbl.example")), ListCode.LISTED, "192.0.2.7", ("127.0.0.2",)),),
        spam=SpamResult(SpamCode.HAM, fields=(("X-Spam-Report", SECRET),)),
        dkim=(DkimResult(DkimCode.PASS, BANK, "anna@bank.example"),),
    ),
    (Judgement(Stage.RCPT, VERDICT, "anna@home.example"),),
    VERDICT,
    answers=(
        Answer("anna._spf.bank.example", "A", Outcome.NXDOMAIN),
        Answer("_dmarc.bank.example", "TXT", Outcome.FOUND, (b"v=DMARC1; p=reject",)),
    ),
    sources={"spf": ("A anna._spf.bank.example",), "dmarc": ("TXT _dmarc.bank.example",)},
    fault="spf: ValueError: anna",
    handovers=(Handover("annas-phone", ip_address("2001:db8:1:2::7")),),
    content=Content(Header.of([Field(b"Subject", b"anna")]), b"anna"),
)


def test_nothing_personal_is_left() -> None:
    left = str(impersonal(WHOLE).to_mapping()).lower()

    assert SECRET in str(WHOLE.to_mapping())
    assert [each for each in (SECRET, "192.0.2.7", "2001:db8:1:2") if each in left] == []


def test_what_says_why_is_left() -> None:
    left = impersonal(WHOLE)

    assert (left.verdict.disposition, left.verdict.rule) == (Disposition.REJECT, "no")
    assert left.verdict.reply == Reply(550, "5.7.1", "-")
    assert str(left.transaction.client.ip) == "192.0.2.0"
    assert left.transaction.sender == ReversePath("-@bank.example", Mailbox("-", BANK))
    assert left.results.spf == replace(WHOLE.results.spf, explanation=None)  # type: ignore[type-var]
    assert left.judgements[0].verdict.steps[0].facts == (
        ("client.ip", "-"),
        ("envelope.sender", "-"),
        ("spf.result", "fail"),
    )
    assert [each.name for each in left.answers] == ["_dmarc.bank.example"]
    assert not left.personal


def test_it_is_a_transcript_still() -> None:
    assert from_mapping(impersonal(WHOLE).to_mapping()) == impersonal(WHOLE)


def test_a_bounce_stays_one() -> None:
    bounce = replace(WHOLE, transaction=replace(WHOLE.transaction, sender=ReversePath("", None)))

    assert impersonal(bounce).transaction.sender == ReversePath("", None)
