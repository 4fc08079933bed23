"""The judgement: facts and results in, a verdict out. Pure: the same input gives the same verdict for ever."""

from collections.abc import Mapping
from dataclasses import replace

from filterd.dmarc.evaluate import DmarcCode
from filterd.mail.reply import Reply, printable, reply_text
from filterd.mail.transaction import Stage
from filterd.policy.conditions import EvaluationError
from filterd.policy.facts import FACTS, SCORE, Facts, FactValue
from filterd.policy.results import Results
from filterd.policy.rules import FACT_FIELD, Mode, Policy, Rule
from filterd.policy.verdict import (
    QUARANTINE_FIELD,
    AddField,
    Disposition,
    Edit,
    PrefixSubject,
    RewriteField,
    RuleEdit,
    Step,
    StepOutcome,
    Summand,
    Verdict,
    score_of,
)

Values = dict[str, FactValue | None]


class _Read(Values):
    """The facts, each read when a rule first asks for it."""

    def __init__(self, facts: Facts, results: Results) -> None:
        self._facts, self._results = facts, results

    def __missing__(self, name: str) -> FactValue | None:
        value = self[name] = self._facts.value(name, self._results)
        return value


def decide(policy: Policy, stage: Stage, facts: Facts, results: Results) -> Verdict:
    """Judge one stage: its rules in order, until one with a final action fires (DESIGN: stages)."""
    verdict = _decided(policy, stage, facts, results)
    hop, dmarc = results.arc_trusted, results.dmarc
    if hop is None or dmarc is None or dmarc.code is not DmarcCode.FAIL:
        return verdict
    without = _decided(policy, stage, facts, replace(results, arc_trusted=None))
    return verdict if verdict.disposition is without.disposition else replace(verdict, override=hop.sealer)


def _decided(policy: Policy, stage: Stage, facts: Facts, results: Results) -> Verdict:
    rules = policy.rules[stage]
    if not rules:
        return Verdict()
    values = _Read(facts, results)
    steps: list[Step] = []
    edits: list[Edit] = []
    summands: list[Summand] = []
    decided: Rule | None = None
    for rule in rules:
        if decided is not None:
            steps.append(Step(rule.name, StepOutcome.NOT_REACHED))
            continue
        step = try_rule(rule, facts, values)
        steps.append(step)
        if step.outcome is not StepOutcome.FIRED:
            continue
        if rule.score is not None:
            summands.append(Summand(rule.name, rule.score))
            values[SCORE] = score_of((*facts.summands, *summands))
        edits += [_filled(edit, values) for edit in rule.edits]
        decided = rule if rule.action else None
    if decided is None or decided.action is None:
        return Verdict(edits=tuple(edits), steps=tuple(steps), summands=tuple(summands))
    disposition = decided.action.disposition
    if disposition is Disposition.QUARANTINE:
        edits.append(AddField(QUARANTINE_FIELD, decided.name))
    reply = _reply(decided, values)
    return Verdict(disposition, reply, decided.name, tuple(edits), tuple(steps), tuple(summands))


def whose(policy: Policy, facts: Facts) -> bool:
    """Whether the mail is ours: `mail_from_us`, at MAIL. What comes from our own relays never is."""
    if facts.client_relay:
        return False
    values = {
        name: value for name in policy.mail_from_us.facts if (value := FACTS[name].read(facts, Results())) is not None
    }
    try:
        return policy.mail_from_us.holds(values)
    except EvaluationError:
        return False


def try_rule(rule: Rule, facts: Facts, values: Values) -> Step:
    """Whether the rule's condition holds, on values for at least its facts."""
    if facts.from_us and rule.judges_strangers:
        return Step(rule.name, StepOutcome.NOT_APPLICABLE, note="mail from us")
    read = tuple((name, values[name]) for name in rule.condition.facts)
    # A field that the mail does not have is known not to be there.
    missing = [name for name, value in read if value is None and (facts.header is None or name[-1] != ")")]
    try:
        # CEL's logic says whether what is missing would matter: `false && missing` is false.
        holds = rule.condition.holds({name: value for name, value in read if value is not None})
    except EvaluationError as error:
        if missing:
            why = dict.fromkeys(map(facts.why_not, missing))
            return Step(rule.name, StepOutcome.CANNOT_TELL, read, "; ".join(why))
        return Step(rule.name, StepOutcome.NOT_EVALUATED, read, f"the condition fails: {error}")
    if not holds:
        return Step(rule.name, StepOutcome.DID_NOT_FIRE, read)
    return Step(rule.name, StepOutcome.OBSERVED if rule.mode is Mode.OBSERVE else StepOutcome.FIRED, read)


def _reply(rule: Rule, values: Values) -> Reply | None:
    if rule.reply is None:
        return None
    # What a fact says is a part of its line, and begins none.
    shown = {name: printable(_text(values[name])) for name in FACT_FIELD.findall(rule.reply.text)}
    return Reply(rule.reply.code, rule.reply.status, reply_text(_fill(rule.reply.text, shown)) or "refused by policy")


def _filled(edit: RuleEdit, values: Values) -> RuleEdit:
    match edit:
        case AddField() | RewriteField():
            return replace(edit, value=_fill(edit.value, values))
        case PrefixSubject():
            return replace(edit, text=_fill(edit.text, values))
    return edit


def _fill(text: str, values: Mapping[str, FactValue | None]) -> str:
    return FACT_FIELD.sub(lambda field: _text(values[field[1]]), text)


def _text(value: FactValue | None) -> str:
    """A fact within a text; empty where it could not be had."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case list():
            return ", ".join(value)
    return str(value)
