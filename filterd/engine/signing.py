"""Sign mail from us, or say why not: who may write as whom, which keys are published, what is signed.

A signature that receivers cannot verify does harm, so a key is used only while DNS publishes it. DNS that cannot answer
changes nothing: the last known state stands, and begins as published (a broken resolver stops no outbound mail).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from filterd.dkim.bodyhash import BodyHasher
from filterd.dkim.published import Published, published
from filterd.dkim.sign import OUTGOING_BODY, SigningError, sign
from filterd.lookup import Resolver
from filterd.mail.domain import Domain
from filterd.mail.header import Field, Header
from filterd.mail.message import Author
from filterd.mail.reason import Reason
from filterd.policy.rules import Policy
from filterd.policy.signers import SelectedKey, Signing, may_write_as


@dataclass(slots=True)
class PublicationMemory:
    """What was last known of each key, by domain and selector; shared by all mails of a worker.

    `report` hears, for each mail, DOMAIN/SELECTOR of a key that receivers cannot verify with, and why.
    """

    report: Callable[[str, Reason | None], None] = lambda name, reason: None
    _known: dict[tuple[Domain, str], bool] = field(default_factory=dict)

    def usable(self, domain: Domain, selected: SelectedKey, resolver: Resolver) -> bool:
        """Whether receivers can verify with this key."""
        at = (domain, selected.selector)
        found, reason = published(selected.key, domain, selected.selector, resolver)
        if found is not Published.UNKNOWN:
            self._known[at] = found is Published.YES
        if found is Published.NO:
            self.report(f"{domain}/{selected.selector}", reason)
        return self._known.get(at, True)


@dataclass(frozen=True, slots=True)
class Signed:
    """The outcome: signature fields, or the reason why the mail has none.

    `names` are DOMAIN/SELECTOR of each signature. `defer` tells that the mail must not leave unsigned. `fault` is what
    filterd itself could not do.
    """

    fields: tuple[Field, ...] = ()
    names: tuple[str, ...] = ()
    unsigned: Reason | None = None
    defer: bool = False
    fault: str | None = None


class Outbound:
    """The signing of one mail, as it arrives."""

    def __init__(self, policy: Policy, author: Author, user: str | None, resolver: Resolver) -> None:
        self._signing: Signing | None = None
        self._hasher: BodyHasher | None = None
        self._unsigned = author.reason
        if author.domain is None:
            return
        if not may_write_as(policy.settings.senders, user, author):
            self._unsigned = Reason.SIGN_SENDER
            return
        self._signing = policy.signers.for_author(author.domain)
        if self._signing is None:
            self._unsigned = Reason.SIGN_NOT_CONFIGURED
            return
        self._hasher = BodyHasher([OUTGOING_BODY])
        for selected in self._signing.signer.keys:
            resolver.prefetch(f"{selected.selector}._domainkey.{self._signing.domain}", "TXT")

    def body(self, chunk: bytes) -> None:
        """Hash a part of the body, in order."""
        if self._hasher is not None:
            self._hasher.update(chunk)

    def finish(self, header: Header | None, now: int, memory: PublicationMemory, resolver: Resolver) -> Signed:
        """Sign with every key that is published. `now` is in seconds since 1970. To be called once.

        Without a header, where a mail is judged again by its record, only what would be signed with is said.
        """
        if self._signing is None or self._hasher is None:
            return Signed(unsigned=self._unsigned)
        signer, domain = self._signing.signer, self._signing.domain
        usable = tuple(each for each in signer.keys if memory.usable(domain, each, resolver))
        if not usable:
            if signer.entry.on_unpublished != "sign":
                return Signed(unsigned=Reason.SIGN_UNPUBLISHED, defer=signer.entry.on_unpublished == "defer")
            usable = signer.keys
        names = tuple(f"{domain}/{each.selector}" for each in usable)
        if header is None:
            return Signed(names=names)
        self._hasher.finish()
        body_hash = self._hasher.hash_of(OUTGOING_BODY).digest
        expires = now + int(signer.entry.expires) if signer.entry.expires else None
        try:
            fields = tuple(
                sign(header, body_hash, each.key, domain, each.selector, now, expires=expires) for each in usable
            )
        except SigningError as error:
            return Signed(unsigned=Reason.SIGN_FAILED, defer=True, fault=f"sign: {error}")
        return Signed(fields, names)
