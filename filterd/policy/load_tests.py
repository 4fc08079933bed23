"""Tests of a policy as they can be run: what they name exists, and their files are read."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping

from filterd.limits.rate import Unit, size_text
from filterd.policy.errors import PolicyError
from filterd.policy.facts import FACTS, Fact, FactType
from filterd.policy.nodes import Document, Path
from filterd.policy.policy_tests import PolicyTest, PolicyTestEntry, Used

_NUMBERS = {FactType.INT: re.compile(r"\d{1,18}"), FactType.DOUBLE: re.compile(r"-?\d{1,9}(\.\d{1,9})?")}
#: What `rule` says where no rule decided.
NO_RULE = "none"
#: What decides besides rules (`engine.fallback`).
NOT_RULES = (
    "dns.on_error",
    "dnsbl.on_error",
    "spamd.on_error",
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
    limits: Mapping[str, frozenset[Unit]],
    read_file: ReadFile,
    faults: list[PolicyError],
    *,
    scanned: bool = False,
) -> tuple[PolicyTest, ...]:
    """The tests. What is wrong with them joins `faults`.

    `rules` are the names of all rules, `limits` what each limit counts, `scanned` whether a scanner is asked at all.
    """
    known = frozenset((*rules, *limits))
    tests = []
    for index, entry in enumerate(entries):
        path: Path = ("tests", index)
        tests.append(_test(document, path, entry, known, read_file, faults))
        _check_used(document, (*path, "given", "used"), entry.given.used, limits, faults)
        if entry.given.spam is not None and not scanned:
            faults.append(document.error((*path, "given", "spam"), "nobody asks spamd: there is no section `spamd`"))
    return tuple(tests)


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


def _check_used(
    document: Document,
    path: Path,
    used: Mapping[str, tuple[Used, ...]],
    limits: Mapping[str, frozenset[Unit]],
    faults: list[PolicyError],
) -> None:
    for name, parts in used.items():
        problem = _unknown("limit", name, frozenset(limits))
        # What a limit counts is not known where it is wrong itself.
        if problem is None and (counted := limits[name]):
            problem = next((found for each in parts if (found := _uncounted(name, each, counted))), None)
        if problem is not None:
            faults.append(document.error((*path, name), problem))


def _uncounted(name: str, used: Used, counted: frozenset[Unit]) -> str | None:
    words = ", ".join(sorted(counted))
    if used.unit is None and len(counted) > 1:
        return f"{name} counts {words}; write {used.count} {min(counted)}, say"
    if used.unit is None and Unit.BYTES in counted:
        return f"{name} counts bytes; write {size_text(used.count)}, say"
    return f"{name} counts {words}, not {used.unit}" if used.unit not in (None, *counted) else None


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
