"""Which record governs the mail of an author domain, and which organization that domain belongs to.

By the tree walk of RFC 9989 4.10, or by the public suffix list as RFC 7489 6.6.3 had it. What the record asks for is
not decided here.
"""

from dataclasses import dataclass

from filterd.dmarc.org_domain import PublicSuffixes, organizational_domain
from filterd.dmarc.record import PublicSuffix, parse
from filterd.dmarc.tree_walk import Found, Walk, query_name, query_names, tree_walk
from filterd.lookup import Outcome, Resolver
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found: `organization`, or why it is not known; `found`, the record that governs.

    Where `found` is None there is no such record, or `failure` tells why DNS could not say.
    """

    organization: Domain | Reason
    found: Found | None
    failure: Reason | None = None


def discover(author: Domain, resolver: Resolver, suffixes: PublicSuffixes | None) -> Discovery:
    """Find the record for an author domain: by the tree walk, or by the list where there is one."""
    if suffixes is not None:
        return _by_public_suffixes(author, suffixes, resolver)
    walk = tree_walk(author, resolver)
    organization = organizational_domain(walk)
    return Discovery(organization, _governing(walk, organization), walk.failure)


def names_asked(author: Domain, suffixes: PublicSuffixes | None) -> tuple[str, ...]:
    """The names whose TXT records `discover` may ask for, at most eight."""
    if suffixes is None:
        return query_names(author)
    return tuple(query_name(domain) for domain in dict.fromkeys((author, suffixes.organizational_domain(author))))


def _governing(walk: Walk, organization: Domain | Reason) -> Found | None:
    """The record that applies: the author domain's, else its organization's, else the public suffix's."""
    # RFC 9989 4.10.1
    for domain in (walk.start, organization):
        for found in walk.found:
            if found.domain == domain:
                return found
    if walk.found and walk.found[-1].record.psd is PublicSuffix.YES:
        return walk.found[-1]
    return None


def _by_public_suffixes(author: Domain, suffixes: PublicSuffixes, resolver: Resolver) -> Discovery:
    organization = suffixes.organizational_domain(author)
    for name in names_asked(author, suffixes):
        resolver.prefetch(name, "TXT")
    for domain in dict.fromkeys((author, organization)):
        answer = resolver.lookup(query_name(domain), "TXT")
        if answer.outcome is Outcome.TEMPFAIL:
            return Discovery(organization, None, answer.reason or Reason.DNS_SERVFAIL)
        records = [record for text in answer.texts if (record := parse(text, rfc7489=True))]
        if records:
            # RFC 7489 6.6.3, steps 3 and 5: several records end the search, and count as none.
            return Discovery(organization, Found(domain, records[0]) if len(records) == 1 else None)
    return Discovery(organization, None)
