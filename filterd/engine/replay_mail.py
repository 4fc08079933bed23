"""What a stored mail's own fields say of how it came: its client, envelope and date, and what a trusted server found.

Only asked for by somebody who knows that their own servers wrote those fields. What they do not say is not guessed.
"""

import re
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import partial
from typing import TypeVar

from filterd.arc.verify import ArcCode, ArcResult
from filterd.authres.result import AuthenticationResults, MethodResult
from filterd.authres.trusted import topmost
from filterd.dkim.verify import DkimCode, DkimResult
from filterd.dmarc.evaluate import DmarcCode, DmarcResult
from filterd.dmarc.record import Request
from filterd.engine.networks import ours
from filterd.engine.replay import StoredMail
from filterd.mail.address import AddressError, Mailbox, parse_path
from filterd.mail.domain import Domain, DomainError
from filterd.mail.header import Field, Header
from filterd.mail.message import author_of
from filterd.mail.received import Handover, handover
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.facts import FACTS
from filterd.policy.results import Results
from filterd.policy.schema import Networks
from filterd.spf.check import SpfCode, SpfIdentity, SpfResult

E = TypeVar("E", bound=StrEnum)
_LOGGED_IN = re.compile(rb"\swith\s+(?:UTF8)?E?SMTPS?A\b", re.IGNORECASE)
_LOGIN = re.compile(rb"\(Authenticated sender: ([^()\s]{1,256})\)", re.IGNORECASE)
_RECIPIENT_FIELDS = ("X-Original-To", "Delivered-To", "Envelope-To")
_MAX_FIELD = 2_000
# What Authentication-Results never say.
_UNTOLD = ("dmarc.policy_domain", "dmarc.testing", "helo.", "iprev.", "spf.helo_result", "arc.sealer", "arc.trusted")


class UnknownError(Exception):
    """The mail's own fields do not say how it came; the message tells what is missing."""


@dataclass(frozen=True, slots=True)
class Told:
    """What another server said. `unknown` says of facts why they cannot be had from that."""

    results: Results
    unknown: dict[str, str]


def from_fields(header: Header, mail: StoredMail, networks: Networks) -> tuple[StoredMail, float | None]:
    """The mail with the client of its Received fields, and its envelope; and when it came, in seconds since 1970.

    The client is the first from the top that is none of ours; of our own mail the first that took it. Raises
    UnknownError.
    """
    field, client = _client(header, networks)
    text = _text(header, "Return-Path")
    if text is None:
        raise UnknownError("no Return-Path field names the envelope sender")
    named = next((found for name in _RECIPIENT_FIELDS if (found := _text(header, name))), None)
    recipients = (ForwardPath(*_path(named)),) if named else mail.recipients
    sender = ReversePath(*_path(text))
    user = _user(field) or mail.user
    return replace(
        mail, client=Client(client.ip), helo=client.helo, sender=sender, recipients=recipients, user=user
    ), _date(field)


def told(header: Header, authserv_id: str) -> Told:
    """The results that the uppermost field of that server has. Raises UnknownError where there is none."""
    found = topmost(header, frozenset({authserv_id}))
    if found is None:
        raise UnknownError(f"no Authentication-Results of {authserv_id}")
    spf, dmarc, arc = (_one(found, method) for method in ("spf", "dmarc", "arc"))
    dkim = tuple(_dkim(each) for each in found.results if each.method == "dkim" and each.code != "none")
    judged = any(each.method == "dkim" for each in found.results)
    why = f"the results of {authserv_id} do not say"
    unknown = {name: f"{why} {name}" for name in FACTS if name.startswith(_UNTOLD)}
    author = author_of(header).domain
    request = _property(dmarc, "policy", "dmarc") if dmarc else None
    if dmarc and dmarc.code == "fail" and request is None:
        unknown["dmarc.policy"] = f"{why} dmarc.policy"
    if arc is None or arc.code == "none":
        unknown = {name: text for name, text in unknown.items() if not name.startswith("arc.")}
    spf_code = _word(SpfCode, spf)
    dmarc_code, arc_code = _word(DmarcCode, dmarc), _word(ArcCode, arc)
    results = Results(
        dkim=dkim if judged else None,
        arc=ArcResult(arc_code) if arc_code else None,
    )
    if spf and spf_code:
        mailfrom = _domain(_property(spf, "smtp", "mailfrom"))
        results = replace(results, spf=SpfResult(spf_code, SpfIdentity.MAILFROM, mailfrom))
    if dmarc_code:
        asked = Request(request) if request in list(Request) else None
        results = replace(results, dmarc=DmarcResult(dmarc_code, author, policy=asked))
    return Told(results, unknown)


def _client(header: Header, networks: Networks) -> tuple[Field, Handover]:
    inside: tuple[Field, Handover] | None = None
    is_ours = partial(ours, networks)
    for field in header.all("Received"):
        found = handover(field)
        if found is None:
            continue  # a hop within one machine names no client
        if found.ip is None:
            raise UnknownError("a Received field names two addresses")
        if not is_ours(found.ip):
            return field, found
        inside = (field, found)
    if inside is None:
        raise UnknownError("no Received field names a client")
    return inside


def _user(field: Field) -> str | None:
    value = field.value[:_MAX_FIELD]
    if not _LOGGED_IN.search(value):
        return None
    login = _LOGIN.search(value)
    if login is None:
        raise UnknownError("the Received field says that the client logged in, not as whom")
    return login[1].decode("utf-8", "replace")


def _date(field: Field) -> float | None:
    text = field.value[-200:].rpartition(b";")[2].decode("ascii", "replace").strip()
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _text(header: Header, name: str) -> str | None:
    found = header.all(name)
    return found[0].unfolded().decode("utf-8", "replace").removeprefix("<").removesuffix(">") if found else None


def _path(text: str) -> tuple[str, Mailbox | None]:
    try:
        return text, parse_path(text)
    except AddressError:
        return text, None


def _one(found: AuthenticationResults, method: str) -> MethodResult | None:
    """The result of a method that has one; of several nobody says which counts."""
    results = [each for each in found.results if each.method == method]
    return results[0] if len(results) == 1 else None


def _dkim(result: MethodResult) -> DkimResult:
    code = _word(DkimCode, result) or DkimCode.NEUTRAL
    sdid = _domain(_property(result, "header", "d") or (_property(result, "header", "i") or "").rpartition("@")[2])
    return DkimResult(code, sdid, selector=_property(result, "header", "s"))


def _word(words: type[E], result: MethodResult | None) -> E | None:
    try:
        return words(result.code) if result else None
    except ValueError:
        return None


def _property(result: MethodResult, ptype: str, name: str) -> str | None:
    return next((each.value for each in result.properties if (each.ptype, each.name) == (ptype, name)), None)


def _domain(text: str | None) -> Domain | None:
    try:
        return Domain.parse((text or "").rpartition("@")[2])
    except DomainError:
        return None
