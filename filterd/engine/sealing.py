"""Seal strangers' mail for those to whom it goes on, or say why not: which chain is sealed, with which key.

The mail that leaves is the mail that came, but for fields that no signature of ours covers. So an unsealed mail keeps
the chain that it had, and whoever gets it can judge that for himself.
"""

from dataclasses import dataclass

from filterd.arc.seal import seal
from filterd.arc.verify import ArcResult
from filterd.authres.result import AuthenticationResults
from filterd.dkim.sign import SigningError
from filterd.engine.signing import PublicationMemory
from filterd.lookup import Resolver
from filterd.mail.header import Field, Header
from filterd.mail.reason import Reason
from filterd.policy.signers import Sealer

# RFC 8617 5.2.1 has failures of DNS fail a chain for good. Sealed so, a fault of a moment would take a chain that holds
# from everybody who gets the mail later.
_NOT_SEALED = frozenset(
    {Reason.DNS_TIMEOUT, Reason.DNS_SERVFAIL, Reason.DNS_MALFORMED, Reason.DNS_DEADLINE, Reason.CHECK_FAILED}
)


@dataclass(frozen=True, slots=True)
class Sealed:
    """The outcome: the fields of a set, as they stand above all others, or the reason why there are none.

    `name` is DOMAIN/SELECTOR. `fault` is what filterd itself could not do.
    """

    fields: tuple[Field, ...] = ()
    name: str | None = None
    unsealed: Reason | None = None
    fault: str | None = None


def seal_mail(
    header: Header,
    body_hash: bytes,
    results: AuthenticationResults,
    chain: ArcResult,
    sealer: Sealer,
    now: int,
    memory: PublicationMemory,
    resolver: Resolver,
) -> Sealed:
    """Seal with the first key that is published. `header` is that of the mail as it leaves.

    `now` is in seconds since 1970.
    """
    if chain.reason in _NOT_SEALED:
        return Sealed(unsealed=chain.reason)
    key = next((each for each in sealer.keys if memory.usable(sealer.domain, each, resolver)), None)
    if key is None:
        return Sealed(unsealed=Reason.SIGN_UNPUBLISHED)
    try:
        fields = seal(header, body_hash, key.key, sealer.domain, key.selector, results, chain, now)
    except SigningError as error:
        return Sealed(unsealed=Reason.SIGN_FAILED, fault=f"seal: {error}")
    if fields is None:
        return Sealed(unsealed=chain.reason or Reason.ARC_TOO_MANY)
    return Sealed(fields, f"{sealer.domain}/{key.selector}")
