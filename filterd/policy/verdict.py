"""What is to be done with a mail: the one outcome of judging it at a stage.

Edits are intentions. `AddAuthenticationResults`, `Sign` and `Seal` carry no bytes; `engine.finish` makes them, in fixed
order.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import fsum

from filterd.mail.domain import Domain
from filterd.mail.reply import Reply


class Disposition(StrEnum):
    """What becomes of the mail."""

    CONTINUE = "continue"  #: nothing is decided yet
    ACCEPT = "accept"  #: a rule took it; nothing later refuses it
    QUARANTINE = "quarantine"  #: delivered, marked for the Junk folder
    HOLD = "hold"  #: kept in the MTA's hold queue
    DEFER = "defer"  #: refused for now (4xx)
    REJECT = "reject"  #: refused (5xx)
    DISCARD = "discard"  #: taken, and thrown away

    @property
    def final(self) -> bool:
        """Whether judging ends here: the mail is not going to be delivered."""
        return self in (Disposition.DEFER, Disposition.REJECT, Disposition.DISCARD)


#: The field that `then: tag` adds, with the rule's name.
TAG_FIELD = "X-Filterd-Tag"
#: The field that `then: quarantine` adds; Sieve scripts file such mail as Junk.
QUARANTINE_FIELD = "X-Filterd-Quarantine"


@dataclass(frozen=True, slots=True)
class AddField:
    """Add a header field above all others; `value` is its text."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class RemoveField:
    """Remove the header fields of a name: all, or those in whose text the RE2 pattern `matching` is found."""

    name: str
    matching: str | None = None


@dataclass(frozen=True, slots=True)
class RewriteField:
    """Give the header fields of a name another text: all, or those in whose text `matching` is found."""

    name: str
    value: str
    matching: str | None = None


@dataclass(frozen=True, slots=True)
class PrefixSubject:
    """Put a text and a space before the subject, unless it begins with that text."""

    text: str


@dataclass(frozen=True, slots=True)
class AddRecipient:
    """Send the mail to one more address."""

    address: str


@dataclass(frozen=True, slots=True)
class RemoveRecipient:
    """Do not send the mail to an address."""

    address: str


@dataclass(frozen=True, slots=True)
class RedirectTo:
    """Send the mail to this address instead of all others."""

    address: str


@dataclass(frozen=True, slots=True)
class ChangeSender:
    """Change the envelope sender; empty is the null sender."""

    address: str


@dataclass(frozen=True, slots=True)
class AddAuthenticationResults:
    """Remove what claims to be ours, and say what was found, above all other fields (RFC 8601 4.1, 5)."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """Remove what claims to be a scanner's word (X-Spam-*), and write the fields that ours gave, (name, value)."""

    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Sign:
    """Sign with every usable key of the author domain."""


@dataclass(frozen=True, slots=True)
class Seal:
    """Add an ARC set over all that the mail has then (RFC 8617 5.1)."""


HeaderEdit = AddField | RemoveField | RewriteField | PrefixSubject
EnvelopeEdit = AddRecipient | RemoveRecipient | RedirectTo | ChangeSender
#: What rules ask for.
RuleEdit = HeaderEdit | EnvelopeEdit
Edit = RuleEdit | Scanned | AddAuthenticationResults | Sign | Seal


@dataclass(frozen=True, slots=True)
class Summand:
    """One part of a mail's score, and who gave it: a rule, say."""

    source: str
    number: float


def score_of(summands: Iterable[Summand]) -> float:
    """The sum, to three decimals: what was written in decimal adds up in decimal."""
    return round(fsum(each.number for each in summands), 3)


class StepOutcome(StrEnum):
    """What became of one rule."""

    FIRED = "fired"
    OBSERVED = "observed"  #: would have fired; its mode is observe
    DID_NOT_FIRE = "did not fire"
    NOT_APPLICABLE = "not applicable"  #: it names a stranger's check, and the mail is from us
    NOT_EVALUATED = "not evaluated"  #: its condition failed on these facts, which counts as false
    CANNOT_TELL = "cannot tell"  #: a fact that it names could not be had
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class Step:
    """One rule's part in a judgement, with the facts that it read."""

    rule: str
    outcome: StepOutcome
    facts: tuple[tuple[str, object], ...] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one stage. `rule` is the one that decided; None where none did.

    `summands` are what this stage added to the score.
    `override` is the trusted ARC sealer without whose word a mail that fails DMARC would have ended otherwise.
    """

    disposition: Disposition = Disposition.CONTINUE
    reply: Reply | None = None
    rule: str | None = None
    edits: tuple[Edit, ...] = ()
    steps: tuple[Step, ...] = ()
    summands: tuple[Summand, ...] = ()
    override: Domain | None = None
