"""A policy in shadow: the candidate that judges live mail beside the policy in force, and changes nothing.

What the two of them come to is kept here; `engine/shadow.py` finds it out.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from filterd.policy.errors import PolicyError
from filterd.policy.verdict import Disposition, StepOutcome

if TYPE_CHECKING:
    from filterd.policy.rules import Policy


@dataclass(frozen=True, slots=True)
class Candidate:
    """What `shadow:` names. `policy` is None where the file cannot be used; `errors` say why."""

    file: str
    policy: "Policy | None" = None
    errors: tuple[PolicyError, ...] = ()


class Divergence(StrEnum):
    """In what the candidate would have differed, the weightiest alone."""

    SAME = "same"  #: nothing
    VERDICT = "verdict"  #: what becomes of the mail
    RECIPIENTS = "recipients"  #: which recipients are refused alone
    EDITS = "edits"  #: what is changed of the mail
    CANNOT_TELL = (
        "cannot-tell"  #: a rule of the candidate names what was not found out about this mail, or a limit has decided
    )
    FAILED = "failed"  #: the candidate could not be asked, by a fault of ours; `fault` has it


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a mail, or of one recipient, and by which rule; None where none decided.

    A mail that an earlier refusal cut short may `continue` by the candidate: what it had come to was not seen. At its
    end, what no rule decided is accepted.
    """

    disposition: Disposition = Disposition.CONTINUE
    rule: str | None = None

    @property
    def words(self) -> tuple[str, str]:
        """Disposition and rule as the log and metrics say them."""
        return self.disposition.value, self.rule or "-"


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """What became of one rule of the candidate."""

    rule: str
    outcome: StepOutcome


@dataclass(frozen=True, slots=True)
class Shadow:
    """What a mail would have come to by the candidate, whose digest is `policy`.

    `live` and `candidate` are those of the mail, or of the first recipient that would have fared otherwise. `rules` are
    the candidate's, as far as it went, where it diverges.
    """

    policy: str
    divergence: Divergence
    live: Fate = Fate()
    candidate: Fate = Fate()
    rules: tuple[RuleOutcome, ...] = ()

    @property
    def word(self) -> str:
        """For the log: `same`, or in what it differs, and what the candidate says."""
        if self.divergence in (Divergence.SAME, Divergence.FAILED):
            return self.divergence.value
        if self.divergence is Divergence.CANNOT_TELL:
            return f"{self.divergence}:{self.candidate.rule}"
        return ":".join((self.divergence.value, *self.candidate.words))
