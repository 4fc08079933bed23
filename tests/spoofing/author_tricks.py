"""The author: what programs take for it, and which one DMARC is asked about.

SPF and DKIM pass for the attacker in all of them. Sources: "Composition Kills" (Chen, Paxson, Jiang, USENIX Security
2020; its tool espoofer numbers the cases), "Weak Links in Authentication Chains" (Shen and others, USENIX Security
2021), Mailsploit (Haddouche, 2017), "Splitting the email atom" (Heyes, 2024).
"""

from spoofing.cast import Attack, Honest, encoded, mail

_VICTIM, _ATTACKER = b"From: <ceo@bank.example>", b"From: <x@evil.example>"
_SEVERAL, _MANY, _MISSING, _MALFORMED = (
    f"permerror author.{word}" for word in ("several-fields", "several", "missing", "malformed")
)
_AS_ATTACKER = "pass as evil.example"
# The bundled MTA takes no NUL and no bare CR or LF; Postfix reads a field up to NUL, and CR as a space.
_NUL, _BARE = "550 5.6.0", "521 5.5.2"
KILLS, WEAK, ATOM, SPLOIT = "Composition Kills ", "Weak Links ", "Splitting the email atom", "Mailsploit"


def fields() -> list[Attack]:
    """More From fields than one, none, and fields that some take for it."""
    hidden = b"".join(b"X-%d: y\r\n" % n for n in range(500))
    return [
        Attack("forged, and nothing else", mail(_VICTIM), known=KILLS + "2.2"),
        Attack("two, attacker first", mail(_ATTACKER, _VICTIM), known=KILLS + "A8", ends=_SEVERAL),
        Attack("two, victim first", mail(_VICTIM, _ATTACKER), known=KILLS + "A8", ends=_SEVERAL),
        Attack("two, far apart", mail(_ATTACKER, hidden + _VICTIM), known=WEAK + "A4", ends=_SEVERAL),
        Attack("two, the same", mail(_VICTIM, _VICTIM), known=WEAK + "A4", ends=_SEVERAL),
        Attack("two, in other cases", mail(b"fROM: <x@evil.example>", b"FROM: <ceo@bank.example>"), known=WEAK + "A4", ends=_SEVERAL),
        Attack("two, one empty", mail(b"From:", _VICTIM), known=WEAK + "A4", ends=_SEVERAL),
        Attack("two, one of white space", mail(b"From: \r\n\t", _VICTIM), known=WEAK + "A4", ends=_SEVERAL),
        Attack("a space before the colon", mail(_ATTACKER, b"From : <ceo@bank.example>"), known=KILLS + "A10", ends=_SEVERAL),
        Attack("a tab before the colon", mail(_ATTACKER, b"From\t: <ceo@bank.example>"), known=KILLS + "A10", ends=_SEVERAL),
        Attack("only one, a space before the colon", mail(b"X: y", b"From : <ceo@bank.example>"), known=KILLS + "A10"),
        Attack("a space before the name, on top", b" " + mail(_ATTACKER, _VICTIM), known=KILLS + "A9", ends=_MISSING),
        Attack("a space before the name, below", mail(_ATTACKER, b" From: <ceo@bank.example>"), known=KILLS + "A9", ends=_MALFORMED),
        Attack("a fold within the name", mail(_ATTACKER, b"From\r\n : <ceo@bank.example>"), known=KILLS + "A11", ends=_AS_ATTACKER),
        Attack("a fold within the first name", mail(b"From\r\n : <x@evil.example>", _VICTIM), known=KILLS + "A11", ends=_MISSING),
        Attack("Sender alone", mail(b"Sender: <ceo@bank.example>"), known=KILLS + "A12", ends=_MISSING, twin="Sender"),
        Attack("Sender of the victim", mail(_ATTACKER, b"Sender: <ceo@bank.example>"), known=KILLS + "A12", ends=_AS_ATTACKER, twin="Sender"),
        Attack("Sender of the attacker", mail(_VICTIM, b"Sender: <x@evil.example>"), known="Sender ID, RFC 4407", twin="Sender"),
        Attack("Resent-From alone", mail(b"Resent-From: <ceo@bank.example>"), known=KILLS + "A13", ends=_MISSING),
        Attack("Resent-From of the attacker", mail(b"Resent-From: <x@evil.example>", _VICTIM), known="Sender ID, RFC 4407", twin="resent"),
        Attack("Reply-To alone", mail(b"Reply-To: <ceo@bank.example>"), known=WEAK + "A4", ends=_MISSING),
        Attack("NUL in the name", mail(_ATTACKER, b"From\0: <ceo@bank.example>"), known=WEAK + "A4", ends=_NUL, postfix=_AS_ATTACKER),
        Attack("NUL behind the name of another", mail(_ATTACKER, b"From\0X: <ceo@bank.example>"), known=WEAK + "A4", ends=_NUL, postfix=_AS_ATTACKER),
        Attack("no-break space in the name", mail(_ATTACKER, b"From\xc2\xa0: <ceo@bank.example>"), known=WEAK + "A4", ends=_AS_ATTACKER),
        Attack("an octet in the name", mail(_ATTACKER, b"From\xff: <ceo@bank.example>"), known=WEAK + "A4", ends=_AS_ATTACKER),
        Attack("a lone CR before the name", mail(b"X: y\rFrom: <ceo@bank.example>", _ATTACKER), known="RFC 5321 2.3.8", ends=_BARE, postfix=_AS_ATTACKER),
        Attack("a lone CR behind the field", mail(b"From: <x@evil.example>\rFrom: <ceo@bank.example>"), known="RFC 5321 2.3.8", ends=_BARE, postfix=_MALFORMED),
        Attack("a lone LF before the name", mail(b"X: y\nFrom: <ceo@bank.example>", _ATTACKER), known="RFC 5321 2.3.8", ends=_BARE, postfix=_SEVERAL),
        Attack("behind a line that is no field", mail(_ATTACKER, b"no field", _VICTIM), known="CVE-2024-39929", ends=_AS_ATTACKER),
        Attack("behind a line of white space", mail(_ATTACKER, b" \t", _VICTIM), known="RFC 5322 4.2", ends=_SEVERAL),
        Attack("behind an empty field name", mail(_ATTACKER, b": y", _VICTIM), known="own", ends=_AS_ATTACKER),
        Attack("in the body", b"\r\n" + mail(_VICTIM), known="own", ends=_MISSING),
        Attack("a line of a mailbox file", b"From ceo@bank.example Tue Nov 14 22:13:20 2023\r\n" + mail(_ATTACKER), known="RFC 4155", ends=_MISSING, postfix=_AS_ATTACKER),
        Attack("a quoted line of a mailbox file", b">From: <ceo@bank.example>\r\n" + mail(_ATTACKER), known="RFC 4155", ends=_AS_ATTACKER),
        Attack("a longer name", mail(_ATTACKER, b"From-: <ceo@bank.example>"), known="own", ends=_AS_ATTACKER),
        Attack("behind 50,000 fields", b"a:b\r\n" * 50_000 + mail(_VICTIM), known="own", ends="552 5.3.4"),
        Attack("in a name whose DNS is broken", mail(b"From: <ceo@old.bank.example>"), known="RFC 9989 5.3.6", ends="temperror dns.servfail"),
        Attack("said to come from a list", mail(b"List-Id: <x.evil.example>", _VICTIM), known="RFC 9989 8"),
        Attack("said to be sent on", mail(b"Resent-To: <anna@home.example>", _VICTIM), known="RFC 9989 8"),
    ]  # fmt: skip


# What stands behind "From: ", who described it, and what becomes of it, behind Postfix too where that is another thing.
_VALUES: tuple[tuple[str, bytes, str, str] | tuple[str, bytes, str, str, str], ...] = (
    ("two authors, attacker first", b"<x@evil.example>, <ceo@bank.example>", KILLS + "A14", _MANY),
    ("two authors, victim first", b"<ceo@bank.example>, <x@evil.example>", KILLS + "A14", _MANY),
    ("two authors, one without brackets", b"ceo@bank.example,<x@evil.example>", KILLS + "A18", _MANY),
    ("two authors, parted by a semicolon", b"ceo@bank.example; x@evil.example", WEAK + "A5", _MALFORMED),
    ("two authors, parted by a space", b"<ceo@bank.example> <x@evil.example>", WEAK + "A5", _MALFORMED),
    ("two authors, an empty one between", b"ceo@bank.example,,x@evil.example", "RFC 5322 4.4", _MALFORMED),
    ("an encoded author", encoded("<ceo@bank.example>") + b",<x@evil.example>", KILLS + "A15", _MALFORMED),
    ("an encoded address, nothing else", encoded("ceo@bank.example"), KILLS + "A15", _MALFORMED),
    ("an encoded name with an author in it", encoded("<ceo@bank.example>,") + b" <x@evil.example>", WEAK + "A7", _AS_ATTACKER),
    ("a route through the attacker", b"<@evil.example,@any.example:ceo@bank.example>", KILLS + "A16", _MALFORMED),
    ("a route through the victim", b"<@bank.example:x@evil.example>", KILLS + "A16", _MALFORMED),
    ("a quoted comma", rb"<ceo@bank.example>\,<x@evil.example>", KILLS + "A17", _MALFORMED),
    ("an address behind the brackets", b"<x@evil.example>ceo@bank.example", KILLS + "A19", _MALFORMED),
    ("an address before the brackets", b"ceo@bank.example <x@evil.example>", KILLS + "A19", _MALFORMED),
    ("the attacker before the brackets", b"x@evil.example <ceo@bank.example>", KILLS + "A19", _MALFORMED),
    ("brackets within a name", b"<ceo@bank.example> joe <x@evil.example>", "CVE-2023-27043", _MALFORMED),
    ("an author in a comment", b"ceo@bank.example (<x@evil.example>)", WEAK + "A6", _MALFORMED),
    ("an author before a comment", b"(ceo@bank.example) x@evil.example", WEAK + "A6", _MALFORMED),
    ("a comment that splits the address", b"<x@evil.example(>,<ceo@bank.example)>", WEAK + "A6", _MALFORMED),
    ("a comment that ends the domain", b"ceo@bank.example(.evil.example)", "CVE-2020-12272", "fail"),
    ("a comment within the domain", b"<ceo@bank.(x).example>", WEAK + "A6", _MALFORMED),
    ("a comment before the at-sign", b"ceo(x@evil.example)@bank.example", WEAK + "A6", _MALFORMED),
    ("comments in each other", b"((x@evil.example) ceo@bank.example) <x@evil.example>", WEAK + "A6", _MALFORMED),
    ("a comment without end", b"<x@evil.example> (<ceo@bank.example>", WEAK + "A6", _MALFORMED),
    ("a comment that ends twice", b"(x)) <ceo@bank.example>, <x@evil.example>", WEAK + "A6", _MALFORMED),
    ("a quoted parenthesis", rb"(\) <ceo@bank.example>, () <x@evil.example>", "own", _MALFORMED),
    ("a quoted name that is an author", b'"ceo@bank.example" <x@evil.example>', "own", _AS_ATTACKER),
    ("a quoted name with brackets", b'"<ceo@bank.example>" <x@evil.example>', WEAK + "A6", _AS_ATTACKER),
    ("a name that escapes its end", rb'"x\" <ceo@bank.example>, \"" <x@evil.example>', WEAK + "A6", _MALFORMED),
    ("a name that does not end", b'"ceo@bank.example <x@evil.example>', WEAK + "A6", _MALFORMED),
    ("a quoted local part", b'"ceo@bank.example"@evil.example', ATOM, _MALFORMED),
    ("a quoted local part with brackets", b'"<ceo@bank.example>"@evil.example', ATOM, _MALFORMED),
    ("a quoted local part with NUL", b'"ceo@bank.example\0"@evil.example', ATOM, _NUL, _MALFORMED),
    ("two at-signs, victim first", b"ceo@bank.example@evil.example", ATOM, _MALFORMED),
    ("two at-signs, attacker first", b"x@evil.example@bank.example", ATOM, _MALFORMED),
    ("the old way through hosts", b"ceo%bank.example@evil.example", ATOM, _AS_ATTACKER),
    ("a UUCP path", b"bank.example!ceo@evil.example", ATOM, _AS_ATTACKER),
    ("an encoded local part", encoded("ceo@bank.example") + b"@evil.example", SPLOIT, _MALFORMED),
    ("an encoded local part with NUL", encoded("ceo@bank.example") + encoded("\0") + b"@evil.example", SPLOIT, _MALFORMED),
    ("an encoded local part with LF", encoded("ceo@bank.example\n") + b"@evil.example", SPLOIT, _MALFORMED),
    ("an encoded local part in quotes", b'"' + encoded("ceo@bank.example\0") + b'"@evil.example', SPLOIT, _MALFORMED),
    ("an encoded local part in UTF-7", b"=?utf-7?q?ceo+AEA-bank.example=3E?=@evil.example", ATOM, _MALFORMED),
    ("a group", b"Bank: <ceo@bank.example>;", "RFC 6854 5", "fail"),
    ("a group named as the victim", b"ceo@bank.example: x@evil.example;", "RFC 6854 5", _MALFORMED),
    ("a group and another", b"Bank: ceo@bank.example;, x@evil.example", "RFC 6854 5", _MANY),
    ("a group of nobody", b"ceo at bank.example:;", "RFC 6854 5", _MANY),
    ("a group within a group", b"a: b: ceo@bank.example;;", "RFC 6854 5", _MALFORMED),
    ("no brackets", b"ceo@bank.example", KILLS + "2.2", "fail"),
    ("upper case", b"<ceo@BANK.EXAMPLE>", WEAK + "A4", "fail"),
    ("a final dot", b"<ceo@bank.example.>", "own", _MALFORMED),
    ("an open bracket", b"<ceo@bank.example", WEAK + "A6", _MALFORMED),
    ("a lone closing bracket", b"ceo@bank.example>", WEAK + "A6", _MALFORMED),
    ("double brackets", b"<<ceo@bank.example>>", WEAK + "A6", _MALFORMED),
    ("two addresses in brackets", b"<ceo@bank.example x@evil.example>", WEAK + "A6", _MALFORMED),
    ("a fold within the address", b"<ceo@\r\n bank.example>", KILLS + "5.2", _MALFORMED),
    ("a space within the address", b"<ceo@bank .example>", KILLS + "5.2", _MALFORMED),
    ("an author far behind", b"<x@evil.example>\r\n" + b" \r\n" * 400 + b" ,<ceo@bank.example>", "own", _MANY),
    ("NUL in the address", b"<ceo@bank.example\0@evil.example>", WEAK + "A6", _NUL, _MALFORMED),
    ("NUL behind the address", b"x@evil.example\0, ceo@bank.example", WEAK + "A6", _NUL, _AS_ATTACKER),
    ("a control character", b"<ceo@bank.example\x01@evil.example>", WEAK + "A6", _MALFORMED),
    ("a vertical tab", b"\x0bceo@bank.example <x@evil.example>", WEAK + "A6", _MALFORMED),
    ("a domain literal", b"<ceo@[203.0.113.66]>", ATOM, _MALFORMED),
    ("a name in a domain literal", b"<ceo@[bank.example]>", ATOM, _MALFORMED),
    ("an octet that is no UTF-8", b"<ceo@bank\xff.example>", WEAK + "A6", _MALFORMED),
    ("an ideographic full stop", "<ceo@bank。example>".encode(), "UTS 46; RFC 3490 3.1", "fail"),
    ("a halfwidth full stop", "<ceo@bank｡example>".encode(), "UTS 46; RFC 3490 3.1", "fail"),
    ("fullwidth letters", "<ceo@ｂａｎｋ.example>".encode(), "UTS 46", "fail"),
    ("mathematical letters", "<ceo@𝐛𝐚𝐧𝐤.example>".encode(), "UTS 46", "fail"),
    ("the Kelvin sign", "<ceo@ban\u212a.example>".encode(), "UTS 46", "fail"),
    ("a soft hyphen", "<ceo@ba\u00adnk.example>".encode(), WEAK + "A13", "fail"),
    ("a zero width space", "<ceo@bank\u200b.example>".encode(), WEAK + "A13", "fail"),
    ("a fullwidth at-sign", "<ceo＠bank.example@evil.example>".encode(), ATOM, _AS_ATTACKER),
    ("a direction override", "<ceo@\u202eelpmaxe.knab>".encode(), WEAK + "A14", _MALFORMED),
    ("a direction override in the name", "\u202eelpmaxe.knab@oec\u202c <x@evil.example>".encode(), WEAK + "A14", _MALFORMED),
    ("a letter of another script", "<ceo@b\u0430nk.example>".encode(), WEAK + "A12", "fail"),
    ("a name under the victim's", b"<ceo@nobody.bank.example>", WEAK + "A8", "fail"),
    ("a name far under the victim's", b"<ceo@a.b.c.d.e.f.g.h.i.bank.example>", "RFC 9989 4.10", "fail"),
    ("the victim below the attacker", b"<ceo@bank.example.evil.example>", WEAK + "A8", "pass as bank.example.evil.example"),
    ("no domain", b"<ceo>", WEAK + "A6", _MALFORMED),
    ("a thousand authors", b", ".join([b"x@evil.example"] * 1200) + b", ceo@bank.example", "own", _MALFORMED),
    ("a name of 15,000 letters", b"b" * 15_000 + b" <ceo@bank.example>", KILLS + "5.2", "fail"),
    ("a name of 50,000 letters", b"b" * 50_000 + b" <ceo@bank.example>", KILLS + "5.2", _MALFORMED),
    ("an author behind 64 kB", b"x@evil.example (" + b"b" * 66_000 + b"), ceo@bank.example", KILLS + "5.2", "552 5.3.4", _MALFORMED),
    ("an author behind 100 kB", b"x@evil.example (" + b"b" * 110_000 + b"), ceo@bank.example", KILLS + "5.2", "552 5.3.4", _MALFORMED),
)  # fmt: skip


def values() -> list[Attack]:
    """One From field that programs read in different ways."""
    return [
        Attack(f"From: {name}", mail(b"From: " + value), known=known, ends=ends, postfix=(*postfix, None)[0])
        for name, value, known, ends, *postfix in _VALUES
    ]  # fmt: skip


def attacks() -> list[Attack]:
    return [*fields(), *values()]


# The same means in honest hands: what stands in the From field.
_HONEST: tuple[tuple[str, bytes], ...] = (
    ("plain", b"<service@bank.example>"),
    ("no brackets, upper case", b"SERVICE@BANK.EXAMPLE"),
    ("a name", b"The Bank <service@bank.example>"),
    ("a quoted name", rb'"Bank, \"The\" (Service)" <service@bank.example>'),
    ("a name that is the address", b'"service@bank.example" <service@bank.example>'),
    ("an address as a name, without quotes", b"service@bank.example <service@bank.example>"),
    ("a comment", b"service@bank.example (The (Big) Bank)"),
    ("an encoded name", encoded("Bücher, <und> mehr") + b"\r\n " + encoded("®") + b" <service@bank.example>"),
    ("a quoted local part", b'"the service"@bank.example'),
    ("an odd local part", b"bank.example!s%ervice=x+y@bank.example"),
    ("a group", b"Bank: service@bank.example;"),
    ("folds", b"\r\n The Bank\r\n\t<service@bank.example>"),
    ("an old charset", b'"B\xfccher" <service@bank.example>'),
    ("a long name", b"b" * 15_000 + b" <service@bank.example>"),
)


def honest() -> list[Honest]:
    many = b"\r\n".join(b"X-%d: y" % n for n in range(500))
    plain = b"From: <service@bank.example>"
    return [
        *(Honest(name, mail(b"From: " + value)) for name, value in _HONEST),
        Honest("far down", mail(many, plain)),
        Honest("an odd field name", mail(b"fROM : <service@bank.example>", b"From-: x", b"X-From: <x@evil.example>")),
        Honest("Sender", mail(plain, b"Sender: <list@other.example>")),
        Honest("resent", mail(b"Resent-From: <anna@home.example>", plain, b"Reply-To: <x@evil.example>")),
        Honest("an author in the body", mail(plain, body=b"From: <x@evil.example>\r\n\r\n>From: me\r\n")),
        Honest("under the organization", mail(b"From: <service@news.bank.example>"), author="news.bank.example"),
        Honest("international", mail("From: Bücher <service@bücher.example>".encode()), b"<service@xn--bcher-kva.example>", author="xn--bcher-kva.example"),
        Honest("an ideographic full stop", mail("From: <service@ｂücher。example>".encode()), b"<service@xn--bcher-kva.example>", author="xn--bcher-kva.example"),
    ]  # fmt: skip
