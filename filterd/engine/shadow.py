"""What a mail would have come to by the policy in shadow: its rules over the facts and results that were found anyway.

No check is run for its sake, so that it costs the MTA no more than its evaluation: where it names what was not found
out, the answer is "cannot tell", never a guess. Limits are left out, as asking the candidate's would charge the mail:
of what a limit of the live policy has decided, nothing can be told. Pure.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from filterd.authres.trusted import topmost
from filterd.engine.conclusion import conclusion
from filterd.engine.networks import ours, within
from filterd.mail.received import added_inside
from filterd.mail.transaction import ForwardPath, Stage
from filterd.policy.decide import decide, whose
from filterd.policy.facts import Facts
from filterd.policy.greylist import greylisted, seen_before
from filterd.policy.results import Results
from filterd.policy.rules import Policy
from filterd.policy.shadow import Divergence, Fate, RuleOutcome, Shadow
from filterd.policy.signers import may_write_as
from filterd.policy.transcript import Judgement
from filterd.policy.verdict import QUARANTINE_FIELD, AddField, Disposition, Edit, StepOutcome, Verdict


def judge_in_shadow(
    candidate: Policy,
    live: Policy,
    stage: Stage,
    facts: Facts,
    offered: Sequence[ForwardPath],
    judgements: Sequence[Judgement],
    results: Results,
) -> Shadow:
    """Compare. `facts` are those at `stage`, the last one that the mail reached; `offered` are all recipients, those
    refused included."""
    own_facts, own_results = _facts(candidate, facts, stage), _results(candidate, live, facts, results)
    found = _judgements(candidate, stage, own_facts, offered, own_results, judgements)
    before = conclusion(judgements, live.settings, results)
    after = conclusion(found, candidate.settings, own_results)
    limit = _limit_that_decided(live, judgements)
    if limit is not None:
        return Shadow(candidate.digest, Divergence.CANNOT_TELL, _fate(before, whole=False), Fate(rule=limit))
    was, would = (_fate(verdict, whole=stage is Stage.END_OF_MESSAGE) for verdict in (before, after))
    divergence, was, would = _compared(was, would, judgements, found)
    if divergence is Divergence.SAME and not before.disposition.final and _edits(before) != _edits(after):
        divergence = Divergence.EDITS
    if divergence is Divergence.SAME:
        return Shadow(candidate.digest, divergence)
    steps = (step for each in found for step in each.verdict.steps if step.outcome is not StepOutcome.NOT_REACHED)
    rules = tuple(dict.fromkeys(RuleOutcome(step.rule, step.outcome) for step in steps))
    return Shadow(candidate.digest, divergence, was, would, rules)


def _judgements(
    candidate: Policy,
    last: Stage,
    facts: Facts,
    offered: Sequence[ForwardPath],
    results: Results,
    live: Sequence[Judgement],
) -> list[Judgement]:
    """Stage by stage, until it decides. Greylisting is answered as the live policy's was."""
    found: list[Judgement] = []
    answer = seen_before(live, [each.text for each in facts.transaction.recipients])

    def judged(stage: Stage, known: Facts) -> Verdict:
        verdict = decide(candidate, stage, known, results)
        greylist = candidate.greylist
        return greylisted(greylist, stage, known, results, verdict, answer)[0] if greylist is not None else verdict

    for stage in Stage:
        if stage > last or not candidate.judges(stage):
            continue
        whole = [each.verdict for each in found if each.recipient is None]
        summands = tuple(summand for verdict in whole for summand in verdict.summands)
        size = facts.size if stage is Stage.END_OF_MESSAGE else None
        at_stage = replace(facts, summands=summands, size=size)
        if stage is Stage.RCPT:
            for recipient in offered:
                verdict = judged(stage, replace(at_stage, recipient=recipient))
                found.append(Judgement(stage, verdict, recipient.text))
            continue
        found.append(Judgement(stage, judged(stage, at_stage)))
        if found[-1].verdict.disposition is not Disposition.CONTINUE:
            break
    return found


def _facts(candidate: Policy, facts: Facts, stage: Stage) -> Facts:
    """The facts as the candidate's settings have them: whose networks, whose logins, whose words."""
    settings, ip = candidate.settings, facts.transaction.client.ip
    networks = settings.networks
    found = replace(
        facts, client_trusted=within(ip, networks.trusted), client_relay=within(ip, networks.relays), recipient=None
    )
    trusted = facts.trusted
    if facts.header is not None:
        inside = found.client_trusted or found.client_relay
        names = frozenset(settings.identity.trusted_authserv_ids) if inside else frozenset()
        wanted = names and candidate.names("trusted")
        trusted = topmost(added_inside(facts.header, partial(ours, networks)), names) if wanted else None
    user, author = facts.transaction.user, facts.author
    return replace(
        found,
        from_us=whose(candidate, found) if stage >= Stage.MAIL else None,
        author_allowed=may_write_as(settings.senders, user, author) if author is not None else None,
        trusted=trusted,
    )


def _results(candidate: Policy, live: Policy, facts: Facts, results: Results) -> Results:
    """The results that the candidate would have had, too; None for those that its settings would have changed."""
    if results.arc is not None:
        results = replace(results, arc_trusted=results.arc.first_trusted(candidate.trusted_sealers))
    by, live_by = (each.settings.dmarc.organizational_domain for each in (candidate, live))
    if (by == "psl") != (live_by == "psl"):
        other = (results.dmarc_psl or results.dmarc) if live_by == "compare" else None
        results = replace(results, dmarc=other)
    if within(facts.transaction.client.ip, candidate.settings.networks.relays) != facts.client_relay:
        # Another client would have been judged.
        results = replace(results, spf=None, spf_helo=None, iprev=None, helo=None, dmarc=None)
    return results


def _limit_that_decided(live: Policy, judgements: Sequence[Judgement]) -> str | None:
    """The limit that the mail, or a recipient, was refused or set aside by, if any."""
    names = {limit.rule.name for limits in live.limits.values() for limit in limits}
    return next((each.verdict.rule for each in judgements if each.verdict.rule in names), None)


def _compared(
    was: Fate, would: Fate, judgements: Sequence[Judgement], found: Sequence[Judgement]
) -> tuple[Divergence, Fate, Fate]:
    steps = (step for each in found for step in each.verdict.steps)
    doubtful = next((step.rule for step in steps if step.outcome is StepOutcome.CANNOT_TELL), None)
    if doubtful is not None:
        return Divergence.CANNOT_TELL, was, Fate(rule=doubtful)
    if was.disposition is not would.disposition:
        return Divergence.VERDICT, was, would
    one, other = _recipients(judgements), _recipients(found)
    for recipient in (*other, *one):
        mine, theirs = (each.get(recipient, _TAKEN) for each in (one, other))
        if mine.disposition is not theirs.disposition:
            return Divergence.RECIPIENTS, mine, theirs
    return Divergence.SAME, was, would


_TAKEN = Fate(Disposition.ACCEPT)


def _fate(verdict: Verdict, *, whole: bool) -> Fate:
    """What becomes of a mail by a verdict; `whole` where there are no more rules to come."""
    taken = whole and verdict.disposition is Disposition.CONTINUE
    return _TAKEN if taken else Fate(verdict.disposition, verdict.rule)


def _recipients(judgements: Sequence[Judgement]) -> dict[str, Fate]:
    """What became of each recipient that was judged."""
    return {each.recipient: _fate(each.verdict, whole=True) for each in judgements if each.recipient is not None}


def _edits(verdict: Verdict) -> list[Edit]:
    """What is changed of the mail; by which rule it is quarantined is told by the verdict."""
    return [each for each in verdict.edits if not (isinstance(each, AddField) and each.name == QUARANTINE_FIELD)]
