"""The servers that take mail for a domain: names, addresses and their order (RFC 5321 5.1, RFC 7505)."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from filterd.lookup import Outcome, Resolver
from filterd.mail.domain import Domain, DomainError

_MAX_NAMES = 20
_MAX_ADDRESSES = 10  # of all servers; each may take its time


@dataclass(frozen=True, slots=True)
class Exchanger:
    """One address of a server."""

    name: str
    address: str


class UnroutableError(Exception):
    """Mail has no way to go. `status` (RFC 3463) begins with 4 where there may be one later."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


def exchangers(
    domain: str, resolver: Resolver, is_own: Callable[[str, tuple[str, ...]], bool]
) -> tuple[Exchanger, ...]:
    """Where to try, in this order. `is_own` says whether a name with these addresses is this very server.

    Raises UnroutableError.
    """
    usable: list[tuple[int, str, tuple[str, ...]]] = []
    failed = own = False
    for preference, name in _names(domain, resolver):
        found, certain = _addresses(name, resolver)
        if is_own(name, found):
            # RFC 5321 5.1: what is not nearer than we are would hand it back to us.
            usable = [each for each in usable if each[0] < preference]
            own = True
            break
        failed |= not certain
        usable.append((preference, name, found))
    places = tuple(Exchanger(name, address) for _, name, found in usable for address in found)
    if places:
        return places[:_MAX_ADDRESSES]
    if failed:
        raise UnroutableError("4.4.3", f"no DNS server tells the addresses of the servers of {domain}")
    if own:
        raise UnroutableError("5.4.6", f"mail for {domain} would come back to us")
    raise UnroutableError("5.4.4", f"no server of {domain} has an address")


def _names(domain: str, resolver: Resolver) -> list[tuple[int, str]]:
    """Preferences and names, the lowest first, equal ones in any order."""
    answer = resolver.lookup(domain, "MX")
    match answer.outcome:
        case Outcome.TEMPFAIL:
            raise UnroutableError("4.4.3", f"no DNS server tells where mail for {domain} goes")
        case Outcome.NXDOMAIN:
            raise UnroutableError("5.1.2", f"there is no domain {domain}")
        case Outcome.NODATA:
            return [(0, domain)]
    found = [(int(preference), name) for preference, _, name in (each.partition(" ") for each in answer.names)]
    if [name.strip(".") for _, name in found] == [""]:
        raise UnroutableError("5.1.10", f"{domain} takes no mail (RFC 7505)")
    random.shuffle(found)
    return sorted(((preference, name) for preference, name in found if _is_host(name)), key=lambda each: each[0])[
        :_MAX_NAMES
    ]


def _addresses(name: str, resolver: Resolver) -> tuple[tuple[str, ...], bool]:
    """The addresses of a server, and whether that are all."""
    resolver.prefetch(name, "A")
    answers = [resolver.lookup(name, "AAAA"), resolver.lookup(name, "A")]
    certain = all(each.outcome is not Outcome.TEMPFAIL for each in answers)
    return tuple(address for each in answers if each.outcome is Outcome.FOUND for address in each.names), certain


def _is_host(name: str) -> bool:
    try:
        Domain.parse(name)
    except DomainError:
        return False
    return True
