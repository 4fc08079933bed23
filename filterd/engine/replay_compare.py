"""How stored mails end under one policy, and under another: what would change, and by which rule."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from filterd.backend.recorded import RecordedResolver
from filterd.engine.gather import Gather
from filterd.engine.replay import StoredMail, judge
from filterd.engine.replay_mail import Told, UnknownError, from_fields, told
from filterd.engine.replay_record import RecordedGather, unknown
from filterd.engine.runtime import Clock, Runtime
from filterd.lookup import Resolver
from filterd.mail.message import split
from filterd.mail.transaction import Stage, Transaction
from filterd.policy.edit_words import edit_words
from filterd.policy.explain import DECIDED
from filterd.policy.rules import Policy
from filterd.policy.transcript import Content, Transcript
from filterd.policy.verdict import StepOutcome, Verdict

View = Callable[[float], Resolver]
_AS_DELIVERED = "accepted"
_MAX_WHY = 1_000  # reasons that are counted apart


@dataclass(frozen=True, slots=True)
class Source:
    """Where the facts of stored mails come from: their own Received fields, the results of a server; else as given."""

    from_received: bool = False
    results_of: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How one mail ends. `fired` are the rules that did something; `unknown` says why it cannot be told."""

    verdict: str
    rule: str | None = None
    fired: frozenset[str] = frozenset()
    edits: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unknown_rules: frozenset[str] = frozenset()

    def __str__(self) -> str:
        if self.unknown:
            return f"cannot tell: {'; '.join(self.unknown)}"
        by = f" by {self.rule}" if self.rule else ""
        edits = f" ({', '.join(sorted(self.fired - {self.rule}))})" if self.fired - {self.rule} else ""
        return f"{self.verdict}{by}{edits}"

    def same_as(self, other: "Ending") -> bool:
        return (self.verdict, self.rule, self.edits) == (other.verdict, other.rule, other.edits)


#: A mail that lies in a mailbox was delivered.
DELIVERED = Ending(_AS_DELIVERED)


@dataclass(slots=True)
class Tally:
    """What all mails together come to. By rule: on how many it acted, acts, newly, no longer, and cannot be told."""

    mails: int = 0
    same: int = 0
    changed: int = 0
    unknown: int = 0
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    why: Counter[str] = field(default_factory=Counter)
    rules: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, before: Ending, after: Ending) -> bool:
        """Count a mail; whether its end changes."""
        self.mails += 1
        for rule in after.unknown_rules:
            self._rule(rule)["cannot tell"] += 1
        if before.unknown or after.unknown:
            self.unknown += 1
            why = (after.unknown or before.unknown)[0]
            self.why[why if why in self.why or len(self.why) < _MAX_WHY else "other reasons"] += 1
            return False
        for rule in before.fired | after.fired:
            counted = self._rule(rule)
            counted["before"] += rule in before.fired
            counted["after"] += rule in after.fired
            counted["newly"] += rule not in before.fired
            counted["no longer"] += rule not in after.fired
        if before.same_as(after):
            self.same += 1
            return False
        self.changed += 1
        self.changes[(str(before), str(after))] += 1
        return True

    def _rule(self, name: str) -> Counter[str]:
        return self.rules.setdefault(name, Counter())


def ending(policy: Policy, authserv_id: str, mail: StoredMail, view: View | None, source: Source) -> Ending:
    """Judge a stored mail. Without a view of DNS, as `Runtime.resolver` is one, what needs it cannot be told."""
    header, _ = split(mail.data)
    clock = Clock()
    try:
        if source.from_received:
            mail, at = from_fields(header, mail, policy.settings.networks)
            clock = Clock(now=lambda: at) if at is not None else clock
        if not mail.recipients and policy.rules[Stage.RCPT]:
            raise UnknownError("no recipient is known, and rules judge recipients")
        asked = RecordedResolver(())
        gather: Callable[[Policy], Gather] = Gather
        if source.results_of is not None:
            gather = _believing(told(header, source.results_of), mail, asked)
    except UnknownError as error:
        return Ending("", unknown=(str(error),))
    taken: list[Transcript] = []
    runtime = Runtime(policy.offline(), authserv_id, view or (lambda _: asked), taken.append, clock, gather=gather)
    judge(runtime, mail)
    if not taken:
        return Ending("", unknown=("the mail has no recipient that is taken",))
    return _ended(policy, taken[-1], asked)


def _believing(said: Told, mail: StoredMail, asked: RecordedResolver) -> Callable[[Policy], Gather]:
    """Checks that take another server's word; what it did not say they find out."""
    transaction = Transaction("offline", mail.client, mail.helo, mail.user, mail.sender, mail.recipients)
    header, body = split(mail.data)
    seen = Transcript(
        transaction, 0.0, "", "", None, None, None, said.results, (), Verdict(), content=Content(header, body)
    )
    return lambda policy: RecordedGather(policy, seen, asked, said.unknown)


def _ended(policy: Policy, transcript: Transcript, asked: RecordedResolver) -> Ending:
    verdict = transcript.verdict
    steps = [step for judgement in transcript.judgements for step in judgement.verdict.steps]
    fired = {step.rule for step in steps if step.outcome is StepOutcome.FIRED}
    untold = frozenset(step.rule for step in steps if step.outcome is StepOutcome.CANNOT_TELL)
    why = unknown(policy, transcript)
    if not why and asked.unasked and transcript.from_us:
        why = (f"dns for {asked.unasked[0]} was not asked",)
    if verdict.rule:
        fired.add(verdict.rule)
    edits = tuple(words for edit in verdict.edits if (words := edit_words(edit)))
    return Ending(DECIDED[verdict.disposition], verdict.rule, frozenset(fired), edits, why, untold)
