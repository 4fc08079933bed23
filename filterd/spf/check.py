"""May this host send mail for this domain: check_host() of RFC 7208, for HELO and for MAIL FROM apart.

pyspf evaluates the records; this file gives it our resolver, bounds what hostile records may cost, and turns its
results into typed ones. Knows nothing of policy: what a `fail` means is not decided here.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Any

import spf as pyspf

from filterd.lookup import Outcome, Resolver
from filterd.mail.address import Mailbox
from filterd.mail.domain import Domain, DomainError
from filterd.mail.reason import Reason
from filterd.mail.reply import printable
from filterd.mail.transaction import IPAddress

_MAX_RECORD = 8_192  # octets; RFC 7208 3.4 hopes for 512
_MAX_DOMAIN_SPEC = 512  # characters before macros are expanded
_MAX_MACROS = 200  # expanded in one check
_MAX_ADDRESSES = 256  # of one name that are compared
_MAX_NAME = 253
_MAX_TERM = 200  # characters of a term, or of what is wrong with it, that are kept for people

# RFC 7208 7.1. pyspf also takes what the grammar does not have, and fails on numbers of thousands of digits.
_MACRO = re.compile(r"%(?:[%_-]|\{[slodiphcrtv](?:0{0,3}[1-9][0-9]{0,2})?r?[-.+,/_=]*\})", re.IGNORECASE)
_FIXED_MACROS = {"%_": " ", "%-": "%20", "%%": "%"}
_MODIFIER = re.compile(r"(?<= )(?:redirect|exp)=", re.IGNORECASE)
_UNKNOWN_MODIFIER = re.compile(
    rf"(?<= )(?!redirect=|exp=)[a-z][a-z0-9_.-]*=(?:[^% ]|{_MACRO.pattern})*(?= |$)", re.IGNORECASE
)
_INVISIBLE = re.compile(r"[^!-~]")

# pyspf tells its errors apart by their text only.
_REASONS = (
    ("Two or more", Reason.SPF_MANY_RECORDS),
    ("Void lookup limit", Reason.SPF_LIMIT),
    ("More than", Reason.SPF_LIMIT),
    ("No valid SPF record for included", Reason.SPF_INCLUDE),
    ("redirect domain has no SPF record", Reason.SPF_INCLUDE),
)


class SpfCode(StrEnum):
    """The results of RFC 7208 2.6, in the words of RFC 8601 2.7.2."""

    PASS = "pass"  # noqa: S105  # no password
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    NONE = "none"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


class SpfIdentity(StrEnum):
    """Whose name was checked; the values are those of Received-SPF's `identity` (RFC 7208 9.1)."""

    MAILFROM = "mailfrom"
    HELO = "helo"


@dataclass(frozen=True, slots=True)
class SpfResult:
    """What a check came to.

    `domain` is the one that was checked, None where there was none to ask. `mechanism` is the term that decided, as the
    record has it; None where no term did. `explanation` is what the domain wants a refused client to read (RFC 7208
    6.2): remote text, made printable. `reason` is set for none, temperror and permerror. `detail` is for people.
    """

    code: SpfCode
    identity: SpfIdentity
    domain: Domain | None
    mechanism: str | None = None
    explanation: str | None = None
    reason: Reason | None = None
    detail: str | None = None


def check_helo(ip: IPAddress, helo: str, resolver: Resolver) -> SpfResult:
    """Check the name that the client gave in HELO or EHLO (RFC 7208 2.3); none for an address literal."""
    return _check(SpfIdentity.HELO, ip, "postmaster", _domain(helo), helo, resolver)


def check_mail_from(ip: IPAddress, sender: Mailbox | None, helo: str, resolver: Resolver) -> SpfResult:
    """Check the envelope sender; None is the null path, which stands for postmaster at the HELO name (RFC 7208 2.4)."""
    if sender is None:
        return _check(SpfIdentity.MAILFROM, ip, "postmaster", _domain(helo), helo, resolver)
    domain = sender.domain if isinstance(sender.domain, Domain) else None
    return _check(SpfIdentity.MAILFROM, ip, sender.local or "postmaster", domain, helo, resolver)


def _domain(helo: str) -> Domain | None:
    try:
        return Domain.parse(helo)
    except DomainError:
        return None


def _check(
    identity: SpfIdentity, ip: IPAddress, local: str, domain: Domain | None, helo: str, resolver: Resolver
) -> SpfResult:
    # RFC 7208 4.3: a single label is no domain to ask.
    if domain is None or domain.parent is None:
        return SpfResult(SpfCode.NONE, identity, domain, reason=Reason.SPF_NO_DOMAIN)
    query = _Query(ip, local, domain, helo, resolver)
    try:
        word, _, comment = query.check()
    except (ValueError, AssertionError, RecursionError) as error:
        # What pyspf does not foresee in a record: over-long numbers, say.
        return SpfResult(
            SpfCode.PERMERROR,
            identity,
            domain,
            reason=Reason.SPF_SYNTAX,
            detail=f"record not read: {type(error).__name__}",
        )
    code = SpfCode(word)
    if code is SpfCode.NONE:
        return SpfResult(code, identity, domain, reason=Reason.SPF_NO_RECORD)
    if code is SpfCode.TEMPERROR:
        return SpfResult(code, identity, domain, reason=query.reason, detail=printable(query.prob))
    if code is SpfCode.PERMERROR:
        reason = next((reason for start, reason in _REASONS if query.prob.startswith(start)), Reason.SPF_SYNTAX)
        detail = printable(" ".join((query.prob, *query.mech))[:_MAX_TERM])
        return SpfResult(code, identity, domain, reason=query.reason or reason, detail=detail)
    explanation = query.explain(comment) if code is SpfCode.FAIL else None
    mechanism = query.mechanism and _INVISIBLE.sub("?", query.mechanism[:_MAX_TERM])
    return SpfResult(code, identity, domain, mechanism, explanation)


@dataclass(frozen=True, slots=True)
class _Explanation:
    """Where to find the text for a refusal: `exp=` of the record of `domain`."""

    domain: str
    name: str


class _Query(pyspf.query):  # type: ignore[misc]  # pyspf has no types
    """One evaluation by pyspf. Its own DNS driver and timers are never reached: all questions go through `dns`."""

    def __init__(self, ip: IPAddress, local: str, domain: Domain, helo: str, resolver: Resolver) -> None:
        address = str(ip).partition("%")[0]  # without the scope of a link-local address
        super().__init__(i=address, s=f"{local}@{domain}", h=_INVISIBLE.sub("?", helo[:_MAX_NAME]))
        # pyspf splits at the first at-sign, so that "a@example.com"@example.net could choose whom to ask.
        self.l, self.o, self.d = local, domain.name, domain.name
        self.reason: Reason | None = None
        self._resolver = resolver
        self._macros = 0
        self._begun = False
        self._term = False  # whether the next question is the first of a term

    def dns(self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False) -> list[Any]:
        """Ask our resolver. TXT records come as tuples of octets, MX as (preference, name), others as text."""
        self._count_term()
        name = name.removesuffix(".")
        # RFC 8616 4: what is not ASCII came from a local part, and matches nothing.
        if len(name) > _MAX_NAME or not name.isascii() or not all(0 < len(label) < 64 for label in name.split(".")):
            return []
        answer = self._resolver.lookup(name, qtype)
        if answer.outcome is Outcome.TEMPFAIL:
            self.reason = answer.reason
            raise pyspf.TempError(f"no answer for {name} {qtype}")
        if qtype == "TXT":
            found: list[Any] = [(text,) for text in answer.texts]
        elif qtype == "MX":
            found = [(int(preference), host) for preference, _, host in (v.partition(" ") for v in answer.names)]
        else:
            found = list(answer.names[:_MAX_ADDRESSES])
        if not found and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > pyspf.MAX_VOID_LOOKUPS:  # RFC 7208 4.6.4
                raise pyspf.PermError(f"Void lookup limit of {pyspf.MAX_VOID_LOOKUPS} exceeded")
        return found

    def check_lookups(self) -> None:
        """Note that a term which asks begins. pyspf calls this for a redirect when it reads it, too."""
        self._term = True

    def _count_term(self) -> None:
        if self._term:
            self._term = False
            self.lookups += 1
            if self.lookups > pyspf.MAX_LOOKUP:  # RFC 7208 4.6.4
                raise self._limit("Too many DNS lookups")

    def dns_spf(self, domain: str) -> str | None:
        """The SPF record of a domain: the one that is checked, or that an include or a redirect names."""
        self._term = self._begun
        self._begun = True
        if not domain.isascii():
            return "v=spf1"  # matches nothing (RFC 8616 4); without a record an include would be an error
        record: str | None = super().dns_spf(domain)
        if record is None:
            return None
        if len(record) > _MAX_RECORD:
            raise self._limit("The record is too long")
        if record.count("=") == 1:
            return record
        # RFC 7208 6: these count for nothing, however often they appear. pyspf takes a second one for an error.
        record = _UNKNOWN_MODIFIER.sub("", record)
        # ABNF's words are without case (RFC 5234 2.3); pyspf knows these two in lower case only.
        return _MODIFIER.sub(lambda found: found[0].lower(), record)

    def cidrmatch(self, ipaddrs: Iterable[str], n: int) -> bool:
        """Whether one of the addresses shares its first `n` bits with the client's. pyspf's builds many objects."""
        client, rest = int(self.ipaddr), self.cidrmax - n
        return any((int(ip_address(address)) ^ client) >> rest == 0 for address in ipaddrs)

    def validated_ptrs(self) -> list[str]:
        """The client's names that lead back to it; an error passes over a name, or over all (RFC 7208 5.5)."""
        names = self._none_if_it_fails(self.dns_ptr, self.i)[: pyspf.MAX_PTR]
        return [
            name for name in names if self.cidrmatch(self._none_if_it_fails(self.dns_a, name, self.A), self.cidrmax)
        ]

    def _none_if_it_fails(self, ask: Callable[..., list[str]], *about: str) -> list[str]:
        try:
            return ask(*about)
        except pyspf.TempError:
            # Time that has run out is no fault of this name: nothing that follows could be asked either.
            if self.reason is Reason.DNS_DEADLINE:
                raise
            self.reason = None
            return []

    def expand_domain(self, arg: str) -> str:
        """Check a domain-spec and expand its macros."""
        if len(arg) > _MAX_DOMAIN_SPEC:
            raise self._limit("A domain-spec is too long")
        self._term = False  # this is read, not evaluated yet
        name: str = super().expand_domain(arg)
        return name

    def expand(self, s: str, stripdot: bool = True) -> str:
        """Expand macros (RFC 7208 7); with `stripdot` to a domain name, else to a text."""
        if "%" in s:
            if "%" in _MACRO.sub("", s):
                raise pyspf.PermError("Invalid macro", s)
            s = _MACRO.sub(lambda found: self._expand_one(found[0], stripdot), s)
        if not stripdot:
            return s
        s = s.removesuffix(".")
        # RFC 7208 7.3: over-long names lose labels from the left, as many as it takes.
        return s if len(s) <= _MAX_NAME else s[s.find(".", len(s) - _MAX_NAME - 1) + 1 :]

    def _expand_one(self, macro: str, stripdot: bool) -> str:
        self._macros += 1
        if self._macros > _MAX_MACROS:
            raise self._limit("Too many macros")
        # pyspf would take %% for a broken macro at the end of a text.
        text: str = _FIXED_MACROS.get(macro) or super().expand(macro, stripdot)
        return text

    def get_explanation(self, spec: str) -> _Explanation:
        """Remember where the explanation is: it is asked for only if the result is fail."""
        return _Explanation(self.d, spec)

    def explain(self, comment: _Explanation | str) -> str | None:
        """The domain's words for a refusal; None where it has none, or they cannot be had (RFC 7208 6.2)."""
        if not isinstance(comment, _Explanation):
            return None
        self.d = comment.domain
        try:
            text: str | None = super().get_explanation(comment.name)
        except (pyspf.TempError, ValueError):
            return None
        return printable(text) if text else None

    def _limit(self, text: str) -> pyspf.PermError:
        self.reason = Reason.SPF_LIMIT
        return pyspf.PermError(text)
