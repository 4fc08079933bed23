"""Domain names as mail compares them: A-labels in lower case (RFC 5890, RFC 8616).

Answers: are these two names the same, is one under the other, which are its parents. Knows nothing of DNS or of who
owns what.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import idna

# RFC 1035 2.3.4 and RFC 5321 2.3.5. The underscore is no host name, but names such as _spf.example.org carry records.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_MAX_NAME = 253


class DomainError(ValueError):
    """The text is no domain name; the message says why, and repeats nothing of the text."""


@dataclass(frozen=True, slots=True, order=True)
class Domain:
    """A domain name: A-labels, lower case, no trailing dot. Made by `parse` only."""

    name: str

    @classmethod
    def parse(cls, text: str | bytes) -> "Domain":
        """Read A- or U-labels; bytes are UTF-8 (RFC 6532). One trailing dot is dropped.

        Raises DomainError.
        """
        if isinstance(text, bytes):
            try:
                text = text.decode("utf-8")
            except UnicodeDecodeError:
                raise DomainError("the domain is not UTF-8") from None
        if len(text) > 4 * _MAX_NAME:
            raise DomainError("the domain is too long")
        return cls(_name(text))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, leftmost first."""
        return tuple(self.name.split("."))

    @property
    def parent(self) -> "Domain | None":
        """The name without its leftmost label; None above a top-level domain."""
        _, dot, rest = self.name.partition(".")
        return Domain(rest) if dot else None

    def under(self, other: "Domain") -> bool:
        """Whether this is `other` or a name below it."""
        return self.name == other.name or self.name.endswith("." + other.name)

    def __str__(self) -> str:
        return self.name


# The same domains come again and again.
@lru_cache(maxsize=4096)
def _name(text: str) -> str:
    if not text.isascii():
        text = _to_a_labels(text)
    name = text.lower().removesuffix(".")
    if not name:
        raise DomainError("the domain is empty")
    if len(name) > _MAX_NAME:
        raise DomainError("the domain is longer than 253 octets")
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            raise DomainError("a label of the domain is empty, too long, or has a character that names do not have")
    return name


def _to_a_labels(text: str) -> str:
    # UTS 46 maps case and width first, and reads the ideographic full stops as dots, as mail clients do.
    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise DomainError("the domain is no internationalized name (IDNA 2008)") from None
