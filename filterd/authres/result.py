"""What an Authentication-Results field says, as values (RFC 8601 2.2).

Knows no syntax: `format` writes these, `parse` reads them.
"""

from dataclasses import dataclass


class AuthResultsError(ValueError):
    """The text is no Authentication-Results value, or the values make none; repeats nothing of the text."""


@dataclass(frozen=True, slots=True)
class Property:
    """What was judged, such as `smtp.mailfrom=a@b.example`: `ptype` is smtp, header, body or policy."""

    ptype: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class MethodResult:
    """One method's result; `code` is the word of the method's own standard. `reason` and `comment` are for people."""

    method: str
    code: str
    properties: tuple[Property, ...] = ()
    reason: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class AuthenticationResults:
    """All that one server found; no results at all is a statement too (`none`)."""

    authserv_id: str
    results: tuple[MethodResult, ...]
