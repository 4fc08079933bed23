"""Reads Postfix's tables of header_checks(5), regexp: and pcre:, for what they change in a mail."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filterd.postfix.config import items

#: Actions that change or remove what is there.
_CHANGES = ("REPLACE", "IGNORE", "STRIP")
_MAX_SIZE = 1 << 20  # octets of a table
_FIELDS = re.compile(r"\^\(?((?:[\w-]+\|?)+)\)?:?")


@dataclass(frozen=True, slots=True)
class ChangingLine:
    """A line of a table that changes mail. `fields` are the names that its pattern begins with, in small letters."""

    file: str
    number: int
    pattern: str
    flags: str
    action: str
    fields: tuple[str, ...]

    @property
    def text(self) -> str:
        """Its number, and what it does, for a person."""
        return f"line {self.number}: /{self.pattern}/ {self.action}"

    def matches(self, lines: Sequence[str]) -> bool:
        """Whether the pattern is about one of these lines, as far as can be told."""
        try:
            # Postfix's patterns ignore case, unless a flag says so.
            pattern = re.compile(self.pattern, 0 if "i" in self.flags else re.IGNORECASE)
        except re.error:
            return False
        return any(pattern.search(line) for line in lines)


def changing_lines(value: str) -> Iterator[ChangingLine]:
    """The lines that change mail, in all the tables of a parameter that can be read."""
    for table in items(value):
        kind, _, path = table.partition(":")
        if kind not in ("regexp", "pcre") or not Path(path).is_file():
            continue
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.read(_MAX_SIZE).splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines, 1):
            found = _parsed(path, number, line)
            if found is not None:
                yield found


def _parsed(file: str, number: int, line: str) -> ChangingLine | None:
    line = line.removeprefix("!")
    mark = line[:1]
    if not mark or mark.isalnum() or mark.isspace() or mark == "#":
        return None
    pattern, _, rest = line[1:].replace(f"\\{mark}", "\0").partition(mark)
    flags, _, action = rest.partition(" ")
    word = action.strip().partition(" ")[0].upper()
    if word not in _CHANGES:
        return None
    pattern = pattern.replace("\0", f"\\{mark}")
    names = _FIELDS.match(pattern)
    return ChangingLine(file, number, pattern, flags, word, tuple(names[1].lower().split("|")) if names else ())
