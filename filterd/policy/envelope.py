"""What of a policy can be judged by the envelope alone, as the policy service does: it never sees a mail's content."""

from dataclasses import replace

from filterd.mail.transaction import Stage
from filterd.policy.facts import FACTS
from filterd.policy.rules import Mode, Policy, Rule

#: All that is known of content: the MTA counts it.
SIZE = "message.size"


def needs_content(rule: Rule) -> bool:
    """Whether a rule can be judged only by who sees the mail's content."""
    names = (*rule.condition.facts, *rule.shown_facts)
    return any(FACTS[name].stage > Stage.DATA and name != SIZE for name in names)


def envelope_part(policy: Policy) -> Policy:
    """The rules that need no content, with the checks that they name, and nothing that is done to content.

    A rule behind one that needs content and may let the mail pass as it is (accept, quarantine, hold) is left out, too:
    whether its turn comes is not known.
    """
    rules = {stage: policy.rules[stage] for stage in Stage if stage <= Stage.DATA}
    late = [rule for stage in Stage if stage > Stage.DATA for rule in policy.rules[stage]]
    end = next((number for number, rule in enumerate(late) if needs_content(rule) and _may_pass(rule)), len(late))
    judged = [rule for rule in late[:end] if not needs_content(rule)]
    for stage in (Stage.END_OF_HEADERS, Stage.END_OF_MESSAGE):
        rules[stage] = tuple(rule for rule in judged if rule.stage is stage)
    facts = {stage: policy.facts[stage] if stage <= Stage.DATA else _names(rules[stage]) for stage in Stage}
    checks = frozenset(check for names in facts.values() for name in names if (check := FACTS[name].check))
    return replace(policy, rules=rules, facts=facts, checks=checks, sealer=None, envelope_only=True)


def _may_pass(rule: Rule) -> bool:
    disposition = rule.action.disposition if rule.action else None
    return rule.mode is Mode.ENFORCE and disposition is not None and not disposition.final


def _names(rules: tuple[Rule, ...]) -> tuple[str, ...]:
    return tuple(sorted({name for rule in rules for name in (*rule.condition.facts, *rule.shown_facts)}))
