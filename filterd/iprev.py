"""Whether the client's address has a name that leads back to it (RFC 8601 3, `iprev`).

Answers for one address. Says nothing of whether the name is a good one: providers name their dial-up addresses, too.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from filterd.lookup import Answer, Outcome, Resolver
from filterd.mail.domain import Domain, DomainError
from filterd.mail.reason import Reason
from filterd.mail.transaction import IPAddress, unmapped

#: RFC 8601 3 wants a bound, RFC 7208 4.6.4 has ten: names beyond these are not asked.
_MAX_NAMES = 5


class IprevCode(StrEnum):
    """The words of RFC 8601 2.7.3."""

    PASS = "pass"  # noqa: S105 # RFC 8601's word
    FAIL = "fail"  #: the names lead elsewhere
    TEMPERROR = "temperror"
    PERMERROR = "permerror"  #: the address has no name


@dataclass(frozen=True, slots=True)
class IprevResult:
    """`name` leads back to the address; None unless `code` is pass."""

    code: IprevCode
    name: Domain | None = None
    reason: Reason | None = None


def reverse_name(ip: IPAddress) -> str:
    """The name below which an address is asked for (RFC 1035 3.5, RFC 3596 2.5)."""
    return unmapped(ip).reverse_pointer


def check_iprev(ip: IPAddress, resolver: Resolver) -> IprevResult:
    """Ask for the address's names, and for the addresses of the first of them."""
    ip = unmapped(ip)
    answer = resolver.lookup(reverse_name(ip), "PTR")
    if answer.outcome is Outcome.TEMPFAIL:
        return IprevResult(IprevCode.TEMPERROR, reason=answer.reason)
    names = [name for each in answer.names[:_MAX_NAMES] if (name := _domain(each)) is not None]
    if not names:
        return IprevResult(IprevCode.PERMERROR, reason=Reason.IPREV_NO_NAME)
    rdtype = "A" if ip.version == 4 else "AAAA"
    for name in names[1:]:
        resolver.prefetch(name.name, rdtype)
    failed: Answer | None = None
    for name in names:
        forward = resolver.lookup(name.name, rdtype)
        if any(_same(ip, each) for each in forward.names):
            return IprevResult(IprevCode.PASS, name)
        failed = forward if forward.outcome is Outcome.TEMPFAIL else failed
    if failed is not None:
        return IprevResult(IprevCode.TEMPERROR, reason=failed.reason)
    return IprevResult(IprevCode.FAIL, reason=Reason.IPREV_OTHER_ADDRESS)


def _domain(text: str) -> Domain | None:
    try:
        return Domain.parse(text)
    except DomainError:
        return None


def _same(ip: IPAddress, text: str) -> bool:
    try:
        return ip_address(text) == ip
    except ValueError:
        return False
