"""Which keys sign a mail: the author's domain decides (RFC 6376 3.5, RFC 9989 4.4.1)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from filterd.dkim.sign import SigningKey
from filterd.dkim.signature import Algorithm
from filterd.mail.domain import Domain
from filterd.mail.message import Author
from filterd.policy.schema import SignEntry

_ANY_BELOW = "*."


@dataclass(frozen=True, slots=True)
class SelectedKey:
    """A key under the name by which receivers find it."""

    selector: str
    key: SigningKey


@dataclass(frozen=True, slots=True)
class Signer:
    """One `sign` entry with its keys loaded."""

    entry: SignEntry
    keys: tuple[SelectedKey, ...]


@dataclass(frozen=True, slots=True)
class Signing:
    """The signer of a mail, and the domain that it signs as (d=)."""

    signer: Signer
    domain: Domain


@dataclass(frozen=True, slots=True)
class Sealer:
    """Who seals strangers' mail: RSA keys, at least one, and the domain under which they are published."""

    domain: Domain
    keys: tuple[SelectedKey, ...]

    @property
    def key_names(self) -> tuple[str, ...]:
        """The names of the keys' TXT records."""
        return tuple(f"{each.selector}._domainkey.{self.domain}" for each in self.keys)


class Signers:
    """All `sign` entries, found by domain: its own before a wildcard, a longer one before a shorter."""

    def __init__(self, signers: tuple[Signer, ...] = ()) -> None:
        self._by_pattern: Mapping[str, Signer] = {
            pattern: signer for signer in reversed(signers) for pattern in signer.entry.domains
        }

    def published(self) -> Iterator[tuple[str, SigningKey]]:
        """All keys, each with the name of its TXT record."""
        for pattern, signer in self._by_pattern.items():
            for each in signer.keys:
                yield f"{each.selector}._domainkey.{pattern.removeprefix(_ANY_BELOW)}", each.key

    def for_author(self, domain: Domain) -> Signing | None:
        """Who signs for an author; None where no entry names the domain."""
        own = self._by_pattern.get(domain.name)
        if own is not None:
            return Signing(own, domain)
        base = domain.parent
        while base is not None:
            signer = self._by_pattern.get(_ANY_BELOW + base.name)
            if signer is not None:
                # One key record serves all names below: relaxed alignment (RFC 9989 4.10.2) takes it for the author's.
                return Signing(signer, base)
            base = base.parent
        return None

    def for_host(self, host: Domain) -> Sealer | None:
        """Who seals for a server of ours: the nearest entry for its name, or one above it, that has an RSA key."""
        domain: Domain | None = host
        while domain is not None:
            signing = self.for_author(domain)
            # RFC 8617 4.1 takes DKIM's algorithms over, but many verifiers of chains know rsa-sha256 only.
            keys = (
                [each for each in signing.signer.keys if each.key.algorithm is Algorithm.RSA_SHA256] if signing else []
            )
            if signing and keys:
                return Sealer(signing.domain, tuple(keys))
            domain = domain.parent
        return None


def may_write_as(senders: Mapping[str, tuple[str, ...]] | None, user: str | None, author: Author) -> bool:
    """Whether a login may write as all authors of a mail. Local parts are compared as they are (RFC 5321 2.4).

    Without a login, or without `senders`, everybody may. Else nobody may write as an author who cannot be told.
    """
    if senders is None or user is None:
        return True
    allowed = senders.get(user, ())
    if "*" in allowed:
        return True
    named = [f"@{each.domain}" in allowed or f"{each.local}@{each.domain}" in allowed for each in author.mailboxes]
    return bool(named) and all(named)
