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

    `name` is a dotted name (an identifier, or a fully qualified fact), `call` a function's name, `literal` a string.
    """

    id: int = 0
    position: int = 0
    name: str | None = None
    call: str | None = None
    literal: str | None = None
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
    positions: dict[int, int] = {}
    for number, entry in _fields(checked[5]):
        if number == 4:
            pair = dict(_fields(entry))
            positions[_int(pair.get(1, 0))] = _int(pair.get(2, 0))
    return _expr(checked[4], positions)


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
                node.literal = next((_text(constant) for kind, constant in _fields(value) if kind == 6), None)
            case 4:
                node.name = _text(dict(_fields(value))[1])
            case 5:
                _select(node, value, positions)
            case 6:
                _call(node, value, positions)
            case 7:
                node.children = [_expr(part, positions) for inner, part in _fields(value) if inner == 1]
            case 8:
                for inner, entry in _fields(value):
                    if inner == 2:
                        node.children += [_expr(part, positions) for key, part in _fields(entry) if key in (3, 4)]
            case 9:
                node.children = [_expr(part, positions) for inner, part in _fields(value) if inner in (2, 4, 5, 6, 7)]
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
