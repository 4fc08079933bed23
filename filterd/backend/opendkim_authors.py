"""Whose mail a row of OpenDKIM's SigningTable takes: opendkim.conf(5), SigningTable.

Answers with domains, as policies know no single addresses. Which key they get is not known here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from filterd.mail.domain import Domain, DomainError


class UnlikeError(ValueError):
    """A row means what a policy's `sign` section cannot say; the message says what."""


@dataclass(frozen=True, slots=True)
class Authors:
    """Some authors: those at a domain, or (`below`) at all names below it; everybody is below the root, None."""

    domain: Domain | None
    below: bool = False

    @property
    def wider(self) -> "Iterator[Authors]":
        """Who includes all of these authors and more, nearest first."""
        if self.domain is not None:
            base = self.domain.parent
            while base is not None:
                yield Authors(base, below=True)
                base = base.parent
            yield EVERYBODY

    @property
    def nearness(self) -> tuple[bool, int]:
        """Sorts a domain before those that it is below, and those before shorter ones."""
        return self.below, -len(self.domain.labels) if self.domain else 0

    def __str__(self) -> str:
        if self.domain is None:
            return "*"
        return f"*.{self.domain}" if self.below else self.domain.name


EVERYBODY = Authors(None, below=True)


def authors_of_pattern(key: str) -> tuple[Authors, ...]:
    """Whose addresses a pattern takes; "*" is any text. Raises UnlikeError."""
    if key in ("*", "*@*"):
        return (EVERYBODY,)
    local, at, host = key.rpartition("@")
    if at and local != "*":
        raise UnlikeError("is for some addresses of a domain; here all mail of a domain is signed alike")
    if host.startswith("*."):
        return (Authors(_domain(host[2:]), below=True),)
    if host.startswith("*"):
        domain = _domain(host[1:])
        return Authors(domain), Authors(domain, below=True)
    if not at:
        raise UnlikeError("takes no mail: patterns are compared with whole addresses, as *@example.org is")
    return (Authors(_domain(host)),)


def authors_of_key(key: str) -> tuple[Authors, ...]:
    """Whose addresses a key takes where "*" is no pattern. Raises UnlikeError."""
    if key == "*":
        return (EVERYBODY,)
    if key.startswith("*"):
        raise UnlikeError("takes no mail: patterns need refile: before the table's name")
    if "@" in key:
        raise UnlikeError("is for one address; here all mail of a domain is signed alike")
    if key.startswith("."):
        return (Authors(_domain(key[1:]), below=True),)
    return (Authors(_domain(key)),)


def authors_named(text: str) -> tuple[Authors, ...]:
    """The authors at a domain of that name; none where the name is no mail domain's."""
    try:
        domain = Domain.parse(text)
    except DomainError:
        return ()
    return () if "_" in text or domain.parent is None else (Authors(domain),)


def _domain(text: str) -> Domain:
    if text.endswith("."):
        raise UnlikeError("takes no mail: addresses have no final dot")
    try:
        return Domain.parse(text)
    except DomainError:
        raise UnlikeError("stands for no domain") from None
