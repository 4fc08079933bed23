"""The compiled policy: frozen, safe to share between threads and across fork."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

from filterd.dmarc.org_domain import PublicSuffixes
from filterd.limits.greylist import Terms
from filterd.limits.keys import Fold
from filterd.limits.rate import Rate, Unit
from filterd.mail.domain import Domain
from filterd.mail.reply import Reply
from filterd.mail.transaction import Stage
from filterd.policy.conditions import Condition
from filterd.policy.facts import FACTS, Check
from filterd.policy.policy_tests import PolicyTest
from filterd.policy.schema import PolicyFile, Server
from filterd.policy.shadow import Candidate
from filterd.policy.signers import Sealer, Signers
from filterd.policy.verdict import AddField, Disposition, PrefixSubject, RewriteField, RuleEdit

#: A fact in the text of a reply or a header field.
FACT_FIELD = re.compile(r"\{([^{}]*)\}")
#: What a limit's reply may name besides facts.
LIMIT_FIELDS = ("limit.name", "limit.remaining", "limit.retry_after")
#: What the reply of greylisting may name besides facts.
GREYLIST_FIELD = "greylist.retry_after"


class Action(StrEnum):
    """What a rule decides, as it is written behind `then:`; nothing after it is asked."""

    ACCEPT = "accept"  #: deliver; no later rule refuses
    REJECT = "reject"  #: refuse for good (5xx)
    DEFER = "defer"  #: refuse for now (4xx)
    DISCARD = "discard"  #: take it and throw it away
    QUARANTINE = "quarantine"  #: deliver, marked for the Junk folder
    HOLD = "hold"  #: keep it in the MTA's hold queue

    @property
    def disposition(self) -> Disposition:
        """What becomes of the mail."""
        return Disposition(self.value)


class Mode(StrEnum):
    """Whether a rule is carried out."""

    ENFORCE = "enforce"
    OBSERVE = "observe"  #: decided and logged, never carried out


def edit_text(edit: RuleEdit) -> str | None:
    """The text of an edit that may have {fact} fields; None where it has no such text."""
    match edit:
        case AddField() | RewriteField():
            return edit.value
        case PrefixSubject():
            return edit.text
    return None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    `action` is None where judging goes on. The texts of `reply` and `edits` have {fact} fields. `line` is its place in
    the file, or 0.
    """

    name: str
    condition: Condition
    action: Action | None
    stage: Stage
    reply: Reply | None = None
    mode: Mode = Mode.ENFORCE
    line: int = 0
    edits: tuple[RuleEdit, ...] = ()
    score: float | None = None

    @property
    def shown_facts(self) -> tuple[str, ...]:
        """The facts that its reply and its header fields show."""
        texts = [self.reply.text] if self.reply else []
        texts += [text for edit in self.edits if (text := edit_text(edit)) is not None]
        return tuple(dict.fromkeys(name for text in texts for name in FACT_FIELD.findall(text)))

    @property
    def judges_strangers(self) -> bool:
        """Whether it names a fact that is never found out about mail from us."""
        return _judge_strangers(self.condition.facts)


# Asked of every rule for every mail from us.
@lru_cache(maxsize=4096)
def _judge_strangers(facts: tuple[str, ...]) -> bool:
    return any(FACTS[name].check not in (None, Check.SPAM) for name in facts)


@dataclass(frozen=True, slots=True)
class Limit:
    """The rates of one limit that are charged at one stage: `rule.stage`.

    `rule` has its name, its condition (`when` without `exempt`), what it does, and whether it is carried out. `key` are
    facts. `overrides` are other rates for the keys that have them; none means that nothing is counted.
    """

    rule: Rule
    key: tuple[str, ...]
    rates: tuple[Rate, ...]
    reply: Reply | None = None
    overrides: Mapping[str, tuple[Rate, ...]] = field(default_factory=dict)
    fold: Fold = field(default_factory=Fold)
    on_error: str = "skip"

    @property
    def facts(self) -> tuple[str, ...]:
        """All that its condition, key and reply name."""
        named = FACT_FIELD.findall(self.reply.text) if self.reply else ()
        return (*self.rule.condition.facts, *self.key, *(name for name in named if name not in LIMIT_FIELDS))

    def rates_of(self, key: str) -> tuple[Rate, ...]:
        return self.overrides.get(key, self.rates)


@dataclass(frozen=True, slots=True)
class Greylist:
    """Who has to come again: strangers of whom `rule`'s condition holds (`when` without `exempt`)."""

    rule: Rule
    terms: Terms
    reply: Reply
    fold: Fold = field(default_factory=Fold)
    on_error: str = "accept"

    @property
    def facts(self) -> tuple[str, ...]:
        """All that its condition and reply name, and what tells who sends."""
        named = (name for name in FACT_FIELD.findall(self.reply.text) if name != GREYLIST_FIELD)
        return tuple(dict.fromkeys((*self.rule.condition.facts, *named, "spf.result")))


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that can be run.

    `rules` are those of each stage, in order. `checks` are those that a rule or the Authentication-Results field needs.
    `facts` are the names that each stage's rules and limits read. `digest` names this very text. `suffixes` is the
    public suffix list, where DMARC is judged or compared by it. `sealer` is None where nothing is sealed.
    `envelope_only`: content is not seen, and nothing here needs it. `shadow` is what judges the same mail beside, if
    anything does. `limits` are those that are charged at each stage.
    """

    settings: PolicyFile
    mail_from_us: Condition
    signers: Signers
    rules: dict[Stage, tuple[Rule, ...]]
    checks: frozenset[Check]
    facts: dict[Stage, tuple[str, ...]]
    digest: str
    suffixes: PublicSuffixes | None = None
    sealer: Sealer | None = None
    trusted_sealers: frozenset[Domain] = frozenset()
    tests: tuple[PolicyTest, ...] = ()
    envelope_only: bool = False
    shadow: Candidate | None = None
    limits: Mapping[Stage, tuple[Limit, ...]] = field(default_factory=lambda: dict.fromkeys(Stage, ()))
    greylist: Greylist | None = None
    # Found once, as every mail asks at each of its stages.
    _judged: frozenset[Stage] = field(init=False, repr=False, compare=False)
    _needs: Mapping[Stage, frozenset[Check]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        judged = (stage for stage in Stage if self.rules[stage] or self.limits[stage] or self.greylists(stage))
        needs = {
            stage: frozenset(check for name in names if (check := FACTS[name].check))
            for stage, names in self.facts.items()
        }
        object.__setattr__(self, "_judged", frozenset(judged))
        object.__setattr__(self, "_needs", needs)

    @property
    def edits(self) -> frozenset[type[RuleEdit]]:
        """The kinds of edits that its rules ask for."""
        return frozenset(type(edit) for rules in self.rules.values() for rule in rules for edit in rule.edits)

    @property
    def server(self) -> Server:
        return self.settings.server

    @property
    def failure_limits(self) -> tuple[Limit, ...]:
        """The limits that count refused recipients, at whatever stage they are asked."""
        of_all = (limit for limits in self.limits.values() for limit in limits)
        return tuple(limit for limit in of_all if any(rate.unit is Unit.FAILURES for rate in limit.rates))

    def offline(self) -> "Policy":
        """For mail that is judged offline: nobody is charged for it or waits, and what was counted is not known."""
        return replace(self, limits=dict.fromkeys(Stage, ()), greylist=None)

    def names(self, group: str) -> bool:
        """Whether any rule names a fact of a group, such as `trusted`."""
        return any(name.startswith(f"{group}.") for names in self.facts.values() for name in names)

    def judges(self, stage: Stage) -> bool:
        """Whether any rule or limit can decide at that stage, or greylisting."""
        return stage in self._judged

    def greylists(self, stage: Stage) -> bool:
        """Whether greylisting may judge at that stage."""
        return self.greylist is not None and stage in (Stage.RCPT, Stage.DATA)

    def needs_at(self, stage: Stage) -> frozenset[Check]:
        """The checks whose results rules of that stage read."""
        return self._needs[stage]
