"""The configuration of OpenDKIM: opendkim.conf(5) and the data sets it names (opendkim(8), DATA SETS).

Answers what is set, where, and which rows a data set has. What that means for signing is not known here.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

#: Larger files are not read.
MAX_SIZE = 16 * 1024 * 1024
_MAX_INCLUDES = 5  # levels, as opendkim.conf(5) has it
_MAX_FILES = 100
_KIND = re.compile(r"(csl|file|refile|db|dsn|ldap|ldaps|ldapi|lua|memcache|erlang|mdb|repute|socket):", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands; lines count from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class OpenDkimError(ValueError):
    """The configuration cannot be understood; the message begins with the file and the line."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(f"{place}: {printable(text)}")


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of a parameter, and the parameter's name, as written."""

    name: str
    value: str
    place: Place


class Form(StrEnum):
    """How the keys of a data set are compared with what is looked for."""

    PLAIN = "plain"  #: character by character (file:, csl:)
    PATTERNS = "patterns"  #: "*" stands for any text (refile:)


@dataclass(frozen=True, slots=True)
class Row:
    """An element of a data set; the value may be empty."""

    key: str
    value: str
    place: Place


@dataclass(frozen=True, slots=True)
class DataSet:
    """All rows of a data set, in order."""

    form: Form
    rows: tuple[Row, ...]
    place: Place  #: of the setting that names it


class OpenDkimConfig:
    """An opendkim.conf with all that it includes."""

    def __init__(self, path: Path) -> None:
        """Raises OpenDkimError."""
        self.path = path
        #: by name in lower case; of a parameter that is set twice the last value holds
        self.settings: dict[str, Setting] = {}
        self._files = 0
        self._read(path, Place(path, 1), 0)

    def dataset(self, name: str) -> DataSet | None:
        """The data set that a parameter names. Raises OpenDkimError where it is of a kind that cannot be read here."""
        setting = self.settings.get(name.lower())
        if setting is None:
            return None
        kind, text = _kind(setting.value)
        if kind == "csl":
            rows = tuple(_list(text, setting.place))
        elif kind in ("file", "refile"):
            rows = tuple(_rows(self.file(text), setting.place))
        else:
            problem = f"{name} is a data set of kind {kind}:, of which only OpenDKIM knows what is in it"
            raise OpenDkimError(setting.place, f"{problem}; write its rows to a file, and name that by file:")
        return DataSet(Form.PATTERNS if kind == "refile" else Form.PLAIN, rows, setting.place)

    def file(self, name: str) -> Path:
        """A file that is named here: relative names begin at BaseDirectory, else at this file's folder."""
        base = self.settings.get("basedirectory")
        return self.path.absolute().parent / (base.value if base else "") / name

    def _read(self, path: Path, named: Place, level: int) -> None:
        self._files += 1
        if level > _MAX_INCLUDES or self._files > _MAX_FILES:
            raise OpenDkimError(named, "more files are included than OpenDKIM allows")
        for number, line in enumerate(_lines(path, named), 1):
            name, _, value = line.replace("\t", " ").partition(" ")
            place, value = Place(path, number), line[len(name) :].strip()
            if not name:
                continue
            if not value:
                raise OpenDkimError(place, f"{name} has no value")
            if name.lower() == "include":
                self._read(self.file(value), place, level + 1)
            else:
                self.settings[name.lower()] = Setting(name, value, place)


def printable(text: str) -> str:
    """A text of somebody's file, safe to show in one line."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _kind(value: str) -> tuple[str, str]:
    """The kind of a data set, and what follows its prefix (opendkim(8), DATA SETS)."""
    found = _KIND.match(value)
    if found:
        return found[1].lower(), value[found.end() :].strip()
    if value.endswith(".db"):
        return "db", value
    return ("file" if value.startswith("/") else "csl"), value


def _list(text: str, place: Place) -> list[Row]:
    parts = (part.partition("=") for part in text.split(","))
    return [Row(key.strip(), value.strip(), place) for key, _, value in parts if key.strip()]


def _rows(path: Path, named: Place) -> list[Row]:
    rows = []
    for number, line in enumerate(_lines(path, named), 1):
        if line:
            key, *rest = line.split(maxsplit=1)
            rows.append(Row(key, rest[0] if rest else "", Place(path, number)))
    return rows


def _lines(path: Path, named: Place) -> list[str]:
    """The lines of a file, without comments and the white space around; `named` is the place that sent us there."""
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no file name"
        raise OpenDkimError(named, f"{path} cannot be read: {reason}") from None
    if len(octets) > MAX_SIZE:
        raise OpenDkimError(named, f"{path} is larger than {MAX_SIZE >> 20} MiB")
    text = octets.decode("utf-8", "replace")
    return [line.partition("#")[0].strip() for line in text.split("\n")]
