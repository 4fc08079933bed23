"""Which Authentication-Results fields of an incoming mail pretend to be ours (RFC 8601 5).

They must go, or whoever reads the mail later takes a stranger's word for ours. What another program may read as ours
goes too: fields that this parser gives up on and that have our name somewhere, names that begin as ours, encoded words.
"""

import re
from functools import lru_cache

from filterd.authres.parse import parse
from filterd.authres.result import AuthResultsError
from filterd.mail.domain import Domain, DomainError
from filterd.mail.header import Header

_MAX_FIELDS = 100
_MAX_OCTETS = 16_384

_PARENTHESIS = re.compile(r"([()])")
# RFC 2047 5 forbids them here. Programs that take every field for text decode them, and find whatever was meant.
_ENCODED_WORD = re.compile(rb"=\?[^?]*\?[bq]\?", re.IGNORECASE)
_NO_NAME_CHARACTER = re.compile(r"[^0-9a-z._-]+")


def forged(header: Header, authserv_ids: frozenset[str]) -> tuple[int, ...]:
    """The fields to delete: their numbers among the fields of this name, from 1, top to bottom; highest first.

    Deleting in this order is safe whether or not the MTA renumbers what is left (CVE-2022-48521). From the hundredth
    on, or when 16,384 octets are read, fields are not read any more, and all go.
    """
    numbers: list[int] = []
    octets = 0
    for number, field in enumerate(header.all("Authentication-Results"), 1):
        octets += len(field.value)
        if number > _MAX_FIELDS or octets > _MAX_OCTETS or claims_ours(field.value, authserv_ids):
            numbers.append(number)
    return tuple(reversed(numbers))


def claims_ours(value: bytes, authserv_ids: frozenset[str]) -> bool:
    """Whether the field gives one of these ids as its author, or may seem to.

    Ids are compared as domain names are: any case, U-labels or A-labels, with or without a final dot. A field seems to
    be ours if it has an encoded word, if its author's name begins with one of the ids, or if it cannot be read and
    names one of them anywhere.
    """
    if _ENCODED_WORD.search(value):
        return True
    ours, bare = _forms(authserv_ids)
    text = value.decode("utf-8", "replace").lower()
    # With comments and without, as either may be what splits the name.
    forms = (_squeezed(text), _squeezed(_without_comments(text)))
    named = any(each in form for each in bare for form in forms)
    if value.isascii() and not named:
        return False
    try:
        author = comparable(parse(value).authserv_id)
    except AuthResultsError:
        return named
    return any(author == each or _continues(author, each) for each in ours)


@lru_cache(maxsize=16)
def _forms(authserv_ids: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    ours = frozenset(map(comparable, authserv_ids))
    return ours, frozenset(map(_squeezed, ours))


def comparable(authserv_id: str) -> str:
    """The id in the one form in which ids of the same server are equal."""
    try:
        return Domain.parse(authserv_id.strip()).name
    except DomainError:
        return authserv_id.strip().lower().removesuffix(".")


def _continues(name: str, ours: str) -> bool:
    # Programs look for `mx.example.org` at the beginning, and `mx.example.org.evil.example` has it there. Of a host
    # name without a dot, such as `mail`, others may honestly begin.
    rest = name.removeprefix(ours)
    return "." in ours and rest != name and not rest[0].isalnum()


def _squeezed(text: str) -> str:
    return _NO_NAME_CHARACTER.sub("", text)


def _without_comments(text: str) -> str:
    kept: list[str] = []
    opened: list[int] = []
    for part in _PARENTHESIS.split(text):
        if part == "(":
            opened.append(len(kept))
        if part == ")" and opened:
            del kept[opened.pop() :]
        else:
            kept.append(part)
    return "".join(kept)
