"""What DNS lists say of an address or a domain (RFC 5782).

Answers for one list. Operators answer those whom they do not serve with addresses of their own; none of these is a
listing here, as that would refuse everybody's mail.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, ip_address

from filterd.lookup import Answer, Outcome, Resolver
from filterd.mail.domain import Domain, DomainError
from filterd.mail.reason import Reason
from filterd.mail.transaction import IPAddress, unmapped

_LISTED = IPv4Network("127.0.0.0/8")
# Spamhaus and others: 252 typing error, 254 asked through a public resolver, 255 too many questions.
_REFUSED = IPv4Network("127.255.255.0/24")
# URIBL and SURBL refuse with it; RFC 5782 5 forbids it as a listing.
_NEVER_LISTED = IPv4Address("127.0.0.1")
_RANGE = re.compile(r"(?P<low>\d{1,3})(?:\.\.|-)(?P<high>\d{1,3})|\[(?P<in_low>\d{1,3})\.\.(?P<in_high>\d{1,3})\]")


class Subject(StrEnum):
    """Of whom a list is asked."""

    CLIENT = "client"  #: the client's address
    HELO = "helo"  #: the name that the client gave itself
    SENDER = "sender"  #: the envelope sender's domain
    AUTHOR = "author"  #: the author domain


class ListCode(StrEnum):
    """What a list says."""

    LISTED = "listed"
    NOT_LISTED = "not listed"
    TEMPERROR = "temperror"  #: nobody could say
    REFUSED = "refused"  #: the operator does not serve us: the list is of no use until that is mended


@dataclass(frozen=True, slots=True)
class Codes:
    """The return codes of a list that count: each part of the address lies between the two bounds."""

    text: str
    bounds: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> "Codes":
        """`127.0.0.2`, `127.0.0.2-11`, `127.0.0.[2..11]` or `127.0.2-3.*`. Raises ValueError."""
        parts = re.findall(r"\[[^\]]*\]|(?:\.\.|[^.\[\]])+", text)
        if len(parts) != 4 or ".".join(parts) != text:
            raise ValueError("a return code reads like 127.0.0.2, 127.0.0.2-11 or 127.0.0.*")
        return cls(text, tuple(_bounds(part) for part in parts))

    def include(self, address: IPv4Address) -> bool:
        """Whether an answer is one of these."""
        return all(low <= part <= high for part, (low, high) in zip(address.packed, self.bounds, strict=True))


@dataclass(frozen=True, slots=True)
class DnsList:
    """A list as the policy names it. `codes` are the answers that count as listed; none: all in 127.0.0.0/8."""

    zone: Domain
    subject: Subject = Subject.CLIENT
    codes: tuple[Codes, ...] = ()


@dataclass(frozen=True, slots=True)
class ListResult:
    """What one list says; `answers` are the return codes that count. `subject` is what was asked, in words."""

    listing: DnsList
    code: ListCode
    subject: str
    answers: tuple[str, ...] = ()
    reason: Reason | None = None


def query_name(listing: DnsList, subject: IPAddress | Domain) -> str:
    """The name to ask (RFC 5782 2.1, 2.4 for addresses, 3 for domains)."""
    if isinstance(subject, Domain):
        return f"{subject.name}.{listing.zone}"
    reversed_address, _, _ = unmapped(subject).reverse_pointer.rpartition(".")
    reversed_address, _, _ = reversed_address.rpartition(".")
    return f"{reversed_address}.{listing.zone}"


def check_list(listing: DnsList, subject: IPAddress | Domain, resolver: Resolver) -> ListResult:
    """Ask one list."""
    said = str(subject)
    try:
        name = Domain.parse(query_name(listing, subject)).name
    except DomainError:
        # A domain so long that the list's name does not fit behind it: nobody could have listed it.
        return ListResult(listing, ListCode.NOT_LISTED, said)
    answer = resolver.lookup(name, "A")
    if answer.outcome is Outcome.TEMPFAIL:
        return ListResult(listing, ListCode.TEMPERROR, said, reason=answer.reason)
    addresses = _addresses(answer)
    if any(each in _REFUSED or each == _NEVER_LISTED or each not in _LISTED for each in addresses):
        # Also a wildcard where a list was: its zone was sold, or a resolver rewrites what does not exist.
        return ListResult(listing, ListCode.REFUSED, said, tuple(map(str, addresses)), Reason.DNSBL_REFUSED)
    counted = [each for each in addresses if not listing.codes or any(codes.include(each) for codes in listing.codes)]
    code = ListCode.LISTED if counted else ListCode.NOT_LISTED
    return ListResult(listing, code, said, tuple(map(str, counted)))


def check_lists(asked: Sequence[tuple[DnsList, IPAddress | Domain]], resolver: Resolver) -> tuple[ListResult, ...]:
    """Ask many lists at once: all questions are under way before the first answer is waited for."""
    for listing, subject in asked:
        resolver.prefetch(query_name(listing, subject), "A")
    return tuple(check_list(listing, subject, resolver) for listing, subject in asked)


def _bounds(part: str) -> tuple[int, int]:
    if part == "*":
        return 0, 255
    ranged = _RANGE.fullmatch(part)
    low, high = (part, part) if ranged is None else tuple(each for each in ranged.groups() if each is not None)
    if not (f"{low}{high}".isascii() and low.isdigit() and high.isdigit() and int(low) <= int(high) <= 255):
        raise ValueError("a part of a return code is a number up to 255, a range such as 2-11, or *")
    return int(low), int(high)


def _addresses(answer: Answer) -> list[IPv4Address]:
    found = [ip_address(each) for each in answer.names]
    return [each for each in found if isinstance(each, IPv4Address)]
