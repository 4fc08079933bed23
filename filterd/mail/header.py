"""Header fields as they came: raw bytes, in order (RFC 5322 2.2).

DKIM needs every byte, so nothing here decodes, unfolds or trims unless asked to.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

_FOLD = re.compile(rb"\r?\n(?=[ \t])")


@dataclass(frozen=True, slots=True)
class Field:
    """One header field.

    `name` is as written. `value` is all that stood between the colon and the final CRLF: the leading space is in it,
    inner line ends are CRLF.
    """

    name: bytes
    value: bytes

    @property
    def raw(self) -> bytes:
        """The field as it stands in the message, with its CRLF."""
        return self.name + b":" + self.value + b"\r\n"

    @property
    def key(self) -> bytes:
        """The name as it is compared: lower case, without the white space that old syntax allows before the colon."""
        return self.name.rstrip(b" \t").lower()

    def unfolded(self) -> bytes:
        """The value in one line, without white space around it (RFC 5322 2.2.3)."""
        return _FOLD.sub(b"", self.value).strip(b" \t\r\n")


# A few dozen names are looked up in each mail.
@lru_cache(maxsize=1024)
def _key(name: str) -> bytes:
    return name.lower().encode("ascii")


@dataclass(frozen=True, slots=True)
class Header:
    """The header section: all fields, in order of appearance."""

    fields: tuple[Field, ...] = ()
    _by_key: dict[bytes, tuple[Field, ...]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        index: dict[bytes, list[Field]] = {}
        for each in self.fields:
            # As `key` has it: a call of that for each field is what would cost most here.
            index.setdefault(each.name.rstrip(b" \t").lower(), []).append(each)
        self._by_key.update(zip(index, map(tuple, index.values()), strict=True))

    @classmethod
    def of(cls, fields: Iterable[Field]) -> "Header":
        return cls(tuple(fields))

    def all(self, name: str) -> tuple[Field, ...]:
        """Every field of that name, top to bottom."""
        return self._by_key.get(_key(name), ())

    def has(self, name: str) -> bool:
        return _key(name) in self._by_key

    def has_prefix(self, prefix: str) -> bool:
        """Whether any field's name begins so: `resent-`, say."""
        start = prefix.lower().encode("ascii")
        return any(key.startswith(start) for key in self._by_key)

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)
