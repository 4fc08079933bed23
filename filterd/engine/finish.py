"""From verdict to changes of the mail, in the one safe order.

What claims to be ours goes first; then the edits of rules; then Authentication-Results, so that it stands above all
others (RFC 8601 4.1, 5); signatures and an ARC set last, as they cover what is there then (RFC 8617 5.1).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from filterd.arc.verify import ArcCode, ArcResult
from filterd.authres.forged import forged
from filterd.authres.format import format_value
from filterd.authres.result import AuthenticationResults, MethodResult, Property
from filterd.dkim.verify import DkimResult
from filterd.dmarc.evaluate import DmarcResult
from filterd.engine.changes import Change, EditedHeader, envelope_changes
from filterd.engine.fallback import HEADER_TOO_LARGE, NO_RECIPIENT
from filterd.iprev import IprevResult
from filterd.mail.domain import Domain
from filterd.mail.encoded_word import written
from filterd.mail.header import Field, Header
from filterd.mail.transaction import Transaction
from filterd.policy.results import Results
from filterd.policy.verdict import (
    QUARANTINE_FIELD,
    TAG_FIELD,
    AddAuthenticationResults,
    AddField,
    PrefixSubject,
    RemoveField,
    RewriteField,
    Scanned,
    Seal,
    Sign,
    Verdict,
)
from filterd.spam import SCANNED
from filterd.spf.check import SpfResult

AUTHENTICATION_RESULTS = "Authentication-Results"
# MTAs look for each deleted field from the top. Honest mail has none, or a few from where it was before.
_MAX_TOUCHED = 500

#: Makes fields for the header as it then is: signatures, or an ARC set, to stand above all others in that order.
MakeFields = Callable[[Header], tuple[Field, ...]]


@dataclass(frozen=True, slots=True)
class Finished:
    """What is to be done with the mail, and its changes in the order in which they must be made."""

    verdict: Verdict
    changes: tuple[Change, ...] = ()


def finish(
    verdict: Verdict,
    header: Header,
    recipients: Iterable[str],
    found: AuthenticationResults,
    other_ids: frozenset[str],
    sign: MakeFields,
    seal: MakeFields,
) -> Finished:
    """Make the bytes of what the verdict intends. A mail that is not delivered is not changed.

    `recipients` are those of the envelope. `found` is what our Authentication-Results say. `other_ids` are authserv-ids
    of further servers of ours that cannot have seen this mail.
    """
    if verdict.disposition.final:
        return Finished(verdict)
    edited = _stripped(header, other_ids | {found.authserv_id})
    for edit in verdict.edits:
        match edit:
            case AddField() | RemoveField() | RewriteField() | PrefixSubject():
                edited.apply(edit)
            case Scanned(fields):
                _put_scanned(edited, header, fields)
            case AddAuthenticationResults():
                edited.insert(AUTHENTICATION_RESULTS, format_value(found))
            case Sign():
                _put_on_top(edited, sign(edited.header()))
            case Seal():
                _put_on_top(edited, seal(edited.header()))
    if edited.touched > _MAX_TOUCHED:
        return Finished(HEADER_TOO_LARGE)
    envelope, left = envelope_changes(verdict.edits, recipients)
    if envelope and not left:
        return Finished(NO_RECIPIENT)
    return Finished(verdict, (*edited.changes(), *envelope))


def strip_only(verdict: Verdict, header: Header, authserv_ids: frozenset[str]) -> Finished:
    """For a mail that could not be judged: whatever else happens, nobody's word passes for ours."""
    if verdict.disposition.final:
        return Finished(verdict)
    edited = _stripped(header, authserv_ids)
    return Finished(HEADER_TOO_LARGE) if edited.touched > _MAX_TOUCHED else Finished(verdict, tuple(edited.changes()))


def _stripped(header: Header, authserv_ids: frozenset[str]) -> EditedHeader:
    edited = EditedHeader(header)
    for occurrence in forged(header, authserv_ids):
        edited.delete(AUTHENTICATION_RESULTS, occurrence)
    for name in (QUARANTINE_FIELD, TAG_FIELD):
        # Sieve scripts trust these fields, so only we may have written them.
        for occurrence in range(1, len(header.all(name)) + 1):
            edited.delete(name, occurrence)
    return edited


def _put_scanned(edited: EditedHeader, header: Header, fields: tuple[tuple[str, str], ...]) -> None:
    for key in {each.key for each in header if each.key.startswith(SCANNED) and each.key.isascii()}:
        name = key.decode("ascii")
        for occurrence in range(1, len(header.all(name)) + 1):
            edited.delete(name, occurrence)
    for name, value in reversed(fields):
        edited.insert(name, "\n\t".join(written(line, len(name) + 2) for line in value.split("\n\t")))


def _put_on_top(edited: EditedHeader, fields: tuple[Field, ...]) -> None:
    """Insert made fields above all others, in their order."""
    for field in reversed(fields):
        edited.insert(field.name.decode("ascii"), field.value.decode().removeprefix(" ").replace("\r\n", "\n"))


def said(
    authserv_id: str, transaction: Transaction, results: Results, override: Domain | None = None
) -> AuthenticationResults:
    """Every result, in the order in which they were found.

    `transaction` is the one that the mail came in by; `override` the ARC sealer whose word set DMARC's failure aside.
    """
    methods: list[MethodResult] = []
    if results.helo is not None:
        # RFC 8601 2.7.6: a method that is nobody's standard has a name that begins with x-.
        helo = Property("smtp", "helo", transaction.helo or "")
        methods.append(MethodResult("x-helo", results.helo.kind.value, (helo,)))
    if results.iprev is not None:
        methods.append(_iprev(results.iprev, transaction))
    if results.spf is not None:
        methods.append(_spf(results.spf, transaction))
    if results.dkim is not None:
        methods += [_dkim(each) for each in results.dkim] or [MethodResult("dkim", "none")]
    if results.arc is not None and results.arc.code is not ArcCode.NONE:
        methods.append(_arc(results.arc, transaction))
    if results.dmarc is not None:
        methods.append(_dmarc(results.dmarc, override))
    return AuthenticationResults(authserv_id, tuple(methods))


def _iprev(iprev: IprevResult, transaction: Transaction) -> MethodResult:
    # RFC 8601 2.7.3.
    address = Property("policy", "iprev", str(transaction.client.ip)) if transaction.client.ip else None
    reason = iprev.reason.value if iprev.reason else None
    return MethodResult(
        "iprev", iprev.code.value, (address,) if address else (), reason, iprev.name.name if iprev.name else None
    )


def _spf(spf: SpfResult, transaction: Transaction) -> MethodResult:
    # RFC 8601 2.7.2: smtp.mailfrom, or smtp.helo where the sender is null. The HELO result of other mail is kept out:
    # consumers have taken it for the sender's (CVE-2019-20790).
    sender = transaction.sender
    if sender is not None and sender.mailbox is not None:
        identity = Property("smtp", "mailfrom", str(sender.mailbox))
    else:
        identity = Property("smtp", "helo", transaction.helo or "")
    return MethodResult("spf", spf.code.value, (identity,), spf.reason.value if spf.reason else None)


def _dkim(dkim: DkimResult) -> MethodResult:
    named = (
        ("d", dkim.sdid.name if dkim.sdid else None),
        ("s", dkim.selector),
        ("a", dkim.algorithm),
        ("b", dkim.signature or None),  # RFC 6008: tells several signatures apart
    )
    properties = tuple(Property("header", name, value) for name, value in named if value)
    return MethodResult("dkim", dkim.code.value, properties, dkim.reason.value if dkim.reason else None)


def _arc(arc: ArcResult, transaction: Transaction) -> MethodResult:
    # RFC 8617 10.2.
    properties: list[Property] = []
    if transaction.client.ip is not None:
        properties.append(Property("smtp", "remote-ip", str(transaction.client.ip)))
    if arc.oldest_pass is not None:
        properties.append(Property("header", "oldest-pass", str(arc.oldest_pass)))
    return MethodResult("arc", arc.code.value, tuple(properties), arc.reason.value if arc.reason else None)


def _dmarc(dmarc: DmarcResult, override: Domain | None) -> MethodResult:
    properties: list[Property] = []
    if dmarc.author_domain is not None:
        properties.append(Property("header", "from", dmarc.author_domain.name))
    if dmarc.policy is not None:
        properties.append(Property("policy", "dmarc", dmarc.policy.value))
    reason = dmarc.reason.value if dmarc.reason else None
    comment = f"overridden, trusted ARC sealer {override}" if override else None
    return MethodResult("dmarc", dmarc.code.value, tuple(properties), reason, comment)
