"""Tests of a policy as they can be run: what they name exists, and their files are read."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping

from filterd.policy.errors import PolicyError
from filterd.policy.facts import FACTS, Fact, FactType
from filterd.policy.nodes import Document, Path
from filterd.policy.policy_tests import PolicyTest, PolicyTestEntry

_NUMBERS = {FactType.INT: re.compile(r"\d{1,18}"), FactType.DOUBLE: re.compile(r"-?\d{1,9}(\.\d{1,9})?")}
#: What `rule` says where no rule decided.
NO_RULE = "none"
#: What decides besides rules (`engine.fallback`).
NOT_RULES = (
    "dns.on_error",
    "server.on_error",
    "sign.on_unpublished",
    "sign.failed",
    "header.too-large",
    "recipients.none-left",
)

#: The octets of a file that the policy names. Raises ValueError.
ReadFile = Callable[[str], bytes]


def load_tests(
    document: Document,
    entries: Iterable[PolicyTestEntry],
    rules: Iterable[str],
    read_file: ReadFile,
    faults: list[PolicyError],
) -> tuple[PolicyTest, ...]:
    """The tests; `rules` are the names of all rules. What is wrong with them joins `faults`."""
    known = frozenset(rules)
    return tuple(
        _test(document, ("tests", index), entry, known, read_file, faults) for index, entry in enumerate(entries)
    )


def fact_of(name: str) -> Fact | None:
    """The fact that `results` means: by its name, or by its check's, as in `spf`."""
    return FACTS.get(name) or FACTS.get(f"{name}.result")


def _test(
    document: Document,
    path: Path,
    entry: PolicyTestEntry,
    rules: frozenset[str],
    read_file: ReadFile,
    faults: list[PolicyError],
) -> PolicyTest:
    given, expect = entry.given, entry.expect

    def refer(to: Path, problem: str | None) -> None:
        if problem is not None:
            faults.append(document.error((*path, *to), problem))

    def read(to: Path, file: str | None) -> bytes | None:
        try:
            return read_file(file) if file is not None else None
        except ValueError as error:
            refer(("given", *to), str(error))
            return None

    if expect.rule is not None:
        refer(("expect", "rule"), _unknown("rule", expect.rule, {*rules, *NOT_RULES, NO_RULE}))
    for word, named in (("tags", expect.tags), ("observed", expect.observed)):
        for number, name in enumerate(named or ()):
            refer(("expect", word, number), _unknown("rule", name, rules))
    for name, values in expect.results.items():
        refer(("expect", "results", name), _result_problem(name, values))
    for recipient in expect.recipients:
        refer(("expect", "recipients", recipient), _unknown("recipient", recipient, set(given.recipients)))
    message, zone = read(("message",), given.message.file), read(("dns",), given.dns.file)
    return PolicyTest(entry.name, given, expect, document.error((*path, "name"), ""), message, zone)


def _unknown(what: str, name: str, known: frozenset[str] | set[str]) -> str | None:
    if name in known:
        return None
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known)[:10])}"
    return f"there is no {what} {name}" + (f"; {hint}" if known else "")


def _result_problem(name: str, values: tuple[str, ...]) -> str | None:
    fact = fact_of(name)
    if fact is None:
        near = difflib.get_close_matches(name, FACTS, 1, 0.6)
        hint = f"did you mean {near[0]}?" if near else "`filterd check --facts` lists what there is"
        return f"there is no fact {name}; {hint}"
    if fact.type is not FactType.STRINGS and len(values) != 1:
        return f"{fact.name} has one value"
    words: Mapping[FactType, tuple[str, ...]] = {FactType.BOOL: ("true", "false"), FactType.STRING: fact.words}
    allowed = words.get(fact.type, ())
    for value in values:
        if allowed and value not in allowed:
            near = difflib.get_close_matches(value, allowed, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(map(repr, allowed))}"
            return f"{fact.name} is never {value!r}; {hint}"
        if fact.type in _NUMBERS and not _NUMBERS[fact.type].fullmatch(value):
            return f"{fact.name} is a number, never {value!r}"
    return None
