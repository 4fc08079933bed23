"""Which domain stands for the organization that a name belongs to (RFC 9989 4.10.2; RFC 7489 3.2)."""

from typing import Protocol

from filterd.dmarc.record import PublicSuffix
from filterd.dmarc.tree_walk import Walk, tree_walk
from filterd.lookup import Resolver
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason


class PublicSuffixes(Protocol):
    """The public suffix list: under which names others register theirs."""

    def organizational_domain(self, domain: Domain) -> Domain:
        """The longest public suffix of the name with one label more; a public suffix itself stands for itself."""
        ...


def organization_of(domain: Domain, resolver: Resolver, suffixes: PublicSuffixes | None) -> Domain | Reason:
    """The organizational domain as DNS says, or why it cannot say now; as the list says where there is one."""
    return (
        organizational_domain(tree_walk(domain, resolver))
        if suffixes is None
        else suffixes.organizational_domain(domain)
    )


def organizational_domain(walk: Walk) -> Domain | Reason:
    """The organizational domain by the records of a walk; the reason of a failure that leaves it open."""
    for found in walk.found:
        if found.record.psd is PublicSuffix.NO:
            return found.domain
        if found.record.psd is PublicSuffix.YES and found.domain != walk.start:
            # One label below the suffix. Taken from the start, as the walk may have jumped over that name.
            return Domain(".".join(walk.start.labels[-len(found.domain.labels) - 1 :]))
    if walk.failure is not None:
        return walk.failure
    return walk.found[-1].domain if walk.found else walk.start
