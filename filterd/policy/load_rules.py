"""Rules as they are written become rules that can be run: conditions, stages, replies."""

import difflib
from dataclasses import replace

from filterd.mail.reply import Reply, ReplyError
from filterd.mail.transaction import Stage
from filterd.policy.conditions import Condition, ConditionError, compile_condition
from filterd.policy.errors import PolicyError
from filterd.policy.facts import FACTS
from filterd.policy.nodes import Document, Path
from filterd.policy.rules import REPLY_FIELD, Action, Mode, Rule
from filterd.policy.schema import PolicyFile, RuleEntry

_NEVER = compile_condition("false")


def own_rule(settings: PolicyFile) -> Rule:
    """RFC 9989 11.5: what has no single author is no way around DMARC."""
    action = Action(settings.dmarc.on_multiple_authors)
    text = "the From field must name exactly one author ({author.problem})"
    reply = {Action.REJECT: Reply(550, "5.7.1", text), Action.DEFER: Reply(450, "4.7.1", text)}.get(action)
    condition = compile_condition('author.problem != "" && !from_us')
    return Rule("dmarc.on_multiple_authors", condition, action, Stage.END_OF_HEADERS, reply)


def load_rule(document: Document, index: int, entry: RuleEntry, faults: list[PolicyError]) -> Rule:
    """The rule at `rules[index]`. What is wrong with it is added to `faults`."""
    path: Path = ("rules", index)
    condition = load_condition(document, (*path, "when"), entry.when, faults)
    reply = _reply(document, (*path, "reply"), entry, faults)
    action, mode, line = Action(entry.then), Mode(entry.mode), document.line((*path, "name"))
    rule = Rule(entry.name, condition, action, Stage.MAIL, reply, mode, line)
    try:
        return replace(rule, stage=_stage(rule, entry.at))
    except ValueError as error:
        faults.append(document.error((*path, "at" if entry.at else "when"), str(error)))
        return rule


def _stage(rule: Rule, at: str | None) -> Stage:
    """The earliest stage at which all that the rule names is known, or the later one that it asks for."""
    known = [name for name in (*rule.condition.facts, *rule.reply_facts) if name in FACTS]
    earliest = max((FACTS[name].stage for name in known), default=Stage.CONNECT)
    recipient = next((name for name in known if name in _OF_ONE_RECIPIENT), None)
    wanted = Stage[at.upper()] if at else None
    if (recipient or wanted is Stage.RCPT) and rule.action in _WHOLE_MESSAGE:
        raise ValueError(f"at RCPT one recipient is judged, and {rule.action} is for the whole mail")
    if recipient and (earliest > Stage.RCPT or (wanted is not None and wanted is not Stage.RCPT)):
        later = next((name for name in known if FACTS[name].stage > Stage.RCPT), f"at: {at}")
        raise ValueError(
            f"{recipient} is judged at RCPT, one recipient at a time; {later} is known later, when a milter can no "
            "longer refuse one recipient alone. Make two rules of it"
        )
    if wanted is not None:
        if wanted < earliest:
            late = max(known, key=lambda name: FACTS[name].stage)
            raise ValueError(f"{late} is not known before {FACTS[late].stage.word}; leave `at` out")
        return wanted
    # Whose mail it is is known at MAIL only: nothing is refused before it unless the rule says so.
    return max(earliest, Stage.MAIL)


_WHOLE_MESSAGE = frozenset({Action.QUARANTINE, Action.HOLD, Action.DISCARD, Action.TAG})
_OF_ONE_RECIPIENT = frozenset({"envelope.recipient", "envelope.recipient_domain"})


def load_condition(document: Document, path: Path, text: str, faults: list[PolicyError]) -> Condition:
    """The condition at a path; one that never holds, and a fault more, where it cannot be used."""
    try:
        return compile_condition(text)
    except ConditionError as error:
        if document.keys(path) is None:
            faults.append(document.error(path, error.text))
        else:
            faults.append(document.error_within(path, error.line, error.column, error.text))
        return _NEVER


def _reply(document: Document, path: Path, entry: RuleEntry, faults: list[PolicyError]) -> Reply | None:
    """The reply of reject and defer: the rule's own or a plain one. Its text keeps {fact} fields."""
    if entry.then not in ("reject", "defer"):
        if entry.reply is not None:
            faults.append(document.error(path, f"{entry.then} has no reply; reject and defer have one"))
        return None
    refused = entry.then == "reject"
    plain = f"refused by policy ({entry.name})" if refused else f"try again later ({entry.name})"
    try:
        reply = Reply.parse(entry.reply or f"{'550 5.7.1' if refused else '451 4.7.1'} {plain}")
    except ReplyError as error:
        faults.append(document.error(path, str(error)))
        return None
    if reply.temporary == refused:
        code = "5xx" if refused else "4xx"
        faults.append(document.error(path, f"the reply of {entry.then} has a {code} code, not {reply.code}"))
    for name in REPLY_FIELD.findall(reply.text):
        if name not in FACTS:
            near = difflib.get_close_matches(name, FACTS, 1, 0.6)
            hint = f"did you mean {{{near[0]}}}?" if near else "`filterd check --facts` lists what there is"
            faults.append(document.error(path, f"there is no fact {{{name}}}; {hint}"))
    return reply
