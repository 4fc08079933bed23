"""A mail in the queue: its envelope, and how far each recipient has come; as values, and as the text of a file."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from pydantic import TypeAdapter, ValidationError


class EnvelopeError(ValueError):
    """This is no envelope."""


class Fate(StrEnum):
    """How far a recipient's mail has come."""

    WAITING = "waiting"  #: to be tried, or tried again
    DELIVERED = "delivered"  #: there, or with the next server
    FAILED = "failed"  #: never to be there; the sender is not told yet
    BOUNCED = "bounced"  #: never to be there, and the sender is told, if there is one


@dataclass(frozen=True, slots=True)
class QueuedRecipient:
    """One recipient. `address` has no angle brackets.

    `status` is the enhanced code (RFC 3463) that came of the last try, `reply` the text that came with it: the whole
    SMTP reply of `host` where another server gave it, else ours.
    """

    address: str
    fate: Fate = Fate.WAITING
    status: str = ""
    reply: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class QueuedMail:
    """A mail's envelope. Times are seconds since 1970; `size` is the content's, in octets.

    `sender` is empty for the null path. `due` is when it is tried next, `attempts` how often it was. `hold` is why a
    person has to release it, None where nobody has to. `cause` is the queue id of the mail that a bounce tells of.
    `smtputf8` is whether the client asked for that (RFC 6531).
    """

    queue_id: str
    sender: str
    recipients: tuple[QueuedRecipient, ...]
    size: int
    arrived: float
    due: float
    attempts: int = 0
    hold: str | None = None
    cause: str | None = None
    smtputf8: bool = False

    @property
    def waiting(self) -> tuple[QueuedRecipient, ...]:
        """The recipients that do not have it yet."""
        return tuple(each for each in self.recipients if each.fate is Fate.WAITING)

    @property
    def failed(self) -> tuple[QueuedRecipient, ...]:
        """The recipients that will never have it, of whom the sender has to be told."""
        return tuple(each for each in self.recipients if each.fate is Fate.FAILED)

    def after(self, outcomes: Iterable[QueuedRecipient]) -> "QueuedMail":
        """The mail, with what has come of some of its recipients."""
        new = {each.address: each for each in outcomes}
        return replace(self, recipients=tuple(new.get(each.address, each) for each in self.recipients))

    def to_json(self) -> bytes:
        """The text of its file."""
        return _FORM.dump_json(self)


_FORM = TypeAdapter(QueuedMail)


def new_mail(queue_id: str, sender: bytes, recipients: Iterable[bytes], hold: bytes | None = None) -> QueuedMail:
    """A mail that has come just now. Addresses are UTF-8 (RFC 6531 3.3); what is not can go nowhere."""
    now = time.time()
    return QueuedMail(
        queue_id,
        sender.decode("utf-8", "replace"),
        tuple(QueuedRecipient(each.decode("utf-8", "replace")) for each in recipients),
        0,
        now,
        now,
        hold=None if hold is None else hold.decode("utf-8", "replace"),
    )


def read_envelope(text: bytes) -> QueuedMail:
    """Read a file's text. Raises EnvelopeError."""
    try:
        return _FORM.validate_json(text, strict=True)
    except ValidationError:
        raise EnvelopeError("this is no envelope of a queued mail") from None
