"""Run checks. The one place where a check's own fault is caught: it becomes that check's temperror."""

import traceback
from collections.abc import Callable
from typing import TypeVar

from filterd.dkim.verify import DkimCode, DkimResult, Verification
from filterd.dmarc.evaluate import DmarcCode, DmarcResult, evaluate, names_to_prefetch
from filterd.lookup import Resolver
from filterd.mail.header import Header
from filterd.mail.message import Author
from filterd.mail.reason import Reason
from filterd.mail.transaction import Transaction
from filterd.spf.check import SpfCode, SpfIdentity, SpfResult, check_helo, check_mail_from

T = TypeVar("T")


class Gather:
    """The checks of one mail. `faults` says what filterd itself could not do, for the log."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._verification: Verification | None = None

    def spf(self, transaction: Transaction, resolver: Resolver) -> SpfResult:
        """SPF of the envelope sender (RFC 7208 2.4). Without a client address there is nothing to authorize."""
        sender, ip, helo = transaction.sender, transaction.client.ip, transaction.helo or ""
        broken = SpfResult(SpfCode.TEMPERROR, SpfIdentity.MAILFROM, None, reason=Reason.CHECK_FAILED)
        if ip is None or sender is None or (sender.mailbox is None and not sender.null):
            return SpfResult(SpfCode.NONE, SpfIdentity.MAILFROM, None, reason=Reason.SPF_NO_DOMAIN)
        return self._guarded("spf", lambda: check_mail_from(ip, sender.mailbox, helo, resolver), broken)

    def spf_helo(self, transaction: Transaction, resolver: Resolver) -> SpfResult:
        """SPF of the HELO name (RFC 7208 2.3)."""
        ip, helo = transaction.client.ip, transaction.helo
        broken = SpfResult(SpfCode.TEMPERROR, SpfIdentity.HELO, None, reason=Reason.CHECK_FAILED)
        if ip is None or not helo:
            return SpfResult(SpfCode.NONE, SpfIdentity.HELO, None, reason=Reason.SPF_NO_DOMAIN)
        return self._guarded("spf_helo", lambda: check_helo(ip, helo, resolver), broken)

    def begin_content(self, header: Header, author: Author, now: float, resolver: Resolver) -> None:
        """Read the signatures, and ask in parallel for all that the end of message will need."""

        def begin() -> None:
            self._verification = verification = Verification(header, int(now))
            names = list(verification.key_names)
            if author.domain is not None:
                names += names_to_prefetch(author.domain)
            for name in names:
                resolver.prefetch(name, "TXT")

        self._guarded("dkim", begin, None)

    def body(self, chunk: bytes) -> None:
        """Hash a part of the body, in order."""
        verification = self._verification
        if verification is not None and not self._guarded("dkim", lambda: verification.body(chunk) or True, False):
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
    ) -> DmarcResult:
        """DMARC over what SPF and DKIM found (RFC 9989 5.3)."""
        broken = DmarcResult(DmarcCode.TEMPERROR, author.domain, reason=Reason.CHECK_FAILED)
        return self._guarded("dmarc", lambda: evaluate(author, spf, dkim, resolver), broken)

    def _guarded(self, check: str, find: Callable[[], T], broken: T) -> T:
        try:
            return find()
        except Exception as error:  # noqa: BLE001 # a fault in one check never costs the mail; it is logged and counted
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.faults.append(f"{check}: {type(error).__name__}: {error} ({where.filename}:{where.lineno})")
            return broken
