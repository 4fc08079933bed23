"""Run checks. The one place where a check's own fault is caught: it becomes that check's temperror."""

import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from filterd.dkim.verify import DkimCode, DkimResult, Verification
from filterd.dmarc.evaluate import DmarcCode, DmarcResult, evaluate, names_to_prefetch
from filterd.dmarc.org_domain import PublicSuffixes
from filterd.lookup import Resolver
from filterd.mail.header import Header
from filterd.mail.message import Author
from filterd.mail.reason import Reason
from filterd.mail.transaction import Transaction
from filterd.policy.rules import Policy
from filterd.spf.check import SpfCode, SpfIdentity, SpfResult, check_helo, check_mail_from

T = TypeVar("T")


class Gather:
    """The checks of one mail. `faults` says what filterd itself could not do, for the log."""

    def __init__(self, policy: Policy) -> None:
        suffixes = policy.suffixes
        #: by which lists DMARC is judged, the one that counts first; None is the tree walk
        self._readings = {"treewalk": (None,), "psl": (suffixes,), "compare": (None, suffixes)}[
            policy.settings.dmarc.organizational_domain
        ]
        self.faults: list[str] = []
        self._verification: Verification | None = None

    def spf(self, transaction: Transaction, resolver: Resolver) -> SpfResult:
        """SPF of the envelope sender (RFC 7208 2.4). Without a client address there is nothing to authorize."""
        sender, ip, helo = transaction.sender, transaction.client.ip, transaction.helo or ""
        broken = SpfResult(SpfCode.TEMPERROR, SpfIdentity.MAILFROM, None, reason=Reason.CHECK_FAILED)
        if ip is None:
            return SpfResult(SpfCode.NONE, SpfIdentity.MAILFROM, None, reason=Reason.SPF_NO_CLIENT)
        if sender is None or (sender.mailbox is None and not sender.null):
            return SpfResult(SpfCode.NONE, SpfIdentity.MAILFROM, None, reason=Reason.SPF_NO_DOMAIN)
        return self._guarded("spf", lambda: check_mail_from(ip, sender.mailbox, helo, resolver), broken)

    def spf_helo(self, transaction: Transaction, resolver: Resolver) -> SpfResult:
        """SPF of the HELO name (RFC 7208 2.3)."""
        ip, helo = transaction.client.ip, transaction.helo
        broken = SpfResult(SpfCode.TEMPERROR, SpfIdentity.HELO, None, reason=Reason.CHECK_FAILED)
        if ip is None:
            return SpfResult(SpfCode.NONE, SpfIdentity.HELO, None, reason=Reason.SPF_NO_CLIENT)
        if not helo:
            return SpfResult(SpfCode.NONE, SpfIdentity.HELO, None, reason=Reason.SPF_NO_DOMAIN)
        return self._guarded("spf_helo", lambda: check_helo(ip, helo, resolver), broken)

    def begin_content(
        self, header: Header, author: Author, spf: SpfResult | None, now: float, resolver: Resolver
    ) -> None:
        """Read the signatures, and ask in parallel for all that the end of message will need."""

        def begin() -> None:
            self._verification = verification = Verification(header, int(now))
            names = list(verification.key_names)
            if author.domain is not None:
                for suffixes in self._readings:
                    names += names_to_prefetch(author.domain, spf, verification.sdids, suffixes)
            for name in names:
                resolver.prefetch(name, "TXT")

        self._guarded("dkim", begin, None)

    def body(self, chunk: bytes) -> None:
        """Hash a part of the body, in order."""
        verification = self._verification
        if verification is None:
            return

        def hash_chunk() -> bool:
            verification.body(chunk)
            return True

        if not self._guarded("dkim", hash_chunk, False):
            # A body with a hole in it must not be compared.
            self._verification = None

    def dkim(self, resolver: Resolver) -> tuple[DkimResult, ...]:
        """The result of every signature, after the whole body was seen."""
        broken = (DkimResult(DkimCode.TEMPERROR, None, reason=Reason.CHECK_FAILED),)
        verification = self._verification
        if verification is None:
            return broken
        return self._guarded("dkim", lambda: verification.finish(resolver), broken)

    def dmarc(
        self, author: Author, spf: SpfResult | None, dkim: tuple[DkimResult, ...], resolver: Resolver
    ) -> tuple[DmarcResult, DmarcResult | None]:
        """DMARC over what SPF and DKIM found (RFC 9989 5.3). The second is what differs, where the policy compares."""
        result, *others = [self._dmarc(author, spf, dkim, resolver, each) for each in self._readings]
        return result, next((other for other in others if _differ(result, other)), None)

    def _dmarc(
        self,
        author: Author,
        spf: SpfResult | None,
        dkim: tuple[DkimResult, ...],
        resolver: Resolver,
        suffixes: PublicSuffixes | None,
    ) -> DmarcResult:
        broken = DmarcResult(DmarcCode.TEMPERROR, author.domain, reason=Reason.CHECK_FAILED)
        result = self._guarded("dmarc", lambda: evaluate(author, spf, dkim, resolver, suffixes), broken)
        faulty = any(each is not None and each.reason is Reason.CHECK_FAILED for each in (spf, *dkim))
        # What a broken check of ours did not find might have passed: no mail is refused for that.
        return replace(broken, policy=result.policy) if faulty and result.code is DmarcCode.FAIL else result

    def fault(self, where: str, error: Exception) -> None:
        """Note a fault of filterd's own, with the line that raised it."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        self.faults.append(f"{where}: {type(error).__name__}: {error} ({frame.filename}:{frame.lineno})")

    def _guarded(self, check: str, find: Callable[[], T], broken: T) -> T:
        try:
            return find()
        except Exception as error:  # noqa: BLE001 # a fault in one check never costs the mail; it is logged and counted
            self.fault(check, error)
            return broken


def _differ(one: DmarcResult, other: DmarcResult) -> bool:
    # Where no record governs, nothing rests on the organizational domain.
    if one.code is other.code is DmarcCode.NONE:
        return False
    return (one.code, one.policy, one.organizational_domain) != (other.code, other.policy, other.organizational_domain)
