"""DMARC: does anything that passed belong to the author, and what does the author's domain ask for if not (RFC 9989).

Brings the results of SPF and DKIM together with the domain's record. What is done about a failure is the policy's.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from filterd.dkim.verify import DkimCode, DkimResult
from filterd.dmarc.discovery import discover, names_asked
from filterd.dmarc.org_domain import PublicSuffixes, organization_of
from filterd.dmarc.record import Alignment, Record, Request
from filterd.dmarc.tree_walk import Found, prefetch, query_names
from filterd.lookup import Outcome, Resolver
from filterd.mail.domain import Domain
from filterd.mail.message import Author
from filterd.mail.reason import Reason
from filterd.spf.check import SpfCode, SpfIdentity, SpfResult


class DmarcCode(StrEnum):
    """The results of RFC 9989 9.2."""

    PASS = "pass"  # noqa: S105  a word, no password
    FAIL = "fail"  #: nothing that passed belongs to the author's organization
    NONE = "none"  #: no record governs the author domain
    TEMPERROR = "temperror"  #: DNS could not say now; neither pass nor fail (RFC 9989 5.3.6)
    PERMERROR = "permerror"  #: there is not exactly one author domain, or its record cannot be used


@dataclass(frozen=True, slots=True)
class DmarcResult:
    """What DMARC came to.

    `policy_domain` publishes the record that governs; None where there is none. `published` is what that record asks
    for mail of this author domain, after sp= and np=; `policy` is one level lower where it is only tested (`testing`).
    `organizational_domain` is the author domain's; None where it could not be found. `reason` is set for all but pass.
    `detail` is for people.
    """

    code: DmarcCode
    author_domain: Domain | None
    policy_domain: Domain | None = None
    organizational_domain: Domain | None = None
    policy: Request | None = None
    published: Request | None = None
    aligned_spf: bool = False
    aligned_dkim: bool = False
    testing: bool = False
    reason: Reason | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class _Identifier:
    """A domain that SPF or DKIM has authenticated; with `failure`, one of which they could not say."""

    domain: Domain
    mode: Alignment
    failure: Reason | None = None


def names_to_prefetch(
    author: Domain, spf: SpfResult | None, sdids: tuple[Domain, ...], suffixes: PublicSuffixes | None = None
) -> tuple[str, ...]:
    """The names whose TXT records `evaluate` will ask for, as far as can be told before the body has come.

    At most eight of the author domain; and those of the domain that SPF has authenticated and of the signing domains
    that DKIM may yet authenticate, where they may belong to the author's organization.
    """
    names = [*names_asked(author, suffixes)]
    if suffixes is None:
        domains = (*(each.domain for each in _spf_identifiers(spf, Alignment.RELAXED)), *sdids)
        names += [name for domain in domains if _may_be_related(domain, author) for name in query_names(domain)]
    return tuple(dict.fromkeys(names))


def _may_be_related(domain: Domain, author: Domain) -> bool:
    # Which organization is whose is not known yet: two labels in common have to do. So below a public suffix of two
    # labels, such as co.uk, a stranger's domain may cost a question.
    return domain != author and len(domain.labels) > 1 and domain.labels[-2:] == author.labels[-2:]


def evaluate(
    author: Author,
    spf: SpfResult | None,
    dkim: tuple[DkimResult, ...],
    resolver: Resolver,
    suffixes: PublicSuffixes | None = None,
) -> DmarcResult:
    """Judge a message by its author, the SPF result of its MAIL FROM, and all its DKIM results (RFC 9989 5.3).

    With a public suffix list, as RFC 7489 had it.
    """
    if author.domain is None:
        return DmarcResult(DmarcCode.PERMERROR, None, reason=author.reason or Reason.DMARC_NO_AUTHOR)
    discovery = discover(author.domain, resolver, suffixes)
    found, organization = discovery.found, discovery.organization
    if found is None:
        none = DmarcResult(DmarcCode.NONE, author.domain, reason=Reason.DMARC_NO_RECORD)
        failed = DmarcResult(DmarcCode.TEMPERROR, author.domain, reason=discovery.failure)
        result = failed if discovery.failure else none
    elif found.record.p is None:
        detail = f"p, sp or np at _dmarc.{found.domain} is no request"
        result = DmarcResult(
            DmarcCode.PERMERROR, author.domain, found.domain, reason=Reason.DMARC_RECORD, detail=detail
        )
    else:
        alignments = _Alignments(author.domain, organization, resolver, suffixes)
        identifiers = _spf_identifiers(spf, found.record.aspf), _dkim_identifiers(dkim, found.record)
        result = _judged(author.domain, found, alignments, *identifiers, resolver)
    return result if isinstance(organization, Reason) else replace(result, organizational_domain=organization)


def _judged(
    author: Domain,
    found: Found,
    alignments: "_Alignments",
    from_spf: tuple[_Identifier, ...],
    from_dkim: tuple[_Identifier, ...],
    resolver: Resolver,
) -> DmarcResult:
    """The result under a record that can be used."""
    alignments.prefetch((*from_spf, *from_dkim))
    tag, published, failure = _request(author, found, resolver)
    aligned_spf, aligned_dkim = alignments.any_of(from_spf), alignments.any_of(from_dkim)
    if aligned_spf or aligned_dkim:
        code, reason = DmarcCode.PASS, None
    else:
        # A failure is only certain where nobody might have passed, and where it is known what is asked for then.
        reason = alignments.doubt((*from_spf, *from_dkim)) or failure
        code, reason = (DmarcCode.TEMPERROR, reason) if reason else (DmarcCode.FAIL, Reason.DMARC_NOT_ALIGNED)
    testing = found.record.testing
    tested = f", tested only ({'t=y' if found.record.pct == 100 else f'pct={found.record.pct}'})"
    return DmarcResult(
        code,
        author,
        found.domain,
        policy=published.one_level_lower if testing else published,
        published=published,
        aligned_spf=aligned_spf,
        aligned_dkim=aligned_dkim,
        testing=testing,
        reason=reason,
        detail=f"{tag}={published} at _dmarc.{found.domain}" + (tested if testing else ""),
    )


def _request(author: Domain, found: Found, resolver: Resolver) -> tuple[str, Request, Reason | None]:
    """Which tag of the record applies to this author domain, what it asks for, and why that is in doubt."""
    record = found.record
    assert record.p is not None
    if found.domain == author:
        return "p", record.p, None
    tag, request = ("sp", record.sp) if record.sp is not None else ("p", record.p)
    if record.np is None or record.np is request:
        return tag, request, None
    # RFC 9989 3.2.13, A.4: a domain does not exist if the answer is NXDOMAIN, whatever type was asked for.
    answer = resolver.lookup(author.name, "A")
    if answer.outcome is Outcome.NXDOMAIN:
        return "np", record.np, None
    if answer.outcome is Outcome.TEMPFAIL:
        return tag, request, answer.reason or Reason.DNS_SERVFAIL
    return tag, request, None


def _spf_identifiers(spf: SpfResult | None, mode: Alignment) -> tuple[_Identifier, ...]:
    # RFC 9989 4.4.2: MAIL FROM only; anybody can pass with a HELO name.
    if spf is None or spf.identity is not SpfIdentity.MAILFROM or spf.domain is None:
        return ()
    if spf.code is SpfCode.PASS:
        return (_Identifier(spf.domain, mode),)
    if spf.code is SpfCode.TEMPERROR:
        return (_Identifier(spf.domain, mode, spf.reason or Reason.DNS_SERVFAIL),)
    return ()


def _dkim_identifiers(dkim: tuple[DkimResult, ...], record: Record) -> tuple[_Identifier, ...]:
    # RFC 9989 4.4.1: the signing domain, d=.
    passed = {each.sdid: None for each in dkim if each.code is DkimCode.PASS and each.sdid}
    failed = {each.sdid: each.reason for each in dkim if each.code is DkimCode.TEMPERROR and each.sdid}
    return (
        *(_Identifier(sdid, record.adkim) for sdid in passed),
        *(_Identifier(sdid, record.adkim, reason or Reason.DNS_SERVFAIL) for sdid, reason in failed.items()),
    )


class _Alignments:
    """Compares identifiers with the author domain, and asks DNS for no more than that takes (RFC 9989 4.10.2)."""

    def __init__(
        self, author: Domain, organization: Domain | Reason, resolver: Resolver, suffixes: PublicSuffixes | None
    ) -> None:
        self._author = author
        self._organization = organization
        self._resolver = resolver
        self._suffixes = suffixes
        self._found: dict[Domain, Domain | Reason] = {}

    def prefetch(self, identifiers: tuple[_Identifier, ...]) -> None:
        """Have the walks of all identifiers that need one asked at once."""
        for each in identifiers:
            if self._suffixes is None and self._without_asking(each) is None:
                prefetch(each.domain, self._resolver)

    def any_of(self, identifiers: tuple[_Identifier, ...]) -> bool:
        """Whether one that has passed is aligned beyond doubt."""
        return any(self._aligned(each) is True for each in identifiers if each.failure is None)

    def doubt(self, identifiers: tuple[_Identifier, ...]) -> Reason | None:
        """Why one of them might have passed and be aligned after all, had DNS answered."""
        for each in identifiers:
            aligned = self._aligned(each)
            if isinstance(aligned, Reason):
                return aligned
            if aligned and each.failure:
                return each.failure
        return None

    def _aligned(self, identifier: _Identifier) -> bool | Reason:
        known = self._without_asking(identifier)
        if known is not None:
            return known
        if identifier.domain not in self._found:
            self._found[identifier.domain] = organization_of(identifier.domain, self._resolver, self._suffixes)
        organization = self._found[identifier.domain]
        return organization if isinstance(organization, Reason) else organization == self._organization

    def _without_asking(self, identifier: _Identifier) -> bool | Reason | None:
        if identifier.domain == self._author:
            return True
        if identifier.mode is Alignment.STRICT:
            return False
        if isinstance(self._organization, Reason):
            same_top = identifier.domain.labels[-1] == self._author.labels[-1]
            return self._organization if same_top else False
        # An organizational domain is the name itself or above it, so a stranger's domain costs no question.
        return None if identifier.domain.under(self._organization) else False
