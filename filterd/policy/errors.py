"""What is wrong with a policy, and where: for the operator, at load only."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PolicyError:
    """One fault. `line` and `column` count from 1, and are 0 where the file as a whole is meant.

    `path` is the dotted place (`rules[2].when`), or empty.
    """

    file: str
    line: int
    column: int
    path: str
    text: str

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {path}{self.text}"


class PolicyErrors(Exception):  # noqa: N818 # it carries several errors
    """A policy cannot be used; `errors` has every fault that was found, file by file, each in its order."""

    def __init__(self, errors: Sequence[PolicyError]) -> None:
        files = list(dict.fromkeys(error.file for error in errors))
        self.errors = tuple(sorted(errors, key=lambda error: (files.index(error.file), error.line, error.column)))
        super().__init__("\n".join(str(error) for error in self.errors))
