"""Where the characters of a YAML scalar stand in its file: quotes, escapes, folded and indented lines considered."""

import re
from collections.abc import Iterator, Sequence

import yaml

# As libyaml ends lines.
_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_WHITE = " \t"
_UNITS = {'"': re.compile(r"\\(?:x.{2}|u.{4}|U.{8}|.)|."), "'": re.compile("''|.")}
_CHARACTER = re.compile(".")

Place = tuple[int, int]  # line and column, from 1


def lines_of(text: str) -> list[str]:
    """The lines of a file, as YAML counts them."""
    return _BREAK.split(text.removeprefix("\ufeff"))


def place_within(node: yaml.ScalarNode, lines: Sequence[str], line: int, column: int) -> Place:
    """The place of the character at `line` and `column` (from 1) of a scalar's value."""
    value: str = node.value
    before = value.split("\n")[: line - 1]
    offset = sum(len(each) + 1 for each in before) + column - 1
    places = _places(node, lines)
    if not places:
        return node.start_mark.line + 1, node.start_mark.column + 1
    row, begin = places[min(offset, len(places) - 1)]
    # Behind the last character is where something is missing.
    return row + 1, begin + 1 + max(0, offset - len(places) + 1)


def _places(node: yaml.ScalarNode, lines: Sequence[str]) -> list[Place]:
    """Row and column, from 0, of every character of the value."""
    if node.style in ("|", ">"):
        return _block_places(node, lines)
    start, end, quote = node.start_mark, node.end_mark, int(node.style in _UNITS)
    places: list[Place] = []
    breaks, escaped = 0, False  # line ends since there was text, and whether the first was escaped
    for row in range(start.line, end.line + 1):
        first, last = row == start.line, row == end.line
        begin = start.column + quote if first else 0
        text = lines[row][begin : end.column - quote if last else None]
        if not first:
            breaks += 1
            begin += len(text) - len(text.lstrip(_WHITE))
            text = text.lstrip(_WHITE)
        text = text if last else text.rstrip(_WHITE)
        if text and breaks:
            # YAML 1.2 6.5: one line end is folded into a space, of several the first is dropped.
            places += [(row, begin)] * (breaks - 1 if escaped or breaks > 1 else 1)
        if text:
            escaped = node.style == '"' and not last and bool(len(text) - len(text.rstrip("\\")) & 1)
            places += [(row, begin + unit.start()) for unit in _units(node, text[:-1] if escaped else text)]
            breaks = 0
    return places


def _units(node: yaml.ScalarNode, text: str) -> Iterator[re.Match[str]]:
    return _UNITS.get(node.style or "", _CHARACTER).finditer(text)


def _block_places(node: yaml.ScalarNode, lines: Sequence[str]) -> list[Place]:
    value: str = node.value
    places: list[Place] = []
    for row in range(node.start_mark.line + 1, min(node.end_mark.line + 1, len(lines))):
        begin = len(lines[row]) - len(lines[row].lstrip(_WHITE))
        text = lines[row].strip(_WHITE)
        # What line ends and indentation have become.
        while text and len(places) < len(value) and value[len(places)].isspace():
            places.append((row, begin))
        places += [(row, begin + at) for at in range(len(text))][: len(value) - len(places)]
    return places
