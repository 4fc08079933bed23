"""A condition's text as it is given to CEL, and the way back to the place in what was written.

CEL has no functions that see the mail, and takes no 5 for 5.0. So `header("subject")` becomes an index into a map of
fields, and a whole number that meets a double gets a decimal point.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from filterd.policy.checked_expr import Node
from filterd.policy.facts import FACTS, HEADER_FUNCTIONS, FactType

_ARGUMENT = re.compile(r"""[rR]?("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')\s*(?P<end>\))""")
_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}")
_WHOLE = re.compile(r"-?\s*\d+(?![\w.])")
_COMPARISONS = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in"})
_ARITHMETIC = frozenset({"_+_", "_-_", "_*_", "_/_", "-_", "_?_:_"})


class MisplacedError(ValueError):
    """A function of the header is not asked as it can be; `position` is its place in the text."""

    def __init__(self, position: int, text: str) -> None:
        super().__init__(text)
        self.position = position


@dataclass(frozen=True, slots=True)
class Source:
    """What CEL compiles. `points` are the places in it where ".0" was put in."""

    compiled: str
    points: tuple[int, ...] = ()

    def place(self, position: int) -> tuple[int, int]:
        """Line and column, from 1, in what was written, of a position in what is compiled."""
        before = self.compiled[:position]
        line_start = before.rfind("\n") + 1
        added = sum(2 for point in self.points if line_start <= point < position)
        return before.count("\n") + 1, position - line_start + 1 - added

    def position(self, line: int, column: int) -> int:
        """The position of a line and column, from 1, in what is compiled."""
        start = sum(len(each) + 1 for each in self.compiled.split("\n")[: line - 1])
        return start + column - 1


def source_of(text: str, parsed: Node) -> Source:
    """The source of a condition, from its syntax tree. Raises MisplacedError."""
    chars = list(text)
    for node in parsed.walk():
        if node.call in HEADER_FUNCTIONS:
            opening, closing = _brackets(text, node)
            chars[opening], chars[closing] = "[", "]"
    ends = {found.end() for at in _doubles(parsed) if (found := _WHOLE.match(text, at))}
    points = tuple(end + 2 * number for number, end in enumerate(sorted(ends)))
    for point in points:
        chars[point:point] = [".", "0"]
    return Source("".join(chars), points)


def _brackets(text: str, call: Node) -> tuple[int, int]:
    name = call.children[0] if len(call.children) == 1 else None
    found = _ARGUMENT.match(text, name.position) if name is not None and name.literal is not None else None
    if name is None or found is None or not _FIELD_NAME.fullmatch(name.literal or ""):
        raise MisplacedError(call.position, f'{call.call} is asked so: {call.call}("subject")')
    return text.rindex("(", 0, name.position), found.start("end")


def _doubles(parsed: Node) -> Iterator[int]:
    """The places of whole numbers that are compared or reckoned with a double."""
    for node in parsed.walk():
        if node.call in _COMPARISONS | _ARITHMETIC and any(map(_is_double, node.children)):
            for child in node.children:
                yield from _wholes(child)


def _is_double(node: Node) -> bool:
    if node.name in FACTS:
        return FACTS[node.name].type is FactType.DOUBLE
    return node.number == "double" or (node.call in _ARITHMETIC and any(map(_is_double, node.children)))


def _wholes(node: Node) -> Iterator[int]:
    if node.number == "int":
        yield node.position
    elif node.call in _ARITHMETIC or node.listed:
        for child in node.children:
            yield from _wholes(child)
