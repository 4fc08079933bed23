"""A transcript from its plain data: the exact inverse of `Transcript.to_mapping`.

The data comes from a store, a file or a bug report, so all of it is checked: what is no transcript of this version
raises TranscriptError, which names the place. The types say what may stand where; this file knows of no single result.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from enum import Enum, IntEnum
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from math import isfinite
from typing import Any, Union, get_args, get_origin, get_type_hints

from filterd.lookup import Answer
from filterd.mail.domain import Domain, DomainError
from filterd.policy.transcript import VERSION, Transcript
from filterd.policy.verdict import Edit

_MAX_SHOWN = 60
_BYTES_TYPES = ("TXT", "SPF")  # the records whose values are octets, as Answer has them

_Read = Callable[[Any, str], Any]


class TranscriptError(ValueError):
    """The data is no transcript. `path` is the place, such as `results.dkim[0].code`."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(f"{path}: {text}" if path else text)
        self.path = path


def from_mapping(data: object) -> Transcript:
    """Read what `to_mapping` made, also after JSON. Raises TranscriptError."""
    if not isinstance(data, Mapping):
        raise TranscriptError("", "a transcript is an object of keys and values")
    version = data.get("version")
    if version != VERSION or isinstance(version, bool):
        raise TranscriptError("version", f"{_shown(version)} is not known here; this filterd reads {VERSION}")
    transcript = _reader(Transcript)({key: value for key, value in data.items() if key != "version"}, "")
    assert isinstance(transcript, Transcript)
    return transcript


@cache
def _reader(wanted: Any) -> _Read:
    """What reads a value of this type."""
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        return _union(wanted)
    if origin is tuple:
        return _tuple(get_args(wanted))
    if origin is Mapping:
        return _mapping(_reader(get_args(wanted)[1]))
    if wanted is Answer:
        return _answer
    if wanted in _LEAVES:
        return _LEAVES[wanted]
    if isinstance(wanted, type) and is_dataclass(wanted):
        return _record(wanted)
    if issubclass(wanted, IntEnum):
        return _word({each.name.lower(): each for each in wanted})
    if issubclass(wanted, Enum):
        return _word({each.value: each for each in wanted})
    raise TypeError(f"transcripts hold no {wanted}")


@cache
def _record(wanted: Any) -> _Read:
    hints = get_type_hints(wanted)
    known = {each.name: each for each in fields(wanted) if each.init}
    readers = {name: _reader(hints[name]) for name in known}
    # to_mapping leaves out what is None, and nothing else.
    optional = {name for name in known if type(None) in get_args(hints[name])}
    added = {name for name, each in known.items() if each.default is not MISSING or each.default_factory is not MISSING}

    def read(data: Any, path: str) -> Any:
        if not isinstance(data, Mapping):
            raise TranscriptError(path, f"here stand keys and values, not {_shown(data)}")
        strange = next((key for key in data if key not in known), None)
        if strange is not None:
            raise TranscriptError(path, f"there is no key {_shown(strange)} here")
        values = {name: readers[name](data[name], f"{path}.{name}" if path else name) for name in known if name in data}
        for name in known.keys() - data.keys():
            if name in optional:
                values[name] = None
            elif name not in added:
                raise TranscriptError(path, f"the key {name} is missing")
        return wanted(**values)

    return read


def _tuple(parts: tuple[Any, ...]) -> _Read:
    if parts[1:] == (...,):
        one = _reader(parts[0])
        return lambda data, path: tuple(one(each, f"{path}[{at}]") for at, each in enumerate(_list(data, path)))
    readers = tuple(map(_reader, parts))

    def read(data: Any, path: str) -> Any:
        if len(_list(data, path)) != len(readers):
            raise TranscriptError(path, f"here stands a list of {len(readers)}")
        return tuple(one(each, f"{path}[{at}]") for at, (one, each) in enumerate(zip(readers, data, strict=True)))

    return read


def _mapping(value: _Read) -> _Read:
    def read(data: Any, path: str) -> Any:
        if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in data):
            raise TranscriptError(path, f"here stand keys and values, not {_shown(data)}")
        return {key: value(each, f"{path}.{_shown(key)}") for key, each in data.items()}

    return read


def _union(wanted: Any) -> _Read:
    parts = [part for part in get_args(wanted) if part is not type(None)]
    if wanted == Edit:
        return _edit({part.__name__: _reader(part) for part in parts})
    if set(parts) == {bytes, str}:
        return _text  # see _answer
    if set(parts) == {IPv4Address, IPv6Address}:
        return _leaf(_ip, "an IP address")
    if len(parts) == 1:
        return _reader(parts[0])
    # Of the others one is a mapping and one is none: Domain | AddressLiteral.
    objects: list[Any] = [part for part in parts if is_dataclass(part) and part is not Domain]
    plain = [part for part in parts if part not in objects]
    if (len(objects), len(plain)) != (1, 1):
        raise TypeError(f"{wanted} cannot be told apart")
    of_mapping, of_plain = (_reader(each) for each in (*objects, *plain))
    return lambda data, path: (of_mapping if isinstance(data, Mapping) else of_plain)(data, path)


def _edit(readers: dict[str, _Read]) -> _Read:
    def read(data: Any, path: str) -> Any:
        name = data.get("edit") if isinstance(data, Mapping) else None
        if not isinstance(name, str) or name not in readers:
            raise TranscriptError(path, f"here stands an edit: one of {', '.join(readers)}")
        return readers[name]({key: value for key, value in data.items() if key != "edit"}, path)

    return read


def _answer(data: Any, path: str) -> Any:
    """An answer: whether its values are octets or text is for its type to say."""
    answer = _record(Answer)(data, path)
    if answer.rdtype not in _BYTES_TYPES:
        return answer
    values = (_octets(each, f"{path}.values[{at}]") for at, each in enumerate(answer.values))
    return replace(answer, values=tuple(values))


def _word(words: dict[Any, Any]) -> _Read:
    def read(data: Any, path: str) -> Any:
        if not isinstance(data, str) or data not in words:
            raise TranscriptError(path, f"{_shown(data)} is none of {', '.join(map(str, words))}")
        return words[data]

    return read


def _leaf(make: Callable[[str], Any], what: str) -> _Read:
    def read(data: Any, path: str) -> Any:
        try:
            return make(_text(data, path))
        except TranscriptError:
            raise
        except ValueError:
            raise TranscriptError(path, f"{_shown(data)} is not {what}") from None

    return read


def _ip(text: str) -> IPv4Address | IPv6Address:
    return ip_address(text)


def _domain(text: str) -> Domain:
    found = Domain.parse(text)
    if found.name != text:
        raise DomainError("not as it is written here")
    return found


def _octets(data: Any, path: str) -> bytes:
    try:
        return _text(data, path).encode("latin-1")
    except UnicodeEncodeError:
        raise TranscriptError(path, "here stand octets, as characters up to U+00FF") from None


def _text(data: Any, path: str) -> str:
    if not isinstance(data, str):
        raise TranscriptError(path, f"here stands a text, not {_shown(data)}")
    return data


def _truth(data: Any, path: str) -> bool:
    if not isinstance(data, bool):
        raise TranscriptError(path, f"here stands true or false, not {_shown(data)}")
    return data


def _whole(data: Any, path: str) -> int:
    if isinstance(data, bool) or not isinstance(data, int):
        raise TranscriptError(path, f"here stands a whole number, not {_shown(data)}")
    return data


def _number(data: Any, path: str) -> float:
    if isinstance(data, bool) or not isinstance(data, int | float) or not isfinite(data):
        raise TranscriptError(path, f"here stands a number, not {_shown(data)}")
    return data


def _list(data: Any, path: str) -> Any:
    if not isinstance(data, list | tuple):
        raise TranscriptError(path, f"here stands a list, not {_shown(data)}")
    return data


def _fact(data: Any, path: str) -> object:
    """A fact's value, as rules read it: a word, a number, true, false, a list of words, or nothing."""
    if data is None or isinstance(data, bool | int | float | str):
        return data
    return [_text(each, f"{path}[{at}]") for at, each in enumerate(_list(data, path))]


def _shown(value: object) -> str:
    # Numbers of thousands of digits have no text in Python.
    plain = value is None or isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 2**63)
    text = repr(value) if plain else type(value).__name__
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


_LEAVES: dict[Any, _Read] = {
    Domain: _leaf(_domain, "a domain in lower case"),
    object: _fact,
    bytes: _octets,
    str: _text,
    bool: _truth,
    int: _whole,
    float: _number,
}
