"""A few hundred mails, like real ones and unlike any, the same in every run: each header below over each body.

All come from joe@example.org, have one From field, and lines that end in CRLF. What no SMTP server hands to a milter is
not here: NUL or a lone CR or LF in a header, field names of other octets than RFC 5322's.
"""

import random
from base64 import encodebytes
from itertools import product

FORMS = ("simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed")

_RANDOM = random.Random(6376)
_FROM = b"From: Joe <joe@example.org>\r\n"
_USUAL = (
    _FROM
    + b"To: Jane <jane@example.net>\r\n"
    + b"Subject: Is dinner ready?\r\n"
    + b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    + b"Message-ID: <1@example.org>\r\n"
)
_TYPE = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"


def _lines(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode()


def _base64(size: int) -> bytes:
    return encodebytes(_RANDOM.randbytes(size)).replace(b"\n", b"\r\n")


HEADERS = {
    "author only": _FROM,
    "usual": _USUAL,
    "mime": _USUAL + _TYPE,
    "no space after colons": _USUAL.replace(b": ", b":"),
    "two spaces after colons": _USUAL.replace(b": ", b":  "),
    "tabs after colons": _USUAL.replace(b": ", b":\t") + b"X-A: a\tb\t\t c \t d\r\n",
    "white space at the end": _USUAL.replace(b"\r\n", b" \r\n") + b"X-A: a \t \r\nX-B: \tb\t\r\n",
    "odd case": b"FROM: Joe <Joe@Example.ORG>\r\ntO: JANE@example.net\r\nsUBJECT: Hello\r\nMessage-Id: <X@Y>\r\n",
    "empty values": _USUAL + b"Cc:\r\nReply-To: \r\nX-A:\r\nX-B: \t \r\nIn-Reply-To:\r\n",
    "folded": (
        b'From: "Joe Q. Public\r\n (home)"\r\n\t<joe@example.org>\r\n'
        b"To:\r\n jane@example.net,\r\n\tjim@example.com,\r\n    joan@example.com\r\n"
        b"Subject: one\r\n two  \r\n\t \tthree\r\n   four\r\n"
        b"X-A: before \r\n \r\n\t\r\n after lines of white space\r\n"
        b"X-B:\r\n \t\r\n"
    ),
    "several of a kind": (
        b"Received: from c by d; Tue, 14 Nov 2023 22:13:22 +0000\r\nReceived: from b by c\r\nX-A: 1\r\nTo: first@x.y\r\n"
        + _USUAL
        + b"Received: from a by b\r\nTo: third@example.com\r\nX-a: 2\r\nCc: a@b\r\nCC: c@d\r\nX-A: 3\r\nX-A: 3\r\n"
    ),
    "utf-8": _lines(
        "From: Jürgen Müller <joe@example.org>",
        "To: 田中 <tanaka@例え.example>",
        "Subject: Grüße aus Köln – schön\u00a0hier \U0001f41f",
        "\tund “noch” eine Zeile",
        "Message-ID: <ü@bücher.example>",
    ),
    "latin-1 and encoded words": (
        b"From: =?utf-8?Q?J=C3=BCrgen?= <joe@example.org>\r\nTo: J\xf6rg <joerg@example.net>\r\n"
        b"Subject: =?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=\r\n"
        b"X-A: \xa0\x80\xff \xe9\r\n"
    ),
    "punctuation": (
        b'From: "Joe; \\"the man\\" b=1" <joe@example.org> (a comment: with (nested) parts)\r\n'
        + _USUAL.removeprefix(_FROM)
        + b"X-A: v=1; b=abc; bh=def==; d=example.com:\r\nX-B: DKIM-Signature: v=1; b=\r\nX-A: :::;;;===\r\n"
    ),
    "long": (
        _USUAL
        + b"References: "
        + b"\r\n ".join(b"<%032x@mail.example.org>" % _RANDOM.getrandbits(128) for _ in range(60))
        + b"\r\nX-A: "
        + b"no fold " * 400
        + b"\r\nX-B: "
        + b"x" * 5000
        + b"\r\n"
    ),
    "hundred and more": _USUAL + b"".join(b"X-Field-%d: %d\r\nX-A: %d\r\n" % (i, i, i) for i in range(60)),
    "many hops": b"".join(
        b"Received: from mx%d.example.net (mx%d.example.net [IPv6:2001:db8::%d])\r\n\t(using TLSv1.3 with cipher "
        b"TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n\t(No client certificate requested)\r\n\tby mx%d.example.net "
        b"(Postfix) with ESMTPS id 4Q%d\r\n\tfor <jane@example.net>; Tue, 14 Nov 2023 22:13:%d +0000 (UTC)\r\n"
        % (i, i, i, i + 1, i, 10 + i)
        for i in range(12)
    )
    + b"Authentication-Results: mx.example.net;\r\n\tdkim=none;\r\n\tspf=pass smtp.mailfrom=joe@example.org\r\n"
    + _USUAL,
    "newsletter": _USUAL.replace(b"Joe", b"News")
    + _lines(
        "Reply-To: <reply-1234@example.org>",
        "List-Unsubscribe: <https://example.org/u?l=7&m=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd>,",
        " <mailto:unsubscribe@example.org?subject=unsubscribe%20me>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        "Feedback-ID: 7:example:news",
        "MIME-Version: 1.0",
        'Content-Type: multipart/alternative; boundary="=_b"',
        "Precedence: bulk",
    ),
    "mailing list": _USUAL.replace(b"Is dinner", b"[cooks] Re: Is dinner")
    + _lines(
        "Sender: Cooks <cooks-bounces@lists.example.org>",
        "List-Id: People who cook <cooks.lists.example.org>",
        "List-Post: <mailto:cooks@lists.example.org>",
        "List-Archive: <https://lists.example.org/cooks>",
        "In-Reply-To: <0@example.net>",
        "References: <-1@example.net> <0@example.net>",
        "Errors-To: cooks-bounces@lists.example.org",
    ),
    "forwarded by hand": _lines(
        "Resent-From: Jim <jim@example.org>",
        "Resent-To: Joan <joan@example.com>",
        "Resent-Date: Wed, 15 Nov 2023 08:00:00 +0000",
        "Resent-Message-ID: <2@example.org>",
    )
    + _USUAL,
    "of a large program": _USUAL
    + _lines(
        "Thread-Topic: Is dinner ready?",
        "Thread-Index: AQHaF0xP3XJ0YkZ0b0eX1V0wYV0QbLB0Q5mA",
        "Accept-Language: en-US",
        "X-MS-Has-Attach:",
        "X-MS-TNEF-Correlator:",
        "x-ms-exchange-antispam-messagedata-chunkcount: 1",
        "x-ms-exchange-antispam-messagedata-0: =?us-ascii?Q?AbCdEfGhIjKlMnOpQrStUvWxYz0123456789+/AbCdEfGhIjKlMnOp?=",
        " =?us-ascii?Q?QrStUvWxYz0123456789+/AbCdEfGhIjKlMnOpQrStUvWxYz0123456789?=",
        'Content-Type: multipart/related;\tboundary="_004_X_";\ttype="multipart/alternative"',
        "MIME-Version: 1.0",
    ),
}  # fmt: skip

BODIES = {
    "text": b"Hi.\r\n\r\nWe lost the game.\r\nAre you hungry yet?\r\n\r\nJoe.\r\n",
    "nothing": b"",
    "a blank line": b"\r\n",
    "blank lines": b"\r\n" * 7,
    "white space": b" \t\r\n\t\r\n \r\n",
    "blank lines at the end": b"Text.\r\n\r\n\r\n\r\n",
    "blank lines at the start": b"\r\n\r\nText.\r\n",
    "white space after the text": b"Text. \t\r\n \r\n\t\r\n\r\n \r\n",
    "no last line end": b"Text.\r\n\r\nMore text.",
    "white space and no last line end": b"Text.\r\nMore text. \t",
    "blank lines within": b"One.\r\n\r\n\r\n \r\n\t\t\r\nTwo.\r\n\r\n",
    "spaces and tabs": b"  a\tb \t c\t\r\n\td  e   f    \r\n \tg\r\n",
    "format=flowed": b"A line that flows \r\ninto the next. \r\n\r\n-- \r\nJoe\r\n",
    "utf-8": "Grüße aus Köln\u2028 – \u00a0 \U0001f41f\r\n田中\u3000さん\r\n\ufeff\r\n".encode(),
    "other octets": bytes(octet for octet in range(1, 256) if octet not in b"\r\n") + b"\r\n\0\0\r\n \0 \r\n\x0c\r\n\x0b \x0c\r\n",
    "dots and mailbox lines": b".\r\n..\r\n. \r\n.text\r\nFrom joe\r\n>From jane\r\n.\r\n",
    "a long line": b"word  " * 20_000 + b"\r\n",
    "a run of spaces": b"a" + b" " * 3000 + b"b" + b"\t " * 1500 + b"\r\n" + b" " * 2000 + b"\r\n.\r\n",
    # Milters get a body in chunks of 65,535 octets.
    "line end between chunks": b"x" * 65534 + b"\r\n" + b"y" * 65534 + b"\r\n\r\n",
    "white space between chunks": b"x" * 65530 + b"  \t    \t  \r\n" + b"\r\n" * 40_000 + b"z \r\n",
    "blank lines between chunks": b"x" * 65530 + b"\r\n" * 6 + b"y" + b"\r\n" * 40_000,
    "html and text": (
        b"--=_b\r\nContent-Type: text/plain\r\n\r\nRead it in HTML.\r\n\r\n--=_b\r\nContent-Type: text/html\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        b'<html><body style=3D"margin:0">=20\r\n<a href=3D"https://example.org/?a=3D1&amp;b=3D=\r\n2">caf=C3=A9</a>=\r\n'
        b"</body></html>\r\n\r\n--=_b--\r\n"
    ),
    "an attachment": b"--=_b\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + _base64(30_000)
    + b"\r\n--=_b--\r\n",
    "signed text": (
        b"-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA512\r\n\r\n- -- \r\nText. \r\n-----BEGIN PGP SIGNATURE-----\r\n\r\n"
        + _base64(200)
        + b"=AbCd\r\n-----END PGP SIGNATURE-----\r\n"
    ),
}  # fmt: skip

MAILS = {
    f"{head}, {body}": HEADERS[head] + b"\r\n" + BODIES[body] for head, body in product(HEADERS, BODIES)
}  #: by names that say what is in them

#: c= for tests that sign each mail once: over all mails each header and each body comes in each form
FORM_OF = {
    f"{head}, {body}": FORMS[(i + j) % len(FORMS)]
    for (i, head), (j, body) in product(enumerate(HEADERS), enumerate(BODIES))
}


def changed(name: str) -> bytes:
    """The mail of that name with one thing changed, which may or may not matter to a signature."""
    draw = random.Random(name)
    mail = MAILS[name]
    head, _, body = mail.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    spot = draw.randrange(len(body) + 1)
    # Not between CR and LF, which would leave each alone.
    spot -= body[spot - 1 : spot + 1] == b"\r\n"
    kind = draw.randrange(12)
    if kind == 0:
        return mail + b"\r\n"
    if kind == 1:
        return mail + b" \r\n"
    if kind == 2:
        return mail + b"An advertisement.\r\n"
    if kind < 6:
        return head + b"\r\n\r\n" + body[:spot] + draw.choice([b" ", b"\t", b"\r\n", b"x"]) + body[spot:]
    number = draw.randrange(len(lines))
    if kind == 6:
        lines.insert(
            0, draw.choice([b"X-A: new", b"Subject: new", b"To: new@example.com", b"Received: new", b"X-New: 1"])
        )
    elif kind == 7:
        lines.append(draw.choice([b"X-A: new", b"Subject: new", b"To: new@example.com", b"Received: new", b"X-New: 1"]))
    elif kind == 8:
        lines[number] += draw.choice([b" ", b"\t", b"x", b" x", b"\r\n\t", b"\r\n x"])
    elif kind == 9:
        lines[number] = lines[number].replace(b" ", b"  ", 1)
    elif kind == 10:
        lines[number] = lines[number].swapcase()
    else:
        lines[number] = lines[number].replace(b"e", b"E", 1)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
