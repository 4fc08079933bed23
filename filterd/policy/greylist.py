"""Greylisting as part of the judgement: who has to come again, and what comes of the answer. Pure: no store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from filterd.limits.greylist import Answer, Attempt, Welcome
from filterd.limits.keys import network
from filterd.limits.rate import duration_text
from filterd.limits.state import StoreError
from filterd.mail.reply import Reply, printable
from filterd.mail.transaction import Stage
from filterd.policy.decide import try_rule
from filterd.policy.facts import Facts
from filterd.policy.results import Results
from filterd.policy.rules import FACT_FIELD, Greylist
from filterd.policy.transcript import Judgement
from filterd.policy.verdict import Disposition, Step, StepOutcome, Verdict
from filterd.spf.check import SpfCode

#: The name by which logs call it.
GREYLIST = "greylist"
_RESULT, _WAITED, _RETRY_AFTER = "greylist.result", "greylist.waited", "greylist.retry_after"
_AWAY = Reply(451, "4.3.0", "cannot tell now who has been here before, try again later")


def greylisted(
    greylist: Greylist,
    stage: Stage,
    facts: Facts,
    results: Results,
    verdict: Verdict,
    ask: Callable[[Attempt], Answer],
) -> tuple[Verdict, Attempt | None]:
    """The stage's verdict with what greylisting says, and the attempt, if it may go on. `ask` may raise StoreError.

    Who only asks whether an address exists does so as the null sender, and never comes as far as DATA: so such mail,
    which has one recipient (RFC 5321 6.1), is judged there, and nobody's sender verification fails for it.
    """
    sender, client = facts.transaction.sender, facts.transaction.client.ip
    null = sender is not None and sender.null
    if stage is not (Stage.DATA if null else Stage.RCPT) or verdict.disposition is not Disposition.CONTINUE:
        return verdict, None
    if stage is Stage.DATA:
        facts = replace(facts, recipient=next(iter(facts.transaction.recipients), None))
    if facts.recipient is None:
        return verdict, None
    rule = greylist.rule
    ours = facts.from_us or facts.transaction.user is not None or facts.client_trusted
    if ours or facts.client_relay or client is None:
        why = "mail from us" if ours else "a relay of ours" if facts.client_relay else "a client without an address"
        return _with(verdict, Step(rule.name, StepOutcome.NOT_APPLICABLE, note=why)), None
    values = {name: facts.value(name, results) for name in greylist.facts}
    step = try_rule(rule, facts, values)
    if step.outcome not in (StepOutcome.FIRED, StepOutcome.OBSERVED):
        return _with(verdict, step), None
    attempt = _attempt(greylist, facts, results)
    enforced = step.outcome is StepOutcome.FIRED
    try:
        answer = ask(attempt)
    except StoreError as error:
        verdict = _with(verdict, replace(step, outcome=StepOutcome.CANNOT_TELL, note=str(error)))
        if enforced and greylist.on_error == "defer":
            verdict = replace(verdict, disposition=Disposition.DEFER, reply=_AWAY, rule=rule.name)
        return verdict, None
    step = _step(step, answer)
    verdict = _with(verdict, step)
    if not (answer.welcome.waits and enforced):
        return verdict, attempt
    reply = _reply(greylist.reply, values | dict(step.facts))
    return replace(verdict, disposition=Disposition.DEFER, reply=reply, rule=rule.name), None


def seen_before(judgements: Sequence[Judgement], recipients: Sequence[str]) -> Callable[[Attempt], Answer]:
    """What a recorded judgement was answered: to be asked instead of a store. `recipients` are those of the mail."""
    known: dict[str, tuple[Welcome, int]] = {}
    for judgement in judgements:
        for step in judgement.verdict.steps:
            told = dict(step.facts)
            if _RESULT in told:
                recipient = judgement.recipient or next(iter(recipients), "")
                known[recipient.lower()] = Welcome(str(told[_RESULT])), int(str(told[_WAITED])) * 1000

    def ask(asked: Attempt) -> Answer:
        if asked.recipient not in known:
            raise StoreError("greylisting was not asked then")
        welcome, waited = known[asked.recipient]
        if welcome in (Welcome.KNOWN, Welcome.FIRST):
            return Answer(welcome, 0, asked.terms.delay if welcome.waits else 0)
        left = asked.terms.delay - waited
        return Answer(Welcome.EARLY, waited, left) if left > 0 else Answer(Welcome.PASSED, waited)

    return ask


def _attempt(greylist: Greylist, facts: Facts, results: Results) -> Attempt:
    transaction, spf, recipient = facts.transaction, results.spf, facts.recipient
    mailbox = transaction.sender.mailbox if transaction.sender is not None else None
    # Whose servers SPF has verified may come from any of them.
    verified = spf.domain.name if spf is not None and spf.code is SpfCode.PASS and spf.domain is not None else None
    client = f"@{verified}" if verified else network(str(transaction.client.ip), greylist.fold)
    sender = str(mailbox.domain).lower() if mailbox is not None else ""
    return Attempt(client, sender, recipient.address if recipient is not None else "", greylist.terms)


def _step(step: Step, answer: Answer) -> Step:
    waited, left = answer.waited // 1000, -(-answer.retry_after // 1000)
    note = {
        Welcome.FIRST: f"first try, passes in {duration_text(left)}",
        Welcome.EARLY: f"too early, passes in {duration_text(left)}",
        Welcome.PASSED: f"passed after {duration_text(waited)}",
        Welcome.KNOWN: "known",
    }[answer.welcome]
    facts = (*step.facts, (_RESULT, answer.welcome.value), (_WAITED, waited), (_RETRY_AFTER, left))
    outcome = step.outcome if answer.welcome.waits else StepOutcome.DID_NOT_FIRE
    return Step(step.rule, outcome, facts, note)


def _reply(reply: Reply, values: Mapping[str, object]) -> Reply:
    text = FACT_FIELD.sub(lambda found: printable(_shown(values.get(found[1]))), reply.text)
    return Reply(reply.code, reply.status, printable(text))


def _shown(value: object) -> str:
    return "" if value is None else str(value)


def _with(verdict: Verdict, step: Step) -> Verdict:
    return replace(verdict, steps=(*verdict.steps, step))
