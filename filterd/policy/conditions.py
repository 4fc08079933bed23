"""Conditions of rules: CEL, the Common Expression Language, over the table of facts.

The only room that knows the CEL runtime. A condition is checked whole when it is loaded: unknown names, wrong types,
words that a fact can never be, networks that are none.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from cel_expr_python import cel

from filterd.mail.domain import Domain, DomainError
from filterd.policy.checked_expr import Node, read, read_parsed
from filterd.policy.facts import FACTS, HEADER_FUNCTIONS, FactType, FactValue, Form
from filterd.policy.list_file import ListFile, ListFileError
from filterd.policy.source import MisplacedError, Source, source_of

#: A condition longer than this is refused before it is parsed.
MAX_LENGTH = 4096

_ERROR = re.compile(r"ERROR: <input>:(?P<line>\d+):(?P<column>\d+): (?P<text>.*)")
_MISSING_FIELD = re.compile(r'NOT_FOUND: Key not found in map : "(.*)"')
_TYPES = {
    FactType.BOOL: cel.Type.BOOL,
    FactType.INT: cel.Type.INT,
    FactType.DOUBLE: cel.Type.DOUBLE,
    FactType.STRING: cel.Type.STRING,
    FactType.STRINGS: cel.Type.List(cel.Type.STRING),
}
# Of so many combinations of words a condition need not be asked again.
_MAX_TOLD = 1000


class ConditionError(ValueError):
    """A condition cannot be used. `line` and `column` count from 1 within the condition's text."""

    def __init__(self, line: int, column: int, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.column = column
        self.text = text


class EvaluationError(Exception):
    """A condition could not be evaluated on these facts; the text is CEL's."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition. `facts` are the names that it reads, sorted."""

    text: str
    facts: tuple[str, ...]
    _expression: cel.Expression
    #: Of each field that it reads: the function, the field's name as it is written, the fact's name.
    _fields: tuple[tuple[str, str, str], ...] = ()
    #: What it said of the values of its facts, where these can have few.
    _told: dict[tuple[FactValue | None, ...], bool] | None = field(default=None, compare=False, repr=False)

    def holds(self, values: Mapping[str, FactValue]) -> bool:
        """Evaluate on values for at least `facts`; of a field that the mail does not have, there is none.

        Raises EvaluationError.
        """
        if self._told is None:
            return self._evaluate(values)
        key = tuple(map(values.get, self.facts))
        found = self._told.get(key)
        if found is None:
            found = self._evaluate(values)
            if len(self._told) < _MAX_TOLD:
                self._told[key] = found
        return found

    def _evaluate(self, values: Mapping[str, FactValue]) -> bool:
        try:
            found = self._expression.eval(data=self._data(values) if self._fields else values).value()
        except RuntimeError as error:
            raise EvaluationError(str(error)) from None
        if not isinstance(found, bool):
            raise EvaluationError(_MISSING_FIELD.sub(r"the mail has no field \1", str(found)))
        return found

    def _data(self, values: Mapping[str, FactValue]) -> dict[str, object]:
        fields: dict[str, dict[str, FactValue]] = {function: {} for function in HEADER_FUNCTIONS}
        for function, written, name in self._fields:
            if name in values:
                fields[function][written] = values[name]
        return {**{name: value for name, value in values.items() if name[-1] != ")"}, **fields}


#: Finds a list by the name of its file. Raises ListFileError, and ValueError where it cannot be read.
FindList = Callable[[str], ListFile]


def _no_lists(file: str) -> ListFile:
    raise ValueError("lists are not read here")


def compile_condition(text: str, find_list: FindList = _no_lists) -> Condition:
    """Parse, type-check and examine a condition. Raises ConditionError.

    What it costs is bounded: its length, its depth (32, by CEL itself), comprehensions that do not stand in one
    another, over lists that are bounded, and regular expressions of RE2 that are written out.
    """
    if len(text) > MAX_LENGTH:
        raise ConditionError(1, 1, f"the condition is longer than {MAX_LENGTH} characters")
    # What reads no list is what its text is: a reload compiles only what has changed.
    return _compile(text, find_list) if "in_list" in text else _without_lists(text)


@lru_cache(maxsize=4096)
def _without_lists(text: str) -> Condition:
    return _compile(text, _no_lists)


def _compile(text: str, find_list: FindList) -> Condition:
    plain = Source(text)
    parsed = read_parsed(_compiled(_environment(), plain, check=False).serialize())
    try:
        source = source_of(text, parsed)
    except MisplacedError as error:
        raise ConditionError(*plain.place(error.position), str(error)) from None
    lists = {name.literal: _list(name, plain, find_list) for name in _lists_named(parsed, plain)}
    expression = _compiled(_environment_with(lists) if lists else _environment(), source)
    if expression.return_type() != cel.Type.BOOL:
        raise ConditionError(1, 1, f"a condition is true or false, this is a {expression.return_type().name().lower()}")
    tree = read(expression.serialize())
    for node in tree.walk():
        _examine(node, source)
    fields = tuple(_fields_named(tree, source))
    names = {node.name for node in tree.walk() if node.name in FACTS} | {name for _, _, name in fields}
    facts = tuple(sorted(name for name in names if name is not None))
    few = all(FACTS[name].words or FACTS[name].type is FactType.BOOL for name in facts)
    return Condition(text, facts, expression, fields, {} if few else None)


def _compiled(environment: cel.Env, source: Source, *, check: bool = True) -> cel.Expression:
    try:
        return environment.compile(source.compiled, disable_check=not check)
    except RuntimeError as error:
        found = _ERROR.search(str(error))
        if found is None:
            deep = "recursion" in str(error)
            raise ConditionError(1, 1, "the condition is nested too deep" if deep else str(error)) from None
        line, column = source.place(source.position(int(found["line"]), int(found["column"])))
        raise ConditionError(line, column, _plain(found["text"].removesuffix(" [INVALID_ARGUMENT]"))) from None


def _fields_named(tree: Node, source: Source) -> Iterator[tuple[str, str, str]]:
    """The header fields that are read: function, name as written, and the fact's name."""
    known: set[int] = set()
    for node in tree.walk():
        if node.call == "_[_]" and node.children[0].name in HEADER_FUNCTIONS and node.children[1].literal:
            function, written = str(node.children[0].name), node.children[1].literal
            known.add(node.children[0].id)
            yield function, written, f'{function}("{written.lower()}")'
        elif node.name in HEADER_FUNCTIONS and node.id not in known:
            raise _at(node, source, f'{node.name} is asked so: {node.name}("subject")')


def _lists_named(parsed: Node, source: Source) -> Iterator[Node]:
    for node in parsed.walk():
        if node.call == "in_list":
            name = node.children[-1]
            if len(node.children) != 2 or name.literal is None:
                raise _at(node, source, 'in_list names a file: client.ip.in_list("friends.txt")')
            yield name


def _list(name: Node, source: Source, find_list: FindList) -> ListFile:
    try:
        return find_list(name.literal or "")
    except ListFileError as error:
        raise _at(name, source, f"{name.literal}:{error.line}: {error}") from None
    except ValueError as error:
        raise _at(name, source, str(error)) from None


def _plain(text: str) -> str:
    """CEL's complaint in the words of a postmaster, with a suggestion where a name is unknown."""
    unknown = re.match(r"undeclared reference to '([^']+)'", text)
    if unknown:
        name = unknown[1]
        known = [*FACTS, *FUNCTIONS]
        if name == "list":
            return 'a list file is asked so: client.ip.in_list("friends.txt")'
        if name in FUNCTIONS:
            return f"{name} stands behind what it asks: {FUNCTIONS[name].rpartition(': ')[2]}"
        near = difflib.get_close_matches(name, known, 1, 0.6)
        hint = f"did you mean {near[0]}?" if near else "`filterd check --facts` lists what there is"
        return f"there is no fact or function {name}; {hint}"
    overload = re.match(r"found no matching overload for '([^']+)' applied to '\((.*)\)'", text)
    if overload:
        operator = overload[1].strip("_@")
        return f"{operator} cannot be applied to ({overload[2]}): the types do not fit"
    return text


def _examine(node: Node, text: Source) -> None:
    """What CEL's types do not see: words that a fact can never be, arguments that are no network or domain."""
    if node.call in ("_==_", "_!=_", "@in"):
        words = next((FACTS[child.name].words for child in node.children if child.name in FACTS), ())
        below = [each for child in node.children for each in child.walk()] if words else []
        for literal in below:
            if literal.literal is not None and literal.literal not in words:
                near = difflib.get_close_matches(literal.literal, words, 1, 0.5)
                hint = f"did you mean {near[0]!r}?" if near else ""
                allowed = ", ".join(repr(word) for word in words)
                raise _at(literal, text, f"it is never {literal.literal!r}; {hint or 'it is one of ' + allowed}")
        form = next((FACTS[child.name].form for child in node.children if child.name in FACTS), None)
        for literal in [each for child in node.children for each in child.walk()]:
            if form and literal.literal and (problem := _unlike(form, literal.literal)):
                raise _at(literal, text, problem)
    elif node.call == "matches":
        if node.children[-1].literal is None:
            raise _at(node, text, "the pattern of matches is written out, as others could write a costly one")
        try:
            check_pattern(node.children[-1].literal)
        except ConditionError as error:
            raise _at(node.children[-1], text, error.text) from None
    elif node.looped and any(each.looped for part in node.looped for each in part.walk()):
        raise _at(node, text, "exists, all, filter and map do not stand within one another: that could take long")
    elif node.call == "in_net" and isinstance(node.children[-1].literal, str):
        try:
            _network(node.children[-1].literal)
        except ValueError as error:
            raise _at(node.children[-1], text, f'no network: {error}; "192.0.2.0/24" would be one') from None
    elif node.call == "under" and isinstance(node.children[-1].literal, str):
        try:
            Domain.parse(node.children[-1].literal)
        except DomainError as error:
            raise _at(node.children[-1], text, f"no domain: {error}") from None


def _unlike(form: Form, literal: str) -> str | None:
    """Why a fact of this form never equals the literal; None where it may."""
    if form is Form.ADDRESS and _address(literal) is None:
        return f'it is one address, never {literal!r}; networks are asked so: client.ip.in_net("192.0.2.0/24")'
    if form is Form.DOMAIN:
        try:
            name = Domain.parse(literal).name
        except DomainError as error:
            return f"it is a domain, never {literal!r}: {error}"
        return None if name == literal else f"it is in lower case A-labels; write {name!r}"
    return None if literal == literal.lower() else f"it is in lower case; write {literal.lower()!r}"


def _at(node: Node, source: Source, problem: str) -> ConditionError:
    return ConditionError(*source.place(node.position), problem)


@lru_cache(maxsize=4096)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _in_net(address: str, network: str) -> bool:
    """Whether the address lies in the network; an empty or malformed address lies in none."""
    found = _address(address)
    return found is not None and found in _network(network)


def _under(name: str, domain: str) -> bool:
    """Whether the name is the domain or below it; names are compared as A-labels."""
    try:
        return Domain.parse(name).under(Domain.parse(domain))
    except DomainError:
        return False


def check_pattern(pattern: str) -> None:
    """Raises ConditionError where RE2 cannot compile the pattern."""
    try:
        found_in(pattern, "")
    except EvaluationError as error:
        raise ConditionError(
            1, 1, f"no regular expression: {str(error).rpartition('regular expression: ')[2]}"
        ) from None


def found_in(pattern: str, text: str) -> bool:
    """Whether a regular expression is found in the text, in time linear to it (RE2). Raises EvaluationError."""
    found = _search().eval(data={"text": text, "pattern": pattern}).value()
    if not isinstance(found, bool):
        raise EvaluationError(str(found))
    return found


@cache
def _search() -> cel.Expression:
    variables = {"text": cel.Type.STRING, "pattern": cel.Type.STRING}
    return cel.NewEnv(variables=variables).compile("text.matches(pattern)")


#: What conditions may ask, and an example of it; CEL's own (size, startsWith, contains, exists, ...) besides.
FUNCTIONS = {
    "in_net": 'whether an address lies in a network: `client.ip.in_net("192.0.2.0/24")`',
    "under": 'whether a name is a domain or below it: `author.domain.under("example.org")`',
    "in_list": 'whether an address, domain or mail address is in a file: `client.ip.in_list("friends.txt")`',
    "header": 'the text of the first field of that name; without one, the condition is false: `header("subject")`',
    "headers": 'the texts of all fields of that name, a hundred at most: `headers("x-mailer")`',
    "has_header": 'whether there is a field of that name: `has_header("list-id")`',
    "matches": 'whether a regular expression (RE2) is found in a text: `client.helo.matches("^dsl-")`',
}
_IMPLEMENTED: dict[str, Callable[[str, str], bool]] = {"in_net": _in_net, "under": _under}


@cache
def _environment() -> cel.Env:
    return _environment_with({})


def _environment_with(lists: Mapping[str | None, ListFile]) -> cel.Env:
    def in_list(text: str, file: str) -> bool:
        return lists[file].has(text)

    variables = {fact.name: _TYPES[fact.type] for fact in FACTS.values()}
    fields = {name: cel.Type.Map(cel.Type.STRING, _TYPES[kind]) for name, kind in HEADER_FUNCTIONS.items()}
    functions = {**_IMPLEMENTED, "in_list": in_list}
    return cel.NewEnv(
        variables={**variables, **fields},
        functions=[
            cel.FunctionDecl(
                name,
                [
                    cel.Overload(
                        f"{name}_string_string",
                        cel.Type.BOOL,
                        [cel.Type.STRING, cel.Type.STRING],
                        is_member=True,
                        impl=implementation,
                    )
                ],
            )
            for name, implementation in functions.items()
        ],
    )
