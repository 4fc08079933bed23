"""A transcript without personal data: what is left of it where the policy says `decisions.personal: false`.

Gone are local parts of all addresses, login names, clients' names and HELO names, the last part of clients' addresses,
who else passed the mail on, what domains say to refused clients, DNS answers that SPF's macros may have made of these,
and every text that cannot be told to be none of it. Domains, results, rules, numbers and words stay: they say why.
"""

from dataclasses import replace
from ipaddress import ip_network

from filterd.dnsbl import ListResult
from filterd.mail.address import Mailbox
from filterd.mail.domain import Domain
from filterd.mail.header import Field
from filterd.mail.received import Handover
from filterd.mail.transaction import Client, ForwardPath, IPAddress, ReversePath
from filterd.policy.facts import FACTS, Form
from filterd.policy.transcript import Judgement, Transcript
from filterd.policy.verdict import (
    QUARANTINE_FIELD,
    TAG_FIELD,
    AddField,
    AddRecipient,
    ChangeSender,
    Edit,
    PrefixSubject,
    RedirectTo,
    RemoveRecipient,
    RewriteField,
    Scanned,
    Step,
    StepOutcome,
    Verdict,
)
from filterd.spf.check import SpfResult

#: What stands where something was taken out.
GONE = "-"
# What these parts ask is made of domains alone; SPF's macros put addresses into names (RFC 7208 7).
_OF_DOMAINS = ("dkim", "dmarc", "arc", "sign", "seal")
_PREFIX = {4: 24, 6: 48}


def impersonal(transcript: Transcript) -> Transcript:
    """The transcript without personal data."""
    transaction, results, author = transcript.transaction, transcript.results, transcript.author
    asked = {question for part in _OF_DOMAINS for question in transcript.sources.get(part, ())}
    client = transaction.client
    return replace(
        transcript,
        transaction=replace(
            transaction,
            client=Client(_network(client.ip)),
            helo=GONE if transaction.helo is not None else None,
            user=GONE if transaction.user is not None else None,
            sender=_sender(transaction.sender),
            recipients=tuple(ForwardPath(*_path(each.text, each.mailbox)) for each in transaction.recipients),
        ),
        author=replace(author, mailboxes=()) if author else None,
        results=replace(
            results,
            spf=_spf(results.spf),
            spf_helo=_spf(results.spf_helo),
            dnsbl=_lists(results.dnsbl),
            dnsbl_author=_lists(results.dnsbl_author),
            spam=replace(results.spam, fields=()) if results.spam else None,
            iprev=replace(results.iprev, name=None) if results.iprev else None,
            dkim=None
            if results.dkim is None
            else tuple(replace(each, auid=None, detail=None) for each in results.dkim),
            arc=replace(
                results.arc,
                detail=None,
                hops=tuple(replace(each, results_field=Field(b"", b"")) for each in results.arc.hops),
            )
            if results.arc
            else None,
            arc_trusted=replace(results.arc_trusted, results_field=Field(b"", b"")) if results.arc_trusted else None,
        ),
        judgements=tuple(map(_judgement, transcript.judgements)),
        verdict=_verdict(transcript.verdict),
        answers=tuple(each for each in transcript.answers if f"{each.rdtype} {each.name}" in asked),
        sources={part: said for part, said in transcript.sources.items() if part != "spf"},
        fault=GONE if transcript.fault else None,
        handovers=tuple(Handover(GONE, _network(each.ip)) for each in transcript.handovers),
        trusted=None,
        content=None,
        personal=False,
    )


def _network(ip: IPAddress | None) -> IPAddress | None:
    return ip_network((ip, _PREFIX[ip.version]), strict=False).network_address if ip else None


def _path(text: str, mailbox: Mailbox | None) -> tuple[str, Mailbox | None]:
    if mailbox is None or not isinstance(mailbox.domain, Domain):
        return (GONE if text else "", None)
    bare = Mailbox(GONE, mailbox.domain)
    return str(bare), bare


def _sender(sender: ReversePath | None) -> ReversePath | None:
    return ReversePath(*_path(sender.text, sender.mailbox)) if sender else None


def _spf(spf: SpfResult | None) -> SpfResult | None:
    return replace(spf, explanation=None, detail=None) if spf else None


def _lists(found: tuple[ListResult, ...] | None) -> tuple[ListResult, ...] | None:
    return None if found is None else tuple(replace(each, subject=GONE) for each in found)


def _judgement(judgement: Judgement) -> Judgement:
    recipient = GONE if judgement.recipient is not None else None
    return Judgement(judgement.stage, _verdict(judgement.verdict), recipient)


def _verdict(verdict: Verdict) -> Verdict:
    # A reply may name whatever its rule put into it; the rule's name and the code remain.
    reply = replace(verdict.reply, text=GONE) if verdict.reply else None
    return replace(verdict, reply=reply, steps=tuple(map(_step, verdict.steps)), edits=tuple(map(_edit, verdict.edits)))


def _edit(edit: Edit) -> Edit:
    match edit:
        case AddField() if edit.name in (TAG_FIELD, QUARANTINE_FIELD):
            return edit
        case AddField() | RewriteField():
            return replace(edit, value=GONE)
        case PrefixSubject():
            return replace(edit, text=GONE)
        case Scanned():
            return Scanned(())
        case AddRecipient() | RemoveRecipient() | RedirectTo() | ChangeSender():
            return replace(edit, address=GONE)
    return edit


def _step(step: Step) -> Step:
    # CEL quotes what it could not work with.
    note = GONE if step.note and step.outcome is StepOutcome.NOT_EVALUATED else step.note
    return replace(step, note=note, facts=tuple((name, _fact(name, value)) for name, value in step.facts))


def _fact(name: str, value: object) -> object:
    fact = FACTS.get(name)
    harmless = name == "greylist.result" or (fact is not None and (fact.words or fact.form is Form.DOMAIN))
    if harmless or value is None or isinstance(value, bool | int | float):
        return value
    return GONE
