"""Writes Authentication-Results so that nothing remote can add a result (RFC 8601 2.2).

The one place where text becomes part of such a field. Many programs read it with less than a parser: they split at
semicolons, or search for `dkim=pass`. So remote text never has a semicolon or an equals sign here, quoted or not.
"""

import re

from filterd.authres.result import AuthenticationResults, AuthResultsError, MethodResult, Property

_MAX_VALUE = 400  # characters, so that no line comes near the 998 of RFC 5322 2.1.1
_WIDTH = 76

# RFC 5321 4.1.2 Ldh-str, which RFC 8601 calls Keyword.
_KEYWORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+")  # RFC 2045 5.1
_ATEXT = r"[!#$%&'*+0-9A-Z^_`a-z{|}~-]"
_LOCAL = re.compile(rf"(?:{_ATEXT}+(?:\.{_ATEXT}+)*)?")
_ADDRESS = re.compile(rf"{_LOCAL.pattern}@[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]+)*")
_UNSAFE = re.compile(r"[^ -:<>-~]")  # control characters, what is not ASCII, semicolon and equals sign
_COMMENT_TABLE = str.maketrans('()\\";=', "[]/',:")


def format_value(ar: AuthenticationResults) -> str:
    """The text behind `Authentication-Results: `: ASCII, one result a line, lines joined by LF and a tab.

    Property values keep what identifies somebody: an address with an unusual or over-long local part is reduced to its
    domain, as RFC 8601 2.2 allows; another over-long value is left out. What is not printable ASCII becomes `?`.
    Raises AuthResultsError where a method, code, property name or authserv-id is none.
    """
    if not _TOKEN.fullmatch(ar.authserv_id):
        raise AuthResultsError("the authserv-id is no token; a host name always is")
    results = [_wrapped(_words(result)) for result in ar.results] or ["none"]
    joint = ";\n\t" if ar.results else "; "
    return joint.join([ar.authserv_id, *results])


def _words(result: MethodResult) -> list[str]:
    words = [f"{_keyword(result.method)}={_keyword(result.code)}"]
    if result.comment:
        text = _UNSAFE.sub("?", result.comment.translate(_COMMENT_TABLE))
        words.append(f"({_shortened(text)})")
    if result.reason:
        text = _UNSAFE.sub("?", result.reason.translate(_COMMENT_TABLE))
        words.append(f"reason={_value(_shortened(text))}")
    words += [_property(each) for each in result.properties]
    return [word for word in words if word]


def _property(each: Property) -> str:
    text = each.value
    local, at, domain = text.rpartition("@")
    if at and (len(text) > _MAX_VALUE or not _LOCAL.fullmatch(local)):
        text = domain
    name = f"{_keyword(each.ptype)}.{_keyword(each.name)}"
    return f"{name}={_value(_UNSAFE.sub('?', text))}" if len(text) <= _MAX_VALUE else ""


def _value(text: str) -> str:
    if _TOKEN.fullmatch(text) or _ADDRESS.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _keyword(word: str) -> str:
    if not _KEYWORD.fullmatch(word):
        raise AuthResultsError("a method, code or property name is no keyword")
    return word


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 3] + "..."


def _wrapped(words: list[str]) -> str:
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) < _WIDTH:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return "\n\t".join(lines)
