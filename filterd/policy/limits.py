"""Limits as part of the judgement: what a mail is charged for at a stage, and what comes of it. Pure: no store here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from filterd.limits.keys import BucketName, key_text, network, readable_key, short
from filterd.limits.rate import Rate, Unit
from filterd.limits.window import Charge, Recorded, Standing
from filterd.mail.reply import Reply, printable
from filterd.mail.transaction import Stage
from filterd.policy.decide import try_rule
from filterd.policy.facts import Facts, FactValue
from filterd.policy.results import Results
from filterd.policy.rules import FACT_FIELD, Action, Limit, Mode
from filterd.policy.verdict import QUARANTINE_FIELD, AddField, Disposition, Step, StepOutcome, Verdict

_APPLIES = (StepOutcome.FIRED, StepOutcome.OBSERVED)


@dataclass(frozen=True, slots=True)
class Asked:
    """What one limit asks of the store for a mail; `step` alone where it asks nothing."""

    limit: Limit
    step: Step
    values: Mapping[str, FactValue | None] = field(default_factory=dict)
    key: str = ""
    rates: tuple[Rate, ...] = ()
    charges: tuple[Charge, ...] = ()


@dataclass(frozen=True, slots=True)
class MailSoFar:
    """What the charges of a mail say: under which name it is held, and whether what it holds is counted if nobody ends
    it. `total` is how many recipients it would have in a bucket, with the one that is judged."""

    member: str
    kept: bool
    total: Callable[[str], int]


def ask(limit: Limit, facts: Facts, results: Results, mail: MailSoFar, *, failed: bool = False) -> Asked:
    """What the limit charges this mail for. `failed`: the recipient was refused, and that is what is charged."""
    values = {name: facts.value(name, results) for name in limit.facts}
    step = try_rule(limit.rule, facts, values)
    if step.outcome not in _APPLIES:
        return Asked(limit, step)
    key = _key(limit, values)
    if key is None:
        return Asked(limit, replace(step, outcome=StepOutcome.DID_NOT_FIRE, note="there is no key to count by"))
    charges, rates = [], []
    for rate in limit.rates_of(key):
        if failed is (rate.unit is Unit.FAILURES) or not failed:
            charge = _charge(limit, rate, BucketName.of(limit.rule.name, rate, key), facts, mail, failed=failed)
            if charge is not None:
                charges.append(charge)
                rates.append(rate)
    return Asked(limit, step, values, key, tuple(rates), tuple(charges))


def weigh(verdict: Verdict, asked: Sequence[Asked], standings: Sequence[Standing]) -> Verdict:
    """The stage's verdict with what the limits say; the first that is passed decides. `standings` are those of all
    charges, in order."""
    left = iter(standings)
    for each in asked:
        found = [(rate, next(left)) for rate in each.rates]
        if not found:
            verdict = replace(verdict, steps=(*verdict.steps, each.step))
            continue
        # The one that is passed, or nearest to it, and of several the one that lasts longest.
        rate, standing = min(found, key=lambda one: (one[1].fits, -one[1].retry_after, one[0].most - one[1].used))
        step = _step(each, rate, standing)
        verdict = replace(verdict, steps=(*verdict.steps, step))
        if step.outcome is StepOutcome.FIRED and not verdict.disposition.final:
            verdict = _carried_out(verdict, each, step)
    return verdict


def uncounted(verdict: Verdict, asked: Sequence[Asked], why: str) -> Verdict:
    """The stage's verdict where the store is away: as the limits have declared, the first of them that refuses."""
    for each in asked:
        note = f"the state store is away: {why}"
        step = replace(each.step, outcome=StepOutcome.CANNOT_TELL, note=note) if each.charges else each.step
        verdict = replace(verdict, steps=(*verdict.steps, step))
        enforced = each.charges and each.limit.rule.mode is Mode.ENFORCE
        if enforced and each.limit.on_error in _UNCOUNTED and not verdict.disposition.final:
            disposition, reply = _UNCOUNTED[each.limit.on_error]
            verdict = replace(verdict, disposition=disposition, reply=reply, rule=each.limit.rule.name)
    return verdict


_UNCOUNTED = {
    "defer": (Disposition.DEFER, Reply(451, "4.3.0", "cannot count this mail now, try again later")),
    "reject": (Disposition.REJECT, Reply(554, "5.3.0", "cannot count this mail")),
}


def _key(limit: Limit, values: Mapping[str, FactValue | None]) -> str | None:
    found = [values[name] for name in limit.key]
    # Whom nothing is known of is not all the others of whom nothing is known.
    if any(value is None or value == "" for value in found):
        return None
    texts = zip(limit.key, map(str, found), strict=True)
    return key_text([network(text, limit.fold) if name == "client.ip" else text for name, text in texts])


def _charge(
    limit: Limit, rate: Rate, name: BucketName, facts: Facts, mail: MailSoFar, *, failed: bool
) -> Charge | None:
    bucket = str(name)
    rule = limit.rule
    binding = rule.mode is Mode.ENFORCE and rule.action in (Action.DEFER, Action.REJECT)
    charge = Charge(bucket, rate.most, rate.span, 1, mail.member, mail.kept, binding)
    if rate.unit.distinct:
        # Remembered for as long as it counts, whatever becomes of the mail.
        charge = replace(charge, kept=True, recorded=Recorded.ALWAYS, held_for=2 * rate.span)
    match rate.unit:
        case Unit.RECIPIENTS:
            whole = rule.stage is not Stage.RCPT
            cost = facts.transaction.recipient_count if whole else mail.total(bucket)
            return replace(charge, cost=cost)
        case Unit.BYTES:
            return replace(charge, cost=facts.size or 0)
        case Unit.NETWORKS:
            ip = facts.transaction.client.ip
            return replace(charge, member=short(network(str(ip), limit.fold))) if ip is not None else None
        case Unit.FAILURES:
            if not failed:
                return replace(charge, member="-", recorded=Recorded.NEVER)
            recipient = facts.recipient.address if facts.recipient is not None else ""
            return replace(charge, member=short(recipient), binding=False)
        case Unit.MESSAGES:
            return charge


def _step(asked: Asked, rate: Rate, standing: Standing) -> Step:
    facts = (
        *asked.step.facts,
        ("limit.key", readable_key(asked.key)),
        ("limit.used", standing.used),
        ("limit.remaining", max(0, rate.most - standing.used)),
        ("limit.retry_after", -(-standing.retry_after // 1000)),
    )
    told = f"{readable_key(asked.key)} has {standing.used} of {rate}"
    if standing.fits:
        return Step(asked.limit.rule.name, StepOutcome.DID_NOT_FIRE, facts, told)
    return Step(asked.limit.rule.name, asked.step.outcome, facts, told)


def _carried_out(verdict: Verdict, asked: Asked, step: Step) -> Verdict:
    limit = asked.limit
    assert limit.rule.action is not None
    disposition = limit.rule.action.disposition
    edits = verdict.edits
    if disposition is Disposition.QUARANTINE:
        edits = (*edits, AddField(QUARANTINE_FIELD, limit.rule.name))
    # What a rule has decided of mail that is delivered stands, unless the mail is refused.
    if not disposition.final and verdict.disposition is not Disposition.CONTINUE:
        return replace(verdict, edits=edits)
    fields = {**asked.values, **dict(step.facts), "limit.name": limit.rule.name}
    reply = limit.reply
    if reply is not None:
        text = FACT_FIELD.sub(lambda found: _shown(fields.get(found[1])), reply.text)
        reply = Reply(reply.code, reply.status, printable(text))
    return replace(verdict, disposition=disposition, reply=reply, rule=limit.rule.name, edits=edits)


def _shown(value: object) -> str:
    return "" if value is None else str(value)
