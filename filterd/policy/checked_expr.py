"""A type-checked CEL expression as a tree, read from the runtime's serialized form.

The runtime (C++) gives the tree only as a `cel.expr.CheckedExpr` protocol buffer (github.com/google/cel-spec,
proto/cel/expr/checked.proto and syntax.proto). What the policy needs of it fits a small reader; the protobuf package
would be a dependency larger than this project.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Node:
    """One node. `position` is the offset in characters of the expression's text that the parser noted for it.

    `name` is a dotted name (an identifier, or a fully qualified fact), `call` a function's name, `literal` a string,
    `number` the type of a number; `listed` tells a list. `looped` is what a comprehension does again and again.
    """

    id: int = 0
    position: int = 0
    name: str | None = None
    call: str | None = None
    literal: str | None = None
    number: str | None = None
    listed: bool = False
    looped: list["Node"] = field(default_factory=list)
    children: list["Node"] = field(default_factory=list)

    def walk(self) -> Iterator["Node"]:
        """This node and all below it."""
        pending = [self]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(reversed(node.children))


def read(serialized: bytes) -> Node:
    """Read what `Expression.serialize()` gave: an Any around CheckedExpr."""
    checked = dict(_fields(dict(_fields(serialized))[2]))
    return _expr(checked[4], _positions(checked[5]))


def read_parsed(serialized: bytes) -> Node:
    """The same of an expression that was compiled without its check: an Any around ParsedExpr."""
    parsed = dict(_fields(dict(_fields(serialized))[2]))
    return _expr(parsed[2], _positions(parsed[3]))


def _positions(source_info: "_Raw") -> dict[int, int]:
    positions: dict[int, int] = {}
    for number, entry in _fields(source_info):
        if number == 4:
            pair = dict(_fields(entry))
            positions[_int(pair.get(1, 0))] = _int(pair.get(2, 0))
    return positions


_Raw = bytes | int


def _int(value: _Raw) -> int:
    assert isinstance(value, int)
    return value


def _text(value: _Raw) -> str:
    assert isinstance(value, bytes)
    return value.decode()


def _fields(data: _Raw) -> Iterator[tuple[int, _Raw]]:
    """The fields of a protocol buffer message: varints as int, everything else as bytes."""
    assert isinstance(data, bytes)
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
        else:
            size, at = _varint(data, at) if kind == 2 else (8 if kind == 1 else 4, at)
            yield number, data[at : at + size]
            at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        octet = data[at]
        at += 1
        value |= (octet & 0x7F) << shift
        shift += 7
        if octet < 0x80:
            return value, at


def _expr(data: _Raw, positions: dict[int, int]) -> Node:
    node = Node()
    for number, value in _fields(data):
        match number:
            case 2:
                node.id = _int(value)
            case 3:
                for kind, constant in _fields(value):
                    node.literal = _text(constant) if kind == 6 else None
                    node.number = {3: "int", 5: "double"}.get(kind)
            case 4:
                node.name = _text(dict(_fields(value))[1])
            case 5:
                _select(node, value, positions)
            case 6:
                _call(node, value, positions)
            case 7:
                node.listed = True
                node.children = [_expr(part, positions) for inner, part in _fields(value) if inner == 1]
            case 8:
                for inner, entry in _fields(value):
                    if inner == 2:
                        node.children += [_expr(part, positions) for key, part in _fields(entry) if key in (3, 4)]
            case 9:
                parts = [(inner, _expr(part, positions)) for inner, part in _fields(value) if inner in (2, 4, 5, 6, 7)]
                node.children = [part for _, part in parts]
                node.looped = [part for inner, part in parts if inner in (5, 6)]
    node.position = positions.get(node.id, 0)
    return node


def _select(node: Node, data: _Raw, positions: dict[int, int]) -> None:
    parts = dict(_fields(data))
    operand = _expr(parts[1], positions)
    if operand.name is not None:
        node.name = f"{operand.name}.{_text(parts[2])}"
    node.children = [operand]


def _call(node: Node, data: _Raw, positions: dict[int, int]) -> None:
    for number, value in _fields(data):
        if number == 2:
            node.call = _text(value)
        else:
            node.children.append(_expr(value, positions))
