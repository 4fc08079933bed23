"""What a content scanner says of a mail, and in which form it is given one. Knows no scanner.

A scanner's own words become facts and header fields; whether they cost the mail anything is for the policy to say.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import StrEnum
from typing import Protocol

from filterd.mail.header import Header
from filterd.mail.reason import Reason
from filterd.mail.transaction import Transaction

#: How the names of a scanner's fields begin.
SCANNED = b"x-spam-"
# What a word of a Received field may be made of here; all else would let a client write the field.
_WORD = re.compile(r"[A-Za-z0-9:._\[\]-]{1,255}")


class SpamCode(StrEnum):
    """What the scanner thinks."""

    SPAM = "spam"
    HAM = "ham"
    SKIPPED = "skipped"  #: larger than is scanned
    TEMPERROR = "temperror"  #: no scanner could say


@dataclass(frozen=True, slots=True)
class SpamResult:
    """A scanner's result. `fields` are the header fields that it would add, in its order, as (name, value); further
    lines of a value are parted by "\\n\\t".

    `score` and `threshold` are in the scanner's own points, 0 where it gave none. `server` is who said so.
    """

    code: SpamCode
    score: float = 0.0
    threshold: float = 0.0
    symbols: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    server: str | None = None
    reason: Reason | None = None

    @property
    def report(self) -> str:
        """What the scanner says of each of its tests, where its fields have that."""
        return next((value for name, value in self.fields if name.lower() == "x-spam-report"), "")


class Scan(Protocol):
    """A mail that is being scanned."""

    def result(self) -> SpamResult:
        """What was found, at the latest when the scanner's time is over."""
        ...


class Scanner(Protocol):
    """Somebody who judges content."""

    def begin(self, mail: bytes, user: str | None) -> Scan:
        """Scan a whole mail, by the preferences of `user` where one is named; does not wait."""
        ...


def as_received(transaction: Transaction, authserv_id: str, at: float) -> bytes:
    """The two fields that the MTA would put on top at delivery (RFC 5321 4.4), which scanners judge the client by.

    `at` is in seconds since 1970.
    """
    client = transaction.client
    sender = transaction.sender.text if transaction.sender is not None else ""
    path = sender if sender.isprintable() and sender.isascii() and not set(sender) & set("<> ") else ""
    # RFC 3848: scanners trust what was submitted with authentication.
    protocol = "ESMTPA" if transaction.user is not None else "ESMTP"
    date = format_datetime(datetime.fromtimestamp(at, UTC))
    return (
        f"Return-Path: <{path}>\r\n"
        f"Received: from {_word(transaction.helo)} ({_word(client.name)} [{client.ip or '127.0.0.1'}])\r\n"
        f"\tby {_word(authserv_id)} with {protocol} id {_word(transaction.queue_id)}; {date}\r\n"
    ).encode("ascii")


def message(transaction: Transaction, authserv_id: str, at: float, header: Header, body: bytes) -> bytes:
    """A whole mail as it would be delivered: without the words of other scanners, which ours may take for its own."""
    fields = (each.raw for each in header if not each.key.startswith(SCANNED))
    return b"".join([as_received(transaction, authserv_id, at), *fields, b"\r\n", body])


def _word(text: str | None) -> str:
    return text if text and _WORD.fullmatch(text) else "unknown"
