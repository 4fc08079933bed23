"""YAML texts as plain data whose every part knows its file and its place in it.

Scalars stay the text that was written: which type they are is for the schema to say. Duplicate keys, aliases, tags and
oversized or deep documents are refused. What a file includes is merged into it.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import yaml

from filterd.policy.errors import PolicyError, PolicyErrors
from filterd.policy.places import lines_of, place_within

#: Larger files are refused before they are parsed.
MAX_SIZE = 4 * 1024 * 1024
#: How many files a policy may have, and how many characters all of them together.
MAX_FILES = 200
MAX_TOTAL = 4 * MAX_SIZE
_MAX_DEPTH = 32

Data = str | None | list["Data"] | dict[str, "Data"]
Path = tuple[str | int, ...]
#: The files that an entry of `include` means: what errors call each, and its text. Raises ValueError for a file that
#: cannot be read, and PolicyErrors for one that is no text.
ReadInclude = Callable[[str], Sequence[tuple[str, str]]]


def no_includes(pattern: str) -> Sequence[tuple[str, str]]:
    raise ValueError("files are not included here")


class _RefusedError(ValueError):
    """YAML, but nothing that a policy has."""

    def __init__(self, mark: Any, text: str) -> None:
        super().__init__(text)
        self.line, self.column = mark.line + 1, mark.column + 1


@dataclass(frozen=True, slots=True)
class _Source:
    file: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Mark:
    source: _Source
    line: int
    column: int


class Document:
    """A parsed file with all that it includes: `data` for the schema, and the place of every path in it.

    `errors` are what is wrong besides: the data are good without. `texts` are those of all files.
    """

    def __init__(self, text: str, file: str, read_include: ReadInclude = no_includes) -> None:
        """Raises PolicyErrors where there are no data at all."""
        self.file = file
        self.texts: list[str] = []
        self.errors: list[PolicyError] = []
        self._marks: dict[Path, _Mark] = {}
        self._scalars: dict[Path, tuple[_Source, yaml.ScalarNode]] = {}
        self.data: Data = {}
        self._add(text, file)
        self._include(read_include)

    def error(self, path: Path, problem: str) -> PolicyError:
        """An error at a path; the nearest part that stands in a file gives the place."""
        mark = self._mark(path)
        return PolicyError(mark.source.file, mark.line, mark.column, dotted(path), problem)

    def error_within(self, path: Path, line: int, column: int, problem: str) -> PolicyError:
        """An error inside a scalar; `line` and `column` count from 1 within its value."""
        source, node = self._scalars[path]
        return PolicyError(source.file, *place_within(node, source.lines, line, column), dotted(path), problem)

    def line(self, path: Path) -> int:
        return self._mark(path).line

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

    def _mark(self, path: Path) -> _Mark:
        while path and path not in self._marks:
            path = path[:-1]
        return self._marks.get(path) or _Mark(_Source(self.file, ()), 1, 1)

    def _add(self, text: str, file: str) -> None:
        """Parse one file and merge it into the data. Raises PolicyErrors."""
        self.texts.append(text)
        source = _Source(file, lines_of(text))
        try:
            node = _compose(text)
            if node is not None:
                self.data = self._read(node, (), source, self.data if self._marks else None)
        except yaml.MarkedYAMLError as error:
            raise PolicyErrors([_malformed(error, text, source)]) from None
        except yaml.reader.ReaderError as error:
            raise PolicyErrors([_unreadable(error, text, file)]) from None
        except _RefusedError as error:
            raise PolicyErrors([PolicyError(file, error.line, error.column, "", str(error))]) from None
        except (yaml.YAMLError, ValueError) as error:
            raise PolicyErrors([PolicyError(file, 0, 0, "", f"this is no YAML: {error}")]) from None

    def _include(self, read: ReadInclude) -> None:
        """Add what `include` names, and what those files include, in this order."""
        files, index = {self.file}, 0
        while isinstance(names := self.keys(("include",)), list) and index < len(names):
            path, name = ("include", index), names[index]
            index += 1
            try:
                for file, text in read(name) if isinstance(name, str) else ():
                    if file in files:
                        raise ValueError(f"{file} is part of the policy already")
                    files.add(file)
                    if len(files) > MAX_FILES or sum(map(len, self.texts)) + len(text) > MAX_TOTAL:
                        limit = f"a policy has at most {MAX_FILES} files and {MAX_TOTAL} characters"
                        self.errors.append(self.error(path, limit))
                        return
                    self._add(text, file)
            except ValueError as error:
                self.errors.append(self.error(path, str(error)))
            except PolicyErrors as error:
                self.errors += error.errors

    def _read(self, node: yaml.Node, path: Path, source: _Source, there: Data = None) -> Data:
        """The data of a node. `there` is what stands at the path already: a list grows, a mapping gets more keys."""
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        self._marks.setdefault(path, _Mark(source, line, column))
        if len(path) > _MAX_DEPTH:
            raise _RefusedError(node.start_mark, "this is nested too deep")
        if isinstance(node, yaml.SequenceNode) and isinstance(there, list | None):
            items: list[Data] = [] if there is None else there
            for child in node.value:
                place = (*path, len(items))
                items.append(self._read(child, place, source))
                if items[-1] is None:
                    self.errors.append(self.error(place, "this item of the list is empty"))
            return items
        if isinstance(node, yaml.MappingNode) and isinstance(there, dict | None):
            return self._read_mapping(node, path, source, {} if there is None else there)
        if isinstance(node, yaml.ScalarNode):
            empty = not node.style and node.value in ("", "~", "null", "Null", "NULL")
            value = None if empty else str(node.value)
            if there is None:
                self._scalars[path] = source, node
                return value
            if empty or (path == ("version",) and value == there):
                return there
        first = self._mark(path)
        problem = f"{dotted(path) or 'this'} is set already, in {first.source.file}:{first.line}; only lists grow"
        self.errors.append(PolicyError(source.file, line, column, dotted(path), problem))
        return there

    def _read_mapping(self, node: yaml.MappingNode, path: Path, source: _Source, data: dict[str, Data]) -> Data:
        lines: dict[str, int] = {}
        for key, value in node.value:
            mark = _Mark(source, key.start_mark.line + 1, key.start_mark.column + 1)
            problem = None
            if not isinstance(key, yaml.ScalarNode):
                problem = "a key is a plain word"
            elif key.value in lines:
                problem = f"the key {key.value} stands here twice; the first is in line {lines[key.value]}"
            if problem is not None:
                self.errors.append(PolicyError(source.file, mark.line, mark.column, dotted(path), problem))
                continue
            lines[key.value] = mark.line
            if data.get(key.value) is None:
                self._marks[(*path, key.value)] = mark
            data[key.value] = self._read(value, (*path, key.value), source, data.get(key.value))
        return data


def _compose(text: str) -> yaml.Node | None:
    if len(text) > MAX_SIZE:
        raise ValueError(f"the file is larger than {MAX_SIZE} characters")
    # Before composing: a few nested aliases grow to billions of nodes.
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _RefusedError(event.start_mark, "anchors and aliases are not used here")
        if getattr(event, "tag", None) not in (None, "!"):
            raise _RefusedError(event.start_mark, "tags (!name) are not used here")
    node: yaml.Node | None = yaml.compose(text, Loader=yaml.CSafeLoader)
    return node


def _malformed(error: yaml.MarkedYAMLError, text: str, source: _Source) -> PolicyError:
    """What YAML's grammar refuses, at the place where the postmaster has to look."""
    mark: Any = error.problem_mark or error.context_mark
    begin: Any = error.context_mark
    context, problem = error.context or "", error.problem or ""
    if mark is None:
        return PolicyError(source.file, 0, 0, "", f"this is no YAML: {error}")
    quoted = _last_quoted(text)
    if quoted is not None and quoted.end_mark.line == mark.line:
        problem = f"this text in quotes ends in line {mark.line + 1}; is a quote missing?"
        mark, context = quoted.start_mark, ""
    elif begin is not None and mark.line >= len(source.lines) - 1:
        mark = begin  # what was not closed says more than the end of the file
    elif begin is not None and begin.line != mark.line and "flow" in context:
        context += f" that begins in line {begin.line + 1}"
    what = "; ".join(part for part in (context, problem) if part)
    return PolicyError(source.file, mark.line + 1, mark.column + 1, "", f"this is no YAML: {what}")


def _last_quoted(text: str) -> Any:
    """The last text in quotes over several lines before YAML gives up."""
    last: Any = None
    with suppress(yaml.YAMLError):
        event: Any
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if getattr(event, "style", None) in ("'", '"'):
                last = event if event.start_mark.line != event.end_mark.line else None
    return last


def _unreadable(error: yaml.reader.ReaderError, text: str, file: str) -> PolicyError:
    """Control characters and the like."""
    # libyaml counts octets.
    before = text.encode("utf-8")[: error.position].decode("utf-8", "ignore")
    lines = lines_of(before)
    problem = f"the character U+{ord(text[len(before)]):04X} has no place in YAML"
    return PolicyError(file, len(lines), len(lines[-1]) + 1, "", problem)


def dotted(path: Path) -> str:
    """`rules[2].when`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
