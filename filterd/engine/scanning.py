"""The content of one mail for the scanner: collected as it comes, shown when it is whole, while all else goes on."""

from dataclasses import dataclass, field

from filterd.mail.header import Header
from filterd.mail.reason import Reason
from filterd.mail.transaction import Transaction
from filterd.policy.reputation import SpamdSection
from filterd.spam import Scan, Scanner, SpamCode, SpamResult, message

_TOO_LARGE = SpamResult(SpamCode.SKIPPED, reason=Reason.SPAM_TOO_LARGE)


@dataclass(slots=True)
class Scanning:
    """One mail's way to the scanner."""

    settings: SpamdSection
    scanner: Scanner
    _body: list[bytes] = field(default_factory=list)
    _size: int = 0
    _scan: Scan | SpamResult | None = None

    def body(self, chunk: bytes) -> None:
        """A part of the body, in order."""
        self._size += len(chunk)
        if self._size <= self.settings.max_size:
            self._body.append(chunk)
        else:
            self._body.clear()

    def begin(self, transaction: Transaction, authserv_id: str, at: float, header: Header) -> None:
        """The mail is whole: the scanner may begin, and is not waited for."""
        octets = sum(len(each.name) + len(each.value) + 3 for each in header)
        if octets + self._size > self.settings.max_size:
            self._scan = _TOO_LARGE
            return
        recipients = transaction.recipients
        user = recipients[0].text if self.settings.user == "recipient" and len(recipients) == 1 else None
        self._scan = self.scanner.begin(message(transaction, authserv_id, at, header, b"".join(self._body)), user)
        self._body.clear()

    def result(self) -> SpamResult | None:
        """What the scanner thinks; waits for it. None where it was not asked, as the mail was decided before."""
        return self._scan if self._scan is None or isinstance(self._scan, SpamResult) else self._scan.result()
