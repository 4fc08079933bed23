"""Text of header fields: how any text is written there, and what text a written one shows (RFC 2047, RFC 5322 2.2.3).

The one place where text becomes a field's value. Whatever remote text a rule puts there, no line end or control
character gets out but the folds that are made here. Knows no structured fields: addresses and dates are not text.
"""

import re
from base64 import b64encode
from binascii import Error, a2b_base64, a2b_qp
from itertools import groupby

# RFC 2047 2; charset may have a language (RFC 2231 5). Bounded, as some charsets take quadratic time to decode.
_WORD = re.compile(r"=\?([A-Za-z0-9_.:-]{1,40})(?:\*[A-Za-z0-9-]{0,40})?\?([bBqQ])\?([!->@-~]{0,1000})\?=")
# RFC 2047 6.2: white space between two encoded words is not shown.
_BETWEEN = re.compile(rf"({_WORD.pattern})[ \t]+(?={_WORD.pattern})")
# Python knows codecs that are no charsets, and some that cost more than they are worth.
_CHARSET = re.compile(
    r"us-ascii|utf-?(8|16|16be|16le|7)|iso-?8859-\d{1,2}|iso-2022-(jp|kr)[a-z0-9-]*|windows-\d{3,4}|cp\d{3,4}|koi8-[rut]"
    r"|gb2312|gbk|gb18030|big5|big5-hkscs|euc-(jp|kr)|shift_jis|mac-?[a-z]{1,12}|tis-620",
    re.IGNORECASE,
)
#: Text longer than this is cut before it is written.
MAX_TEXT = 2000
# RFC 5322 2.1.1, less what a fold and a comma may add.
_LINE = 76
# RFC 5322 2.1.1: no line is longer than 998.
_MAX_WORD = 900
# RFC 2047 2: 75 characters a word; what remains for base64 of UTF-8 is 63, of which whole quartets are 60.
_OCTETS = 45


def shown(value: bytes) -> str:
    """The text that a field's value shows, unfolded: encoded words decoded, octets read as UTF-8, else as Latin-1.

    A word that cannot be decoded is left as it is.
    """
    value = value.replace(b"\r", b"").replace(b"\n", b"").strip(b" \t")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return _WORD.sub(_decoded, _BETWEEN.sub(r"\1", text)) if "=?" in text else text


def written(text: str, start: int) -> str:
    """Text as a field's value, folded: lines are parted by "\\n ". `start` is the length of the name and its colon.

    White space and what is not printable become one space, more than `MAX_TEXT` characters are cut, and words that are
    not ASCII, would read as encoded words, or do not fit into a line (RFC 5322 2.1.1) become encoded words.
    """
    words = "".join(char if char.isprintable() else " " for char in text[: MAX_TEXT + 1]).split()
    plain = " ".join(words)
    if len(text) > MAX_TEXT:
        plain = plain[: MAX_TEXT - 3] + "..."
    lines, room = [""], _LINE - start
    for number, part in enumerate(_parts(plain.split(" "))):
        if number and len(part) + 1 > room:
            lines.append("")
            room = _LINE
        lines[-1] += (" " if lines[-1] else "") + part
        room -= len(part) + 1
    return "\n ".join(lines)


def _parts(words: list[str]) -> list[str]:
    """What a space or a fold parts: words, and encoded words; those of a run have its spaces in them."""
    parts: list[str] = []
    for encode, run in groupby(words, _needs_encoding):
        alike = list(run)
        parts += _encoded(" ".join(alike)) if encode else alike
    return parts


def _needs_encoding(word: str) -> bool:
    return not word.isascii() or "=?" in word or len(word) > _MAX_WORD


def _encoded(text: str) -> list[str]:
    words, chunk = [], b""
    for char in text:
        octets = char.encode("utf-8", "replace")
        if len(chunk) + len(octets) > _OCTETS:
            words.append(chunk)
            chunk = b""
        chunk += octets
    return [f"=?utf-8?b?{b64encode(each).decode()}?=" for each in (*words, chunk)]


def _decoded(found: re.Match[str]) -> str:
    charset, encoding, text = found[1], found[2], found[3]
    if not _CHARSET.fullmatch(charset):
        return found[0]
    try:
        octets = a2b_base64(text + "=" * (-len(text) % 4)) if encoding in "bB" else a2b_qp(text, header=True)
        return octets.decode(charset, "replace")
    except (Error, LookupError, ValueError):
        return found[0]
