"""Which domain stands for the organization that a name belongs to (RFC 9989 4.10.2)."""

from collections.abc import Callable

from filterd.dmarc.record import PublicSuffix
from filterd.dmarc.tree_walk import Walk, tree_walk
from filterd.lookup import Resolver
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason

#: Finds the organizational domain of a name, or why it cannot be found now.
Finder = Callable[[Domain, Resolver], Domain | Reason]


def by_tree_walk(domain: Domain, resolver: Resolver) -> Domain | Reason:
    """The organizational domain as DNS says."""
    return organizational_domain(tree_walk(domain, resolver))


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
