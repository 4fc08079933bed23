"""The section `greylist` as it is written becomes greylisting that can be asked."""

from filterd.limits.greylist import Terms
from filterd.limits.keys import Fold
from filterd.mail.reply import Reply, ReplyError
from filterd.mail.transaction import Stage
from filterd.policy.conditions import FindList
from filterd.policy.errors import PolicyError
from filterd.policy.facts import FACTS, FactType
from filterd.policy.limits_schema import GreylistSection
from filterd.policy.load_rules import load_condition
from filterd.policy.nodes import Document
from filterd.policy.rules import FACT_FIELD, GREYLIST_FIELD, Action, Greylist, Mode, Rule


def load_greylist(
    document: Document, section: GreylistSection | None, find_list: FindList, faults: list[PolicyError]
) -> Greylist | None:
    """The section; None where there is none. What is wrong is added to `faults`."""
    if section is None:
        return None
    conditions = [("when", section.when)] + ([("exempt", section.exempt)] if section.exempt is not None else [])
    sound = True
    for key, text in conditions:
        before = len(faults)
        loaded = load_condition(document, ("greylist", key), text, faults, find_list)
        late = next((name for name in loaded.facts if FACTS[name].stage > Stage.RCPT), None)
        if late is not None:
            problem = f"greylisting judges at RCPT; {late} is known at {FACTS[late].stage.word}"
            faults.append(document.error(("greylist", key), problem))
        sound = sound and len(faults) == before
    both = section.when if section.exempt is None else f"({section.when}) && !({section.exempt})"
    condition = load_condition(document, ("greylist", "when"), both if sound else "false", faults, find_list)
    reply = _reply(document, section.reply, faults)
    rule = Rule("greylist", condition, Action.DEFER, Stage.RCPT, None, Mode(section.mode), document.line(("greylist",)))
    delay, window, expire = (round(each * 1000) for each in (section.delay, section.retry_window, section.expire))
    terms = Terms(delay, window, expire, section.allow_after)
    return Greylist(rule, terms, reply, Fold(section.fold.ipv4, section.fold.ipv6), section.on_error)


def _reply(document: Document, text: str, faults: list[PolicyError]) -> Reply:
    path = ("greylist", "reply")
    try:
        reply = Reply.parse(text)
    except ReplyError as error:
        faults.append(document.error(path, str(error)))
        return Reply(450, "4.7.1", "")
    if not reply.temporary:
        faults.append(document.error(path, f"who is greylisted comes again: the code is 4xx, not {reply.code}"))
    named = [name for name in FACT_FIELD.findall(reply.text) if name != GREYLIST_FIELD]
    strange = [name for name in named if not _shows(name)]
    faults += [document.error(path, f"at RCPT there is no fact {{{name}}}") for name in strange]
    return reply


def _shows(name: str) -> bool:
    """Whether it is one text that is known at RCPT."""
    return name in FACTS and FACTS[name].stage <= Stage.RCPT and FACTS[name].type is not FactType.STRINGS
