"""Run checks. The one place where a check's own fault is caught: it becomes that check's temperror."""

import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar

from filterd.arc.sets import bears_sets
from filterd.arc.verify import ArcCode, ArcResult, ArcVerification, Hop
from filterd.authres.result import AuthenticationResults
from filterd.dkim.bodyhash import BodyHasher
from filterd.dkim.sign import OUTGOING_BODY
from filterd.dkim.verify import DkimCode, DkimResult, Verification
from filterd.dmarc.evaluate import DmarcCode, DmarcResult, evaluate, names_to_prefetch
from filterd.dmarc.org_domain import PublicSuffixes
from filterd.dnsbl import DnsList, ListCode, ListResult, Subject, check_lists, query_name
from filterd.engine.scanning import Scanning
from filterd.engine.sealing import Sealed, seal_mail
from filterd.engine.signing import PublicationMemory
from filterd.helo import HeloKind, HeloResult, check_helo_name
from filterd.iprev import IprevCode, IprevResult, check_iprev
from filterd.lookup import Resolver
from filterd.mail.domain import Domain, DomainError
from filterd.mail.header import Header
from filterd.mail.message import Author
from filterd.mail.reason import Reason
from filterd.mail.transaction import IPAddress, Transaction
from filterd.policy.facts import FACTS
from filterd.policy.rules import Policy
from filterd.spam import SpamCode, SpamResult
from filterd.spf.check import SpfCode, SpfIdentity, SpfResult, check_helo, check_mail_from

#: SPF where a relay of ours recorded two addresses: the client chose one of them, and nobody knows which.
CONTRADICTED = SpfResult(SpfCode.NONE, SpfIdentity.MAILFROM, None, reason=Reason.SPF_NO_CLIENT)
_NO_CHAIN = ArcResult(ArcCode.NONE)
T = TypeVar("T")
R = TypeVar("R", covariant=True)


class Gather:
    """The checks of one mail. `faults` says what filterd itself could not do, for the log."""

    def __init__(self, policy: Policy) -> None:
        suffixes = policy.suffixes
        #: by which lists DMARC is judged, the one that counts first; None is the tree walk
        self._readings = {"treewalk": (None,), "psl": (suffixes,), "compare": (None, suffixes)}[
            policy.settings.dmarc.organizational_domain
        ]
        self._settings = policy.settings
        self._sealer, self._trusted_sealers = policy.sealer, policy.trusted_sealers
        self.faults: list[str] = []
        #: why a check has no result, where a mail is judged again by its record
        self.unknown: dict[str, str] = {}
        self._hasher: BodyHasher | None = None  # of all who read the body
        self._verification: Verification | None = None
        self._bears_sets = False
        self._chain: ArcVerification | None = None

    def spf(self, transaction: Transaction, resolver: Resolver) -> SpfResult | None:
        """SPF of the envelope sender (RFC 7208 2.4). A client without an address might have passed."""
        sender, ip, helo = transaction.sender, transaction.client.ip, transaction.helo or ""
        broken = SpfResult(SpfCode.TEMPERROR, SpfIdentity.MAILFROM, None, reason=Reason.CHECK_FAILED)
        if ip is None:
            mailbox = sender.mailbox if sender is not None else None
            domain = mailbox.domain if mailbox is not None and isinstance(mailbox.domain, Domain) else None
            return SpfResult(SpfCode.TEMPERROR, SpfIdentity.MAILFROM, domain, reason=Reason.SPF_NO_CLIENT)
        if sender is None or (sender.mailbox is None and not sender.null):
            return SpfResult(SpfCode.NONE, SpfIdentity.MAILFROM, None, reason=Reason.SPF_NO_DOMAIN)
        return self._guarded("spf", lambda: check_mail_from(ip, sender.mailbox, helo, resolver), broken)

    def spf_helo(self, transaction: Transaction, resolver: Resolver) -> SpfResult | None:
        """SPF of the HELO name (RFC 7208 2.3)."""
        ip, helo = transaction.client.ip, transaction.helo
        broken = SpfResult(SpfCode.TEMPERROR, SpfIdentity.HELO, None, reason=Reason.CHECK_FAILED)
        if ip is None:
            return SpfResult(SpfCode.NONE, SpfIdentity.HELO, None, reason=Reason.SPF_NO_CLIENT)
        if not helo:
            return SpfResult(SpfCode.NONE, SpfIdentity.HELO, None, reason=Reason.SPF_NO_DOMAIN)
        return self._guarded("spf_helo", lambda: check_helo(ip, helo, resolver), broken)

    def iprev(self, transaction: Transaction, resolver: Resolver) -> IprevResult | None:
        """Whether the client's address has a name that leads back to it (RFC 8601 3)."""
        ip = transaction.client.ip
        broken = IprevResult(IprevCode.TEMPERROR, reason=Reason.CHECK_FAILED)
        if ip is None:
            return IprevResult(IprevCode.PERMERROR, reason=Reason.IPREV_NO_CLIENT)
        return self._guarded("iprev", lambda: check_iprev(ip, resolver), broken)

    def helo(self, transaction: Transaction, resolver: Resolver) -> HeloResult | None:
        """What kind of name the client gave itself."""
        ip, name = transaction.client.ip, transaction.helo or ""
        broken = HeloResult(HeloKind.TEMPERROR)
        return self._guarded("helo", lambda: check_helo_name(name, ip, self._own(), resolver), broken)

    def _own(self) -> frozenset[str]:
        """Which names a stranger has no right to."""
        names = [self._settings.identity.authserv_id]
        names += (each for entry in self._settings.sign for each in entry.domains)
        return frozenset(name.lower() for name in names if name is not None)

    def dnsbl(
        self, lists: tuple[DnsList, ...], transaction: Transaction, author: Author | None, resolver: Resolver
    ) -> tuple[ListResult, ...] | None:
        """What DNS lists say of the client, of its HELO name, of the sender or of the author, as each list wants."""
        asked = [(each, subject) for each in lists if (subject := _subject(each, transaction, author)) is not None]
        broken = tuple(
            ListResult(each, ListCode.TEMPERROR, str(subject), reason=Reason.CHECK_FAILED) for each, subject in asked
        )
        return self._guarded("dnsbl", lambda: check_lists(asked, resolver), broken)

    def prefetch_lists(
        self, lists: tuple[DnsList, ...], transaction: Transaction, author: Author, resolver: Resolver
    ) -> None:
        """Ask what lists say, and do not wait for it."""

        def asked() -> None:
            for each in lists:
                if (subject := _subject(each, transaction, author)) is not None:
                    resolver.prefetch(query_name(each, subject), "A")

        self._guarded("dnsbl", asked, None)

    def spam(self, scanning: Scanning) -> SpamResult | None:
        """What the scanner thinks of the content; None where it was not asked."""
        broken: SpamResult | None = SpamResult(SpamCode.TEMPERROR, reason=Reason.CHECK_FAILED)
        return self._guarded("spam", scanning.result, broken)

    def begin_content(
        self, header: Header, author: Author, spf: SpfResult | None, now: float, resolver: Resolver
    ) -> None:
        """Read the signatures, and ask in parallel for all that the end of message will need."""
        hasher = self._hasher = BodyHasher([OUTGOING_BODY] if self._sealer else ())
        self._verification = self._guarded("dkim", lambda: Verification(header, int(now), hasher=hasher), None)
        self._bears_sets = bears_sets(header)
        if self._bears_sets:
            self._chain = self._guarded("arc", lambda: ArcVerification(header, int(now), hasher), None)
        self._guarded("dns", lambda: self._prefetch(author, spf, resolver), None)

    def _prefetch(self, author: Author, spf: SpfResult | None, resolver: Resolver) -> None:
        readers = [each for each in (self._verification, self._chain, self._sealer) if each is not None]
        names = [name for each in readers for name in each.key_names]
        sdids = self._verification.sdids if self._verification else ()
        if author.domain is not None:
            for suffixes in self._readings:
                names += names_to_prefetch(author.domain, spf, sdids, suffixes)
        for name in names:
            resolver.prefetch(name, "TXT")

    def body(self, chunk: bytes) -> None:
        """Hash a part of the body, in order."""
        hasher = self._hasher
        if hasher is None:
            return

        def hash_chunk() -> bool:
            hasher.update(chunk)
            return True

        if not self._guarded("body", hash_chunk, False):
            # A body with a hole in it must not be compared.
            self._hasher = self._verification = self._chain = None

    def dkim(self, resolver: Resolver) -> tuple[DkimResult, ...] | None:
        """The result of every signature, after the whole body was seen."""
        broken: tuple[DkimResult, ...] = (DkimResult(DkimCode.TEMPERROR, None, reason=Reason.CHECK_FAILED),)
        verification = self._verification
        if verification is None:
            return broken
        return self._guarded("dkim", lambda: _finished(verification, resolver), broken)

    def arc(self, resolver: Resolver) -> tuple[ArcResult | None, Hop | None]:
        """The state of the chain, after the whole body was seen, and where the trusted sealers took the mail over."""
        if not self._bears_sets:
            return _NO_CHAIN, None
        broken = ArcResult(ArcCode.FAIL, reason=Reason.CHECK_FAILED)
        chain = self._chain
        result = self._guarded("arc", lambda: _finished(chain, resolver), broken) if chain else broken
        return result, result.first_trusted(self._trusted_sealers)

    def dmarc(
        self,
        author: Author,
        spf: SpfResult | None,
        dkim: tuple[DkimResult, ...],
        arc: ArcResult | None,
        resolver: Resolver,
    ) -> tuple[DmarcResult | None, DmarcResult | None]:
        """DMARC over what SPF and DKIM found (RFC 9989 5.3). The second is what differs, where the policy compares."""
        # What a broken check of ours did not find might have passed: no mail is refused for that.
        faulty = any(
            each is not None and each.reason is Reason.CHECK_FAILED
            for each in (spf, *dkim, arc if self._trusted_sealers else None)
        )
        result, *others = [self._dmarc(author, spf, dkim, resolver, each, faulty=faulty) for each in self._readings]
        return result, next((other for other in others if _differ(result, other)), None)

    def _dmarc(
        self,
        author: Author,
        spf: SpfResult | None,
        dkim: tuple[DkimResult, ...],
        resolver: Resolver,
        suffixes: PublicSuffixes | None,
        *,
        faulty: bool,
    ) -> DmarcResult:
        broken = DmarcResult(DmarcCode.TEMPERROR, author.domain, reason=Reason.CHECK_FAILED)
        result = self._guarded("dmarc", lambda: evaluate(author, spf, dkim, resolver, suffixes), broken)
        return replace(broken, policy=result.policy) if faulty and result.code is DmarcCode.FAIL else result

    def seal(
        self,
        header: Header,
        results: AuthenticationResults,
        chain: ArcResult,
        now: float,
        memory: PublicationMemory,
        resolver: Resolver,
    ) -> Sealed:
        """Seal the mail as it leaves: with this header, and the body that was seen."""
        sealer, hasher, broken = self._sealer, self._hasher, Sealed(unsealed=Reason.CHECK_FAILED)
        if sealer is None or hasher is None:
            return broken

        def made() -> Sealed:
            hasher.finish()
            body_hash = hasher.hash_of(OUTGOING_BODY).digest
            return seal_mail(header, body_hash, results, chain, sealer, int(now), memory, resolver)

        sealed = self._guarded("seal", made, broken)
        if sealed.fault:
            self.faults.append(sealed.fault)
        return sealed

    def not_known(self, group: str, why: str) -> None:
        """Facts of a group (`trusted.`) cannot be had, in a replay."""
        self.unknown.update({name: why for name in FACTS if name.startswith(group)})

    def fault(self, where: str, error: Exception) -> None:
        """Note a fault of filterd's own, with the line that raised it."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        self.faults.append(f"{where}: {type(error).__name__}: {error} ({frame.filename}:{frame.lineno})")

    def _guarded(self, check: str, find: Callable[[], T], broken: T) -> T:
        try:
            return find()
        except Exception as error:  # noqa: BLE001 # a fault in one check never costs the mail; the log has it
            self.fault(check, error)
            return broken


class _Reader(Protocol[R]):
    key_names: tuple[str, ...]

    def finish(self, resolver: Resolver) -> R: ...


def _finished(reader: _Reader[R], resolver: Resolver) -> R:
    # Who sends the body so slowly that answers are forgotten meanwhile has all keys asked for at once again: one after
    # the other, those of a name server that hangs would use up the time in which DMARC is to be looked up.
    if len(reader.key_names) > 1:
        for name in reader.key_names:
            resolver.prefetch(name, "TXT")
    return reader.finish(resolver)


def _subject(listing: DnsList, transaction: Transaction, author: Author | None) -> IPAddress | Domain | None:
    """Of whom a list is asked; None where there is nobody."""
    match listing.subject:
        case Subject.CLIENT:
            return transaction.client.ip
        case Subject.HELO:
            try:
                return Domain.parse(transaction.helo or "")
            except DomainError:
                return None
        case Subject.SENDER:
            mailbox = transaction.sender.mailbox if transaction.sender is not None else None
            return mailbox.domain if mailbox is not None and isinstance(mailbox.domain, Domain) else None
        case Subject.AUTHOR:
            return author.domain if author is not None else None


def _differ(one: DmarcResult, other: DmarcResult) -> bool:
    # Where no record governs, nothing rests on the organizational domain.
    if one.code is other.code is DmarcCode.NONE:
        return False
    return (one.code, one.policy, one.organizational_domain) != (other.code, other.policy, other.organizational_domain)
