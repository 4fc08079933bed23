"""Mail that wants to cost much: header fields and bodies on which a careless reader would spend its day."""

from collections.abc import Callable

from arc_mail import sealed_by_hand
from spoofing.cast import ATTACKER, ATTACKER_KEY, HOST
from spoofing.dkim_tricks import signed

_FROM = b"From: <service@bank.example>\r\n"
_OTHERS = b"To: <anna@home.example>\r\nSubject: hello\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
_LINE = b"0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ =-+\r\n"
# MTAs take no longer fields; of From and of Authentication-Results filterd reads no more.
_LONGEST, _LONGEST_FROM, _RESULTS = 60_000, 16_000, 16_000

Make = Callable[[int], bytes]
"""Makes a header of about that many octets."""


def _one(name: str, unit: bytes, start: bytes = b"", end: bytes = b"", longest: int = _LONGEST) -> Make:
    """A field that goes on and on, among the usual ones."""

    def make(size: int) -> bytes:
        room = min(size, longest) - len(start) - len(end)
        field = name.encode() + b": " + start + unit * (room // len(unit)) + end + b"\r\n"
        return field + (_OTHERS if name == "From" else _FROM + _OTHERS)

    return make


def _many(*fields: bytes) -> Make:
    """Fields again and again, above the usual ones."""

    def make(size: int) -> bytes:
        return b"".join(fields) * (size // sum(map(len, fields))) + _FROM + _OTHERS

    return make


def _long_ones(name: str, unit: bytes, start: bytes = b"", end: bytes = b"") -> Make:
    """Fields as long as MTAs take them."""
    field = name.encode() + b": " + start + unit * ((_LONGEST - len(start) - len(end)) // len(unit)) + end + b"\r\n"
    return _many(field)


def _numbered(size: int) -> bytes:
    return b"".join(b"X%d: y\r\n" % n for n in range(size // 10)) + _FROM + _OTHERS


_AUTHOR = b"<service@bank.example>"
_FROM_FIELDS: dict[str, tuple[bytes, bytes, bytes]] = {
    "comments": (b"()", b"", _AUTHOR),
    "nested comments": (b"(" * 31 + b")" * 31, b"", _AUTHOR),
    "open comments": (b"(", b"", b""),
    "quoted pairs": (rb"\(", b"(", b")" + _AUTHOR),
    "words": (b"a ", b"", _AUTHOR),
    "dots": (b".", b"", _AUTHOR),
    "quoted strings": (b'""', b"", _AUTHOR),
    "a quoted string": (rb"\"", b'"', b'"' + _AUTHOR),
    "an open quoted string": (rb"\a", b'"', b""),
    "authors": (b"a@bank.example,", b"", _AUTHOR),
    "names that are addresses": (b"a@bank.example ", b"", _AUTHOR),
    "encoded words": (b"=?a?q?b?= ", b"", _AUTHOR),
    "a domain": (b"a.", b"a@", b"example"),
    "an international domain": ("ü.".encode(), b"a@", b"example"),
    "an international label": ("ü".encode(), b"a@", b".example"),
    "at-signs": (b"a@", b"", b"bank.example"),
    "folds": (b"\r\n ", b"service@bank.example", b""),
    "groups": (b"a:;,", b"", _AUTHOR),
    "brackets": (b"[]", b"", _AUTHOR),
    "fullwidth letters": ("ｂ".encode(), b"a@", b".example"),
}
_RESULTS_FIELDS: dict[str, bytes] = {
    "results": b"; a=b",
    "properties": b" a.b=c",
    "comments": b"()",
    "nested comments": b"(" * 31 + b")" * 31,
    "open comments": b"(",
    "closed comments": b")",
    "semicolons": b";",
    "quoted strings": b'""',
    "quotation marks": b'"',
    "backslashes": b"\\",
    "words": b"a ",
    "equals signs": b"=",
    "encoded words": b"=?",
    "international letters": "ü".encode(),
}
_TAGS = b"v=1; a=rsa-sha256; d=bank.example; s=sel; bh=; b=; "
_SIGNATURE_FIELDS: dict[str, tuple[bytes, bytes]] = {
    "semicolons": (b";", _TAGS),
    "tags": (b"a=b;", b""),
    "names": (b":from", _TAGS + b"h=from"),
    "base64": (b"AAAA ", _TAGS.replace(b"b=;", b"") + b"h=from; b="),
    "folds": (b"\r\n ", _TAGS),
    "a domain": (b"a.", _TAGS.replace(b"d=bank.example", b"") + b"h=from; d="),
    "an international domain": ("ü.".encode(), _TAGS.replace(b"d=bank.example", b"") + b"h=from; d="),
    "digits": (b"9", _TAGS + b"h=from; t="),
}
_OURS = f"Authentication-Results: {HOST}; dmarc=pass header.from=bank.example\r\n".encode()
_ARC = b"ARC-Seal: i=1; a=b\r\nARC-Message-Signature: i=1\r\nARC-Authentication-Results: i=1; x\r\n"

#: Headers of any size, by what they are made of.
HEADERS: dict[str, Make] = {
    "tiny fields": _many(b"a:b\r\n"),
    "fields of many names": _numbered,
    "long fields": _long_ones("X", b"y"),
    "long fields, folded": _long_ones("X", b"y\r\n ", end=b"z"),
    "forged results": _many(_OURS),
    "foreign results": _many(_OURS.replace(b"home", b"away")),
    "foreign results, 8-bit": _many(_OURS.replace(b"home", "höme".encode())),
    "marks of ours": _many(b"X-Filterd-Tag: x\r\nX-Filterd-Quarantine: x\r\n"),
    "ARC sets": _many(_ARC),
    "ARC sets, numbered": lambda size: b"".join(_ARC.replace(b"i=1", b"i=%d" % n) for n in range(1, size // 84)) + _FROM + _OTHERS,
    "ARC results of comments": _long_ones("ARC-Authentication-Results", b"()", b"i=1;"),
    "ARC seals of tags": _long_ones("ARC-Seal", b"a=b;"),
    "signatures": _many(signed(b"")),
    "Received fields of addresses": _many(b"Received: from a ([192.0.2.1][192.0.2.2]) by b\r\n"),
    **{f"From of {name}": _one("From", unit, start, end, _LONGEST_FROM) for name, (unit, start, end) in _FROM_FIELDS.items()},
    **{
        f"{whose} results of {name}": _one("Authentication-Results", unit, f"mx.{whose}.example; a=b".encode(), longest=_RESULTS)
        for name, unit in _RESULTS_FIELDS.items()
        for whose in ("home", "away")
    },
    **{f"signatures of {name}": _long_ones("DKIM-Signature", unit, start) for name, (unit, start) in _SIGNATURE_FIELDS.items()},
}  # fmt: skip

#: What a body may be made of.
BODIES: dict[str, bytes] = {
    "lines": _LINE,
    "spaces": b" ",
    "tabs": b"\t",
    "line ends": b"\r\n",
    "spaces and line ends": b" \r\n",
    "letters and spaces": b"a ",
    "letters and two spaces": b"a  ",
    "letters and line ends": b"a\r\n",
    "blank lines between letters": b"\r\n\r\na",
    "runs of spaces": b" " * 1023 + b"a",
    "lines that end in space": b"a" * 60 + b" \r\n",
    "octets": bytes(range(128, 256)) + b"\r\n",
}


def body(unit: bytes, size: int) -> bytes:
    return unit * (size // len(unit)) + b"\r\n"


def chain_of_fifty(size: int) -> bytes:
    """A mail with as many ARC sets as there may be, each of which holds."""
    message = _FROM + _OTHERS + b"\r\n" + body(_LINE, size)
    for number in range(1, 51):
        status, results = "none" if number == 1 else "pass", f"x.example; none ({'y ' * 1_500})"
        message = sealed_by_hand(message, number, status, found=results, domain=ATTACKER, pair=ATTACKER_KEY)
    return message


def all_at_once(size: int) -> bytes:
    """Of everything as much as is read: From, results, signatures, fields, and a body that is squeezed."""
    names = ("From of names that are addresses", "home results of comments", "tiny fields", "ARC sets, numbered")
    fields = [HEADERS[name](5_000 if name == "tiny fields" else 60_000).removesuffix(_OTHERS) for name in names]
    head = b"".join([fields[0], *(each.removesuffix(_FROM) for each in fields[1:]), _OTHERS])
    message = head + b"\r\n" + body(b" " * 1023 + b"a", size - len(head))
    for number in range(5):
        message = signed(message, h="from" + ":a" * 200, l=str(size // 4 + number))
    return message


def honest(size: int) -> bytes:
    """A signed mail as people send it."""
    return signed(_FROM + _OTHERS + b"\r\n" + body(_LINE, size))


def with_header(make: Make, size: int, of_header: int) -> bytes:
    """A mail of that size, with a hostile header of about so many octets."""
    header = make(of_header) + b"\r\n"
    return header + body(_LINE, size - len(header))


def with_body(unit: bytes, size: int, canonicalization: str) -> bytes:
    """A signed mail of that size, with a hostile body."""
    return signed(_FROM + _OTHERS + b"\r\n" + body(unit, size), c=canonicalization)


def with_signatures(make: Make, size: int, of_header: int) -> bytes:
    """A mail with as many signatures as are verified, each to be hashed in a way of its own, of all that is long."""
    message = with_header(make, size, of_header)
    for number in range(5):
        canonicalization = ("relaxed/relaxed", "simple/simple")[number % 2]
        message = signed(message, h="from" + ":x" * 20, c=canonicalization, l=str(size // 4 + number))
    return message
