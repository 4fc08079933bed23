"""Limits as they are written become limits that can be charged: when, whom, how much, and whose rates are others."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace

from filterd.limits.keys import Fold, key_text
from filterd.limits.rate import Rate, Unit
from filterd.mail.reply import Reply, ReplyError
from filterd.mail.transaction import Stage
from filterd.policy.conditions import FindList
from filterd.policy.errors import PolicyError
from filterd.policy.facts import FACTS, FactType
from filterd.policy.limits_schema import LimitEntry
from filterd.policy.load_rules import OF_ONE_RECIPIENT, load_condition
from filterd.policy.nodes import Document, Path
from filterd.policy.quantities import read_rate
from filterd.policy.rules import FACT_FIELD, LIMIT_FIELDS, Action, Limit, Mode, Rule

_MAX_OVERRIDES = 100_000
_EARLIEST = {
    Unit.MESSAGES: Stage.MAIL,
    Unit.NETWORKS: Stage.MAIL,
    Unit.RECIPIENTS: Stage.RCPT,
    Unit.FAILURES: Stage.RCPT,
    Unit.BYTES: Stage.END_OF_MESSAGE,
}


def load_limits(
    document: Document,
    entries: Sequence[LimitEntry],
    rules: Sequence[str],
    find_list: FindList,
    read_file: Callable[[str], bytes],
    faults: list[PolicyError],
) -> list[Limit]:
    """The limits of the section, each once for each stage at which it is charged; `rules` are the names of rules.

    What is wrong is added to `faults`. `read_file` gives a file that the policy names, and raises ValueError.
    """
    for index, entry in enumerate(entries):
        if entry.name in rules:
            faults.append(document.error(("limits", index, "name"), f"a rule is named {entry.name}, too"))
    return [
        limit
        for index, entry in enumerate(entries)
        for limit in _limit(document, index, entry, find_list, read_file, faults)
    ]


def counted_units(document: Document, entries: Sequence[LimitEntry]) -> dict[str, frozenset[Unit]]:
    """What all limits count, by their names; nothing is known of those that the schema refuses."""
    items = document.keys(("limits",))
    written = [item for item in (items if isinstance(items, list) else ()) if isinstance(item, dict)]
    known = {each.name: frozenset(rate.unit for rate in each.rate) for each in entries}
    return {str(item.get("name")): frozenset() for item in written} | known


def _limit(
    document: Document,
    index: int,
    entry: LimitEntry,
    find_list: FindList,
    read_file: Callable[[str], bytes],
    faults: list[PolicyError],
) -> tuple[Limit, ...]:
    path: Path = ("limits", index)
    before = len(faults)
    condition = load_condition(document, (*path, "when"), entry.when, faults, find_list)
    if entry.exempt is not None:
        load_condition(document, (*path, "exempt"), entry.exempt, faults, find_list)
    for number, name in enumerate(entry.key):
        if name not in FACTS or FACTS[name].type is FactType.STRINGS:
            faults.append(document.error((*path, "key", number), _no_fact(name)))
    reply = _reply(document, (*path, "reply"), entry, faults)
    rates = entry.rate
    if entry.burst is not None:
        rates = (*rates, rates[0].smoothed(entry.burst))
        if rates[0].unit.distinct or entry.burst >= rates[0].most:
            problem = f"a burst is less than the rate that it is of; {rates[0]} lets {rates[0].most} come at once"
            faults.append(document.error((*path, "burst"), problem))
    kinds = [(each.unit, each.span) for each in rates]
    double = next((each for each in rates if kinds.count((each.unit, each.span)) > 1), None)
    if double is not None:
        problem = f"two rates count {double.unit} over the same time; write the lower one"
        faults.append(document.error((*path, "rate"), problem))
    overrides = _overrides(document, path, entry, rates, read_file, faults)
    if len(faults) == before and entry.exempt is not None:
        both = f"({entry.when}) && !({entry.exempt})"
        condition = load_condition(document, (*path, "exempt"), both, faults, find_list)
    if len(faults) > before:
        return ()
    action = Action.DEFER if entry.then == "observe" else Action(entry.then)
    mode = Mode.OBSERVE if entry.then == "observe" else Mode(entry.mode)
    rule = Rule(entry.name, condition, action, Stage.MAIL, None, mode, document.line((*path, "name")))
    whole = Limit(rule, entry.key, rates, reply, overrides, Fold(entry.fold.ipv4, entry.fold.ipv6), entry.on_error)
    try:
        stages = {unit: _stage(whole, unit) for unit in dict.fromkeys(each.unit for each in rates)}
    except ValueError as error:
        faults.append(document.error((*path, "rate"), str(error)))
        return ()
    return tuple(
        replace(
            whole,
            rule=replace(rule, stage=stage),
            rates=tuple(each for each in rates if stages[each.unit] is stage),
            overrides={
                key: tuple(each for each in own if stages[each.unit] is stage) for key, own in overrides.items()
            },
        )
        for stage in sorted(set(stages.values()))
    )


def _stage(limit: Limit, unit: Unit) -> Stage:
    """The earliest stage at which what is counted, and for whom, is known."""
    known = max(FACTS[name].stage for name in limit.facts)
    recipient = next((name for name in limit.facts if name in OF_ONE_RECIPIENT), None)
    stage = max(known, _EARLIEST[unit])
    whole = limit.rule.action in (Action.QUARANTINE, Action.HOLD)
    if stage is Stage.RCPT and recipient is None and whole:
        return Stage.DATA
    if recipient is not None and whole:
        raise ValueError(f"{recipient} is judged at RCPT, one recipient at a time; {limit.rule.action} is for all")
    if recipient is not None and stage > Stage.RCPT:
        what = unit.value if _EARLIEST[unit] > Stage.RCPT else "what else it names"
        raise ValueError(f"{recipient} is judged at RCPT, one recipient at a time; {what} is known later")
    return stage


def _overrides(
    document: Document,
    path: Path,
    entry: LimitEntry,
    rates: tuple[Rate, ...],
    read_file: Callable[[str], bytes],
    faults: list[PolicyError],
) -> dict[str, tuple[Rate, ...]]:
    """Lines `KEY: RATE, RATE` or `KEY: unlimited`; the parts of a key that is several facts are parted by spaces."""
    if entry.overrides is None:
        return {}
    path = (*path, "overrides")
    try:
        lines = read_file(entry.overrides).decode().splitlines()
    except ValueError as error:
        faults.append(document.error(path, str(error)))
        return {}
    found: dict[str, tuple[Rate, ...]] = {}
    for number, line in enumerate(lines[: _MAX_OVERRIDES + 1], 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, _, written = text.rpartition(": ")
        try:
            if number > _MAX_OVERRIDES:
                raise ValueError(f"there are more than {_MAX_OVERRIDES} lines")
            key = key_text(name.split() if len(entry.key) > 1 else [name.strip()])
            if not name or key in found:
                raise ValueError(
                    f"{name} stands there twice" if name else "a line reads like boss@example.org: 5000 per 1d"
                )
            found[key] = _others(rates, written)
        except ValueError as error:
            faults.append(document.error(path, f"{entry.overrides}:{number}: {error}"))
            break
    return found


def _others(rates: tuple[Rate, ...], written: str) -> tuple[Rate, ...]:
    """The rates, those of the units that are written exchanged for these."""
    if written.strip() == "unlimited":
        return ()
    own = [read_rate(each.strip(), rates[0].unit) for each in written.split(",")]
    strange = next((each.unit for each in own if each.unit not in {rate.unit for rate in rates}), None)
    if strange is not None:
        raise ValueError(f"the limit does not count {strange}")
    units = {each.unit for each in own}
    return (*own, *(each for each in rates if each.unit not in units))


def _reply(document: Document, path: Path, entry: LimitEntry, faults: list[PolicyError]) -> Reply | None:
    refused = entry.then == "reject"
    if entry.then not in ("reject", "defer"):
        if entry.reply is not None:
            faults.append(document.error(path, f"{entry.then} has no reply; reject and defer have one"))
        return None
    plain = (
        "550 5.7.1 too much mail ({limit.name})"
        if refused
        else "451 4.7.1 too much mail, try again in {limit.retry_after} s ({limit.name})"
    )
    try:
        reply = Reply.parse(entry.reply or plain)
    except ReplyError as error:
        faults.append(document.error(path, str(error)))
        return None
    if reply.temporary == refused:
        problem = f"the reply of {entry.then} has a {'5xx' if refused else '4xx'} code, not {reply.code}"
        faults.append(document.error(path, problem))
    strange = [name for name in FACT_FIELD.findall(reply.text) if name not in FACTS and name not in LIMIT_FIELDS]
    faults += [document.error(path, _no_fact(name)) for name in strange]
    return reply


def _no_fact(name: str) -> str:
    if name in FACTS:
        return f"{name} is a list; a key is made of single values"
    near = difflib.get_close_matches(name, [*FACTS, *LIMIT_FIELDS], 1, 0.6)
    hint = f"did you mean {near[0]}?" if near else "`filterd check --facts` lists what there is"
    return f"there is no fact {name}; {hint}"
