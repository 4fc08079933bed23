"""Rules as they are written become rules that can be run: conditions, stages, replies."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from filterd.mail.reply import Reply, ReplyError
from filterd.mail.transaction import Stage
from filterd.policy import action_entries as written
from filterd.policy.conditions import Condition, ConditionError, FindList, compile_condition
from filterd.policy.errors import PolicyError
from filterd.policy.facts import FACTS, SCORE
from filterd.policy.nodes import Document, Path
from filterd.policy.rules import FACT_FIELD, Action, Mode, Rule, edit_text
from filterd.policy.schema import PolicyFile, RuleEntry, ScoreLimits
from filterd.policy.verdict import (
    TAG_FIELD,
    AddField,
    AddRecipient,
    ChangeSender,
    PrefixSubject,
    RedirectTo,
    RemoveField,
    RemoveRecipient,
    RewriteField,
    RuleEdit,
)

_NEVER = compile_condition("false")


def own_rule(settings: PolicyFile) -> Rule:
    """RFC 9989 11.5: what has no single author is no way around DMARC."""
    action = Action(settings.dmarc.on_multiple_authors)
    text = "the From field must name exactly one author ({author.problem})"
    reply = {Action.REJECT: Reply(550, "5.7.1", text), Action.DEFER: Reply(450, "4.7.1", text)}.get(action)
    condition = compile_condition('author.problem != "" && !from_us')
    return Rule("dmarc.on_multiple_authors", condition, action, Stage.END_OF_HEADERS, reply)


def score_rules(document: Document, limits: ScoreLimits, faults: list[PolicyError]) -> list[Rule]:
    """What the score comes to, the hardest first: rules like others, asked last."""
    given = {Action.REJECT: limits.reject, Action.QUARANTINE: limits.quarantine, None: limits.tag}
    rules = []
    for action, limit in given.items():
        if limit is None:
            continue
        name = f"score.{action or 'tag'}"
        reply = None
        if action is Action.REJECT:
            reply = _refusal(document, ("score", "reply"), limits.reply, Action.REJECT, name, faults)
        edits = () if action else (AddField(TAG_FIELD, name),)
        condition = compile_condition(f"{SCORE} >= {limit:f}")
        rules.append(Rule(name, condition, action, Stage.END_OF_MESSAGE, reply, edits=edits))
    return rules


def load_rule(document: Document, index: int, entry: RuleEntry, find_list: FindList, faults: list[PolicyError]) -> Rule:
    """The rule at `rules[index]`. What is wrong with it is added to `faults`."""
    path: Path = ("rules", index)
    condition = load_condition(document, (*path, "when"), entry.when, faults, find_list)
    final = _final(document, (*path, "then"), entry, faults)
    reply = _reply(document, (*path, "reply"), entry, final, faults)
    edits: list[RuleEdit] = []
    for place, action in _placed(document, (*path, "then"), entry):
        made = _edits(entry.name, action)
        edits += made
        faults += [fault for edit in made for fault in _unknown_facts(document, place, edit_text(edit) or "")]
    scores = [action.score for action in entry.actions if isinstance(action, written.Score)]
    score = round(sum(scores), 3) if scores else None
    line = document.line((*path, "name"))
    rule = Rule(entry.name, condition, final, Stage.MAIL, reply, Mode(entry.mode), line, tuple(edits), score)
    try:
        return replace(rule, stage=_stage(rule, entry))
    except ValueError as error:
        faults.append(document.error((*path, "at" if entry.at else "when"), str(error)))
        return rule


def broken_rules(
    document: Document, entries: Sequence[tuple[int, RuleEntry]], find_list: FindList, faults: list[PolicyError]
) -> list[str]:
    """The names of the rules that are not among the entries, as the schema refuses them.

    What is wrong with their conditions joins the faults.
    """
    items, sound, names = document.keys(("rules",)), {index for index, _ in entries}, []
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if index not in sound and isinstance(item, dict):
            names.append(str(item.get("name")))
            if isinstance(condition := item.get("when"), str):
                load_condition(document, ("rules", index, "when"), condition, faults, find_list)
    return names


def _stage(rule: Rule, entry: RuleEntry) -> Stage:
    """The earliest stage at which all that the rule names is known, or the later one that it asks for."""
    known = [name for name in (*rule.condition.facts, *rule.shown_facts) if name in FACTS]
    earliest = max((FACTS[name].stage for name in known), default=Stage.CONNECT)
    recipient = next((name for name in known if name in OF_ONE_RECIPIENT), None)
    wanted = Stage[entry.at.upper()] if entry.at else None
    whole = next((word for word in map(written.word_of, entry.actions) if word not in _OF_RECIPIENTS), None)
    if (recipient or wanted is Stage.RCPT) and whole:
        raise ValueError(f"at RCPT one recipient is judged, and {whole} is for the whole mail")
    if recipient and (earliest > Stage.RCPT or (wanted is not None and wanted is not Stage.RCPT)):
        later = next((name for name in known if FACTS[name].stage > Stage.RCPT), f"at: {entry.at}")
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


_OF_RECIPIENTS = frozenset({Action.ACCEPT, Action.REJECT, Action.DEFER})
OF_ONE_RECIPIENT = frozenset({"envelope.recipient", "envelope.recipient_domain"})


def load_condition(
    document: Document, path: Path, text: str, faults: list[PolicyError], find_list: FindList
) -> Condition:
    """The condition at a path; one that never holds, and a fault more, where it cannot be used."""
    try:
        return compile_condition(text, find_list)
    except ConditionError as error:
        if document.keys(path) is None:
            faults.append(document.error(path, error.text))
        else:
            faults.append(document.error_within(path, error.line, error.column, error.text))
        return _NEVER


def _placed(document: Document, path: Path, entry: RuleEntry) -> Iterator[tuple[Path, written.Action]]:
    """The actions of a rule, each with its place."""
    listed = isinstance(document.keys(path), list)
    for number, action in enumerate(entry.actions):
        yield (*path, number) if listed else path, action


def _final(document: Document, path: Path, entry: RuleEntry, faults: list[PolicyError]) -> Action | None:
    """What the rule decides: its last action, if that is a final one."""
    for place, action in list(_placed(document, path, entry))[:-1]:
        if action in written.FINAL_WORDS:
            faults.append(document.error(place, f"{action} ends the judgement: it stands last, and only one does"))
    last = entry.actions[-1]
    return Action(last) if last in written.FINAL_WORDS else None


def _edits(rule: str, action: written.Action) -> list[RuleEdit]:
    match action:
        case "tag":
            return [AddField(TAG_FIELD, rule)]
        case written.AddHeader(add_header=field):
            return [AddField(field.name, field.value)]
        case written.RemoveHeader(remove_header=gone):
            return [RemoveField(gone.name, gone.matching)]
        case written.RewriteHeader(rewrite_header=new):
            return [RewriteField(new.name, new.value, new.matching)]
        case written.SubjectPrefix(subject_prefix=text):
            return [PrefixSubject(text)]
        case written.AddRecipient(add_recipient=address):
            return [AddRecipient(address)]
        case written.RemoveRecipient(remove_recipient=address):
            return [RemoveRecipient(address)]
        case written.Redirect(redirect=address):
            return [RedirectTo(address)]
        case written.ChangeSender(change_sender=address):
            return [ChangeSender(address)]
    return []


def _unknown_facts(document: Document, path: Path, text: str) -> Iterator[PolicyError]:
    for name in FACT_FIELD.findall(text):
        if name not in FACTS:
            near = difflib.get_close_matches(name, FACTS, 1, 0.6)
            hint = f"did you mean {{{near[0]}}}?" if near else "`filterd check --facts` lists what there is"
            yield document.error(path, f"there is no fact {{{name}}}; {hint}")


def _reply(
    document: Document, path: Path, entry: RuleEntry, action: Action | None, faults: list[PolicyError]
) -> Reply | None:
    """The reply of reject and defer: the rule's own or a plain one. Its text keeps {fact} fields."""
    if action not in (Action.REJECT, Action.DEFER):
        if entry.reply is not None:
            faults.append(document.error(path, "only reject and defer have a reply, and this rule does neither"))
        return None
    return _refusal(document, path, entry.reply, action, entry.name, faults)


def _refusal(
    document: Document, path: Path, text: str | None, action: Action, rule: str, faults: list[PolicyError]
) -> Reply | None:
    refused = action is Action.REJECT
    plain = f"550 5.7.1 refused by policy ({rule})" if refused else f"451 4.7.1 try again later ({rule})"
    try:
        reply = Reply.parse(text or plain)
    except ReplyError as error:
        faults.append(document.error(path, str(error)))
        return None
    if reply.temporary == refused:
        code = "5xx" if refused else "4xx"
        faults.append(document.error(path, f"the reply of {action} has a {code} code, not {reply.code}"))
    faults += _unknown_facts(document, path, reply.text)
    return reply
