"""What kind of name a client gave itself (RFC 5321 4.1.1.1): honest servers give one that leads somewhere.

Answers for one name. Says nothing of whether the name is the client's: SPF of it does, or iprev.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from filterd.lookup import Outcome, Resolver
from filterd.mail.domain import Domain, DomainError
from filterd.mail.transaction import IPAddress, unmapped


class HeloKind(StrEnum):
    """Kinds of names, as rules read them."""

    OK = "ok"  #: a name that has an address
    MISSING = "missing"
    LITERAL = "literal"  #: the client's own address in brackets (RFC 5321 4.1.3)
    OTHER_LITERAL = "other-literal"  #: another address in brackets
    ADDRESS = "address"  #: an address without brackets
    OWN = "own"  #: our own name, or a domain that we sign for
    UNQUALIFIED = "unqualified"  #: a name without a dot
    MALFORMED = "malformed"  #: no host name
    UNRESOLVABLE = "unresolvable"  #: a name without an address
    TEMPERROR = "temperror"  #: DNS did not answer


@dataclass(frozen=True, slots=True)
class HeloResult:
    """The kind of the name that the client gave."""

    kind: HeloKind


def check_helo_name(helo: str, ip: IPAddress | None, own: Collection[str], resolver: Resolver) -> HeloResult:
    """Look at the name, and ask DNS for its addresses only if nothing is wrong with it before. `own` are lower case."""
    return HeloResult(_form(helo, ip, own) or _resolved(helo, resolver))


def _form(helo: str, ip: IPAddress | None, own: Collection[str]) -> HeloKind | None:
    """What can be said without DNS."""
    if not helo:
        return HeloKind.MISSING
    if helo.startswith("[") and helo.endswith("]"):
        address = _address(helo[1:-1].lower().removeprefix("ipv6:"))
        if address is None:
            return HeloKind.MALFORMED
        return HeloKind.LITERAL if ip is not None and address == unmapped(ip) else HeloKind.OTHER_LITERAL
    if _address(helo) is not None:
        return HeloKind.ADDRESS
    try:
        name = Domain.parse(helo).name
    except DomainError:
        return HeloKind.MALFORMED
    if name in own:
        return HeloKind.OWN
    return None if "." in name else HeloKind.UNQUALIFIED


def _resolved(helo: str, resolver: Resolver) -> HeloKind:
    name = Domain.parse(helo).name
    resolver.prefetch(name, "AAAA")
    answers = [resolver.lookup(name, "A")]
    if not answers[0].names:
        answers.append(resolver.lookup(name, "AAAA"))
    if any(each.names for each in answers):
        return HeloKind.OK
    failed = any(each.outcome is Outcome.TEMPFAIL for each in answers)
    return HeloKind.TEMPERROR if failed else HeloKind.UNRESOLVABLE


def _address(text: str) -> IPAddress | None:
    try:
        return unmapped(ip_address(text))
    except ValueError:
        return None
