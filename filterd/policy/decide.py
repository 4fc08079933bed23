"""The judgement: facts and results in, a verdict out. Pure: the same input gives the same verdict for ever."""

from dataclasses import replace

from filterd.dmarc.evaluate import DmarcCode
from filterd.mail.reply import Reply, printable
from filterd.mail.transaction import Stage
from filterd.policy.conditions import EvaluationError
from filterd.policy.facts import FACTS, Facts, FactValue
from filterd.policy.results import Results
from filterd.policy.rules import REPLY_FIELD, Action, Mode, Policy, Rule
from filterd.policy.verdict import QUARANTINE_FIELD, TAG_FIELD, AddField, Disposition, Edit, Step, StepOutcome, Verdict

Values = dict[str, FactValue | None]


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
    values: Values = {name: facts.value(name, results) for name in policy.facts[stage]}
    steps: list[Step] = []
    edits: list[Edit] = []
    decided: Rule | None = None
    for rule in rules:
        if decided is not None:
            steps.append(Step(rule.name, StepOutcome.NOT_REACHED))
            continue
        step = _try(rule, facts, values)
        steps.append(step)
        if step.outcome is not StepOutcome.FIRED:
            continue
        if rule.action is Action.TAG:
            edits.append(AddField(TAG_FIELD, rule.name))
        else:
            decided = rule
    if decided is None:
        return Verdict(edits=tuple(edits), steps=tuple(steps))
    disposition = decided.action.disposition or Disposition.CONTINUE
    if disposition is Disposition.QUARANTINE:
        edits.append(AddField(QUARANTINE_FIELD, decided.name))
    return Verdict(disposition, _reply(decided, values), decided.name, tuple(edits), tuple(steps))


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


def _try(rule: Rule, facts: Facts, values: Values) -> Step:
    read = tuple((name, values[name]) for name in rule.condition.facts)
    if facts.from_us and rule.judges_strangers:
        return Step(rule.name, StepOutcome.NOT_APPLICABLE, note="mail from us")
    missing = [name for name, value in read if value is None]
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
    text = REPLY_FIELD.sub(lambda field: str(values.get(field[1]) or ""), rule.reply.text)
    return Reply(rule.reply.code, rule.reply.status, printable(text))
