"""Reads other people's Authentication-Results (RFC 8601 2.2).

Tolerant in what stands in a value, as many write addresses without quotes; strict in what is a result, as a reader
that guesses can be told anything. Bounded before work, linear, nothing recurses.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from filterd.authres.result import AuthenticationResults, AuthResultsError, MethodResult, Property
from filterd.mail.comment import comment_end

_MAX_VALUE = 65_536  # octets
_MAX_RESULTS = 100
_MAX_PROPERTIES = 100  # of one result

_FOLD = re.compile(r"\r?\n(?=[ \t])")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_TOKEN = re.compile(r'(?P<word>[^ \t()\\";=]++)|(?P<quoted>"[^"\\]*+(?:\\.[^"\\]*+)*")|(?P<special>[;=])')
_SPACE = re.compile(r"[ \t]++")
_QUOTED_PAIR = re.compile(r"\\(.)")
_JOINT = re.compile(r" ?([./]) ?")
_KEYWORD = r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
_METHOD = re.compile(rf"(?P<method>{_KEYWORD})(?:/[0-9]+)?")
_PROPERTY = re.compile(rf"(?P<ptype>{_KEYWORD})\.(?P<name>{_KEYWORD})")
_IS_KEYWORD = re.compile(_KEYWORD)
_AUTHSERV_ID = re.compile(r"[^ \t()<>@,;:\\\"/\[\]?=]+")  # RFC 2045 5.1 token, RFC 6532 allows UTF-8


@dataclass(frozen=True, slots=True)
class _Item:
    kind: str  # word, quoted, comment, or the special character itself
    text: str  # of a quoted string or a comment: what is meant by it
    tight: bool  # nothing stands between this and the item before


def parse(value: bytes) -> AuthenticationResults:
    """Read the field's value: folded or not, UTF-8, at most 65,536 octets, 100 results, 100 properties of each.

    Methods, codes and property names come in lower case. A pair that RFC 8601 does not know (`action=none`) is passed
    over. A field without an authserv-id, as some write it, is malformed: nobody vouches for it.
    Raises AuthResultsError.
    """
    if len(value) > _MAX_VALUE:
        raise AuthResultsError("the field is too long")
    try:
        text = _FOLD.sub("", value.decode("utf-8").strip(" \t\r\n"))
    except UnicodeDecodeError:
        raise AuthResultsError("the field is not UTF-8") from None
    if _CONTROL.search(text):
        raise AuthResultsError("a control character or a bare line end")
    head, *segments = _segments(text)
    if len(segments) > _MAX_RESULTS:
        raise AuthResultsError("too many results")
    results = [_result(segment) for segment in segments if not _says_none(segment)]
    return AuthenticationResults(_authserv_id(head), tuple(results))


def _items(text: str) -> Iterator[_Item]:
    at = 0
    tight = False
    while at < len(text):
        if space := _SPACE.match(text, at):
            at = space.end()
            tight = False
            continue
        if text[at] == "(":
            end = comment_end(text, at)
            if end is None:
                raise AuthResultsError("a comment does not end")
            yield _Item("comment", _QUOTED_PAIR.sub(r"\1", text[at + 1 : end - 1]).strip(), tight=False)
            at = end
            tight = False
            continue
        found = _TOKEN.match(text, at)
        if found is None:
            raise AuthResultsError("a parenthesis, quotation mark or backslash stands where it may not")
        if found["quoted"]:
            yield _Item("quoted", _QUOTED_PAIR.sub(r"\1", found.group()[1:-1]), tight)
        else:
            yield _Item("word" if found["word"] else found.group(), found.group(), tight)
        at = found.end()
        tight = True


def _segments(text: str) -> list[list[_Item]]:
    segments: list[list[_Item]] = [[]]
    for item in _items(text):
        if item.kind == ";":
            segments.append([])
        else:
            segments[-1].append(item)
    return segments


def _authserv_id(head: list[_Item]) -> str:
    name, *version = [item for item in head if item.kind != "comment"] or [_Item("none", "", tight=False)]
    if name.kind in ("word", "quoted") and _AUTHSERV_ID.fullmatch(name.text):
        match version:
            case [] | [_Item("word", "1", False)]:  # RFC 8601 2.2: there is no other version
                return name.text
    raise AuthResultsError("no authserv-id")


def _says_none(segment: list[_Item]) -> bool:
    """Whether the segment holds no result: `none`, or nothing behind a semicolon too many."""
    words = [item for item in segment if item.kind != "comment"]
    return not words or (len(words) == 1 and words[0].kind == "word" and words[0].text.lower() == "none")


def _result(segment: list[_Item]) -> MethodResult:
    (name, code), *pairs = _pairs([item for item in segment if item.kind != "comment"])
    method = _METHOD.fullmatch(name)
    if method is None or not _IS_KEYWORD.fullmatch(code):
        raise AuthResultsError("no result of a method")
    reason = next((value for name, value in pairs if name.lower() == "reason"), None)
    properties = [
        Property(found["ptype"].lower(), found["name"].lower(), value)
        for name, value in pairs
        if (found := _PROPERTY.fullmatch(name))
    ]
    if len(properties) > _MAX_PROPERTIES:
        raise AuthResultsError("too many properties")
    comment = next((item.text for item in segment if item.kind == "comment" and item.text), None)
    return MethodResult(method["method"].lower(), code.lower(), tuple(properties), reason, comment)


def _pairs(items: list[_Item]) -> list[tuple[str, str]]:
    """All `name = value` of a segment, at least one; a value goes on until white space."""
    pairs = []
    at = 0
    while at < len(items):
        start = at
        while at < len(items) and items[at].kind == "word":
            at += 1
        # RFC 8601 2.2 allows white space around the dot and the slash of a name, and nowhere else in it.
        name = _JOINT.sub(r"\1", " ".join(item.text for item in items[start:at]))
        if at == len(items) or items[at].kind != "=" or not name or " " in name:
            raise AuthResultsError("a word that belongs to no pair")
        start = at = at + 1
        while at < len(items) and (at == start or items[at].tight):
            at += 1
        pairs.append((name, "".join(item.text for item in items[start:at])))
    return pairs
