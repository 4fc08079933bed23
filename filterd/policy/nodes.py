"""YAML text as plain data whose every part knows its place in the file.

Scalars stay the text that was written: which type they are is for the schema to say. Duplicate keys, aliases, tags and
oversized or deep documents are refused.
"""

from typing import Any

import yaml

from filterd.policy.errors import PolicyError, PolicyErrors

#: Larger files are refused before they are parsed.
MAX_SIZE = 4 * 1024 * 1024
_MAX_DEPTH = 32

Data = str | None | list["Data"] | dict[str, "Data"]
Path = tuple[str | int, ...]


class _RefusedError(ValueError):
    """YAML, but nothing that a policy has."""

    def __init__(self, mark: Any, text: str) -> None:
        super().__init__(text)
        self.line, self.column = mark.line + 1, mark.column + 1


class Document:
    """A parsed file: `data` for the schema, and the place of every path in it."""

    def __init__(self, text: str, file: str) -> None:
        """Raises PolicyErrors."""
        self.file = file
        self._lines = text.split("\n")
        self._marks: dict[Path, tuple[int, int]] = {}
        self._scalars: dict[Path, yaml.ScalarNode] = {}
        self._errors: list[PolicyError] = []
        if len(text) > MAX_SIZE:
            raise PolicyErrors([PolicyError(file, 1, 1, "", f"the file is larger than {MAX_SIZE} characters")])
        try:
            self._refuse_aliases(text)
            node = yaml.compose(text, Loader=yaml.CSafeLoader)
            self.data: Data = self._read(node, (), 0) if node is not None else {}
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            what = "; ".join(part for part in (error.context, error.problem) if part)
            raise PolicyErrors([PolicyError(file, line, column, "", f"this is no YAML: {what}")]) from None
        except _RefusedError as error:
            raise PolicyErrors([PolicyError(file, error.line, error.column, "", str(error))]) from None
        except (yaml.YAMLError, ValueError) as error:
            raise PolicyErrors([PolicyError(file, 1, 1, "", f"this is no YAML: {error}")]) from None
        if self._errors:
            raise PolicyErrors(self._errors)

    def error(self, path: Path, problem: str) -> PolicyError:
        """An error at a path; the nearest part that stands in the file gives the place."""
        line, column = self._mark(path)
        return PolicyError(self.file, line, column, dotted(path), problem)

    def error_within(self, path: Path, line: int, column: int, problem: str) -> PolicyError:
        """An error inside a scalar; `line` and `column` count from 1 within its value."""
        node = self._scalars[path]
        start = node.start_mark
        if node.style in ("|", ">"):
            row = start.line + line
            text = self._lines[row] if row < len(self._lines) else ""
            at = len(text) - len(text.lstrip(" ")) + column
            return PolicyError(self.file, row + 1, at, dotted(path), problem)
        if node.end_mark.line != start.line:
            return PolicyError(self.file, start.line + 1, start.column + 1, dotted(path), problem)
        quoted = 1 if node.style in ("'", '"') else 0
        return PolicyError(self.file, start.line + 1, start.column + quoted + column, dotted(path), problem)

    def line(self, path: Path) -> int:
        return self._mark(path)[0]

    def keys(self, path: Path) -> Data:
        """The data at a path, or None."""
        found: Data = self.data
        for part in path:
            if isinstance(found, dict) and isinstance(part, str):
                found = found.get(part)
            elif isinstance(found, list) and isinstance(part, int) and part < len(found):
                found = found[part]
            else:
                return None
        return found

    def _mark(self, path: Path) -> tuple[int, int]:
        while path and path not in self._marks:
            path = path[:-1]
        return self._marks.get(path, (1, 1))

    def _refuse_aliases(self, text: str) -> None:
        # Before composing: a few nested aliases grow to billions of nodes.
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            mark = event.start_mark
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise _RefusedError(mark, "anchors and aliases are not used here")
            if getattr(event, "tag", None) not in (None, "!"):
                raise _RefusedError(mark, "tags (!name) are not used here")

    def _read(self, node: yaml.Node, path: Path, depth: int) -> Data:
        self._marks.setdefault(path, (node.start_mark.line + 1, node.start_mark.column + 1))
        if depth > _MAX_DEPTH:
            raise _RefusedError(node.start_mark, "this is nested too deep")
        if isinstance(node, yaml.ScalarNode):
            self._scalars[path] = node
            empty = node.style is None and node.value in ("", "~", "null")
            return None if empty else str(node.value)
        if isinstance(node, yaml.SequenceNode):
            return [self._read(child, (*path, index), depth + 1) for index, child in enumerate(node.value)]
        assert isinstance(node, yaml.MappingNode)
        data: dict[str, Data] = {}
        for key, value in node.value:
            mark = (key.start_mark.line + 1, key.start_mark.column + 1)
            if not isinstance(key, yaml.ScalarNode):
                self._errors.append(PolicyError(self.file, *mark, dotted(path), "a key is a plain word"))
                continue
            if key.value in data:
                first = self._marks[(*path, key.value)][0]
                problem = f"the key {key.value} stands here twice; the first is in line {first}"
                self._errors.append(PolicyError(self.file, *mark, dotted(path), problem))
                continue
            self._marks[(*path, key.value)] = mark
            data[key.value] = self._read(value, (*path, key.value), depth + 1)
        return data


def dotted(path: Path) -> str:
    """`rules[2].when`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
