"""The envelope: HELO names and reverse paths that SPF and DMARC, or those who read their results, take differently.

Sources: "Composition Kills", "Weak Links in Authentication Chains", CVE-2019-20790, "SMTP Smuggling" (Longin, 2023).
"""

from spoofing.cast import RELAY_IP, VICTIM_IP, Attack, Honest, Mail, mail

_FORGED = mail(b"From: <ceo@bank.example>")
_PASS = b"dmarc=pass header.from=bank.example"
KILLS, WEAK, RESULTS = "Composition Kills ", "Weak Links ", "CVE-2020-12272"

# The reverse path, who described it, and what becomes of it, behind Postfix too where that is something else.
_PATHS: tuple[tuple[str, bytes, str, str, str | None], ...] = (
    ("a name under the victim's", b"<x@nobody.bank.example>", KILLS + "A1", "fail", None),
    ("a parenthesis in front", b"<(x@bank.example>", KILLS + "A2", "553 5.1.7", "fail"),
    ("a parenthesis in the domain", b"<x@bank.example(a.evil.example>", KILLS + "A5", "553 5.1.7", "fail"),
    ("a quote in the domain", b"<x@bank.example'a.evil.example>", KILLS + "A6", "553 5.1.7", "501 5.1.7"),
    ("a quote and another domain", b"<x@bank.example'@a.evil.example>", KILLS + "A6", "553 5.1.7", "fail"),
    ("a route through the victim", b"<@bank.example,@any.example:'x@evil.example>", KILLS + "A7", "fail", None),
    ("two at-signs, victim first", b"<ceo@bank.example@evil.example>", "pyspf splits at the first", "553 5.1.7", "fail"),
    ("two at-signs, attacker first", b"<x@evil.example@bank.example>", "own", "553 5.1.7", "fail"),
    ("a quoted at-sign, victim first", b'<"ceo@bank.example"@evil.example>', "pyspf splits at the first", "fail", None),
    ("a quoted at-sign, attacker first", b'<"x@evil.example"@bank.example>', "own", "fail", None),
    ("quoted brackets", b'<"<ceo@bank.example>"@evil.example>', "own", "fail", None),
    ("a result", b'<";' + _PASS + b';"@evil.example>', RESULTS, "fail", None),
    ("a result behind a comment", b'<") ; ' + _PASS + b' ("@evil.example>', RESULTS, "fail", None),
    ("a result behind a quote", b'<"\\"; ' + _PASS + b'; x=\\""@evil.example>', RESULTS, "fail", None),
    ("a result behind backslashes", b'<"\\\\\\"; ' + _PASS + b'"@evil.example>', RESULTS, "fail", None),
    ("a result, unquoted", b"<x;" + _PASS.replace(b" ", b";") + b"@evil.example>", RESULTS, "553 5.1.7", "501 5.1.7"),
    ("a result as the local part", b"<dmarc=pass@evil.example>", RESULTS, "fail", None),
    ("a result behind CR", b'<"x\r\t;' + _PASS + b'"@evil.example>', RESULTS, "500 5.5.2", "fail"),
    ("NUL", b"<ceo@bank.example\0@evil.example>", KILLS + "A3", "500 5.5.2", "501 5.1.7"),
    ("NUL, attacker first", b"<x@evil.example\0@bank.example>", KILLS + "A3", "500 5.5.2", "501 5.1.7"),
    ("8-bit octets", b"<x@bank\xff.example>", "own", "553 5.1.7", "500 5.5.2"),
    ("an ideographic full stop", "<x@bank。example> SMTPUTF8".encode(), "UTS 46", "fail", None),
    ("an ideographic full stop, attacker", "<x@bank.example。evil.example> SMTPUTF8".encode(), "UTS 46", "fail", None),
    ("a letter of another script", "<x@b\u0430nk.example> SMTPUTF8".encode(), WEAK + "A12", "fail", None),
    ("no brackets", b"ceo@bank.example", "own", "501 5.1.7", "fail"),
    ("another submitter", b"<x@evil.example> AUTH=ceo@bank.example", WEAK + "A1", "fail", None),
    ("a domain literal", b"<ceo@[192.0.2.10]>", "own", "fail", None),
    ("a name in a domain literal", b"<ceo@[bank.example]>", "own", "553 5.1.7", "501 5.1.7"),
    ("no domain", b"<ceo>", "own", "553 5.1.7", "fail"),
    ("a final dot", b"<ceo@bank.example.>", "own", "fail", None),
    ("a long local part", b"<" + b"b" * 900 + b"@evil.example>", "own", "fail", None),
    ("a macro: the local part is a domain", b"<bank.example@macro.evil.example>", "RFC 7208 7", "fail", None),
    ("a macro: an allowed user", b"<anna.192.0.2.10._spf.users.example.@evil.example>", "RFC 7208 7", "553 5.1.7", "fail"),
    ("two records", b"<x@twice.evil.example>", "RFC 7208 4.5", "fail", None),
    ("an alias of the victim", b"<x@borrowed.evil.example>", "own", "fail", None),
    ("a domain that ends as the victim's", b"<x@notbank.example>", "RFC 9989 4.4", "fail", None),
    ("a domain that begins as the victim's", b"<x@bank.example.evil.example>", WEAK + "A8", "fail", None),
)  # fmt: skip

# The HELO name; the reverse path is null, so that SPF judges by this.
_NAMES: tuple[tuple[str, bytes, str, str, str | None], ...] = (
    ("the victim", b"bank.example", WEAK + "A3", "fail", None),
    ("a name under the victim", b"mail.bank.example", WEAK + "A3", "fail", None),
    ("the attacker", b"evil.example", WEAK + "A3", "fail", None),
    ("a result", b"evil.example;" + _PASS.replace(b" ", b";"), RESULTS, "fail", None),
    ("a result with spaces", b"evil.example ; " + _PASS, RESULTS, "fail", None),
    ("a result behind a quote", b'";' + _PASS.replace(b" ", b"\t"), RESULTS, "500 5.5.2", "fail"),
    ("a result behind a comment", b"(;" + _PASS.replace(b" ", b")"), RESULTS, "fail", None),
    ("NUL", b"bank.example\0.evil.example", KILLS + "A3", "500 5.5.2", "fail"),
    ("CR", b"evil.example\r\tdmarc=pass", RESULTS, "500 5.5.2", "fail"),
    ("8-bit octets", b"bank\xff.example", "own", "fail", "500 5.5.2"),
    ("other letters", "ｂａｎｋ.example".encode(), "UTS 46", "fail", None),
    ("the victim's address", b"[192.0.2.10]", "own", "fail", None),
    ("a long name", b"b" * 400 + b".bank.example", "own", "fail", None),
)  # fmt: skip


def attacks() -> list[Attack]:
    paths = [
        Attack(f"path: {name}", _FORGED, path, known=known, ends=ends, postfix=postfix, twin="path: odd")
        for name, path, known, ends, postfix in _PATHS
    ]  # fmt: skip
    names = [
        Attack(f"HELO: {name}", _FORGED, b"<>", helo, known=known, ends=ends, postfix=postfix, twin="path: null")
        for name, helo, known, ends, postfix in _NAMES
    ]  # fmt: skip
    shop, users = mail(b"From: <ceo@legacy.example>"), mail(b"From: <anna@users.example>")
    relayed = b"Received: from mail.bank.example (mail.bank.example [192.0.2.10])\r\n\tby mx2.home.example; now\r\n"
    return [
        *paths,
        *names,
        Attack("HELO of the attacker, path without SPF", _FORGED, b"<x@nobody.bank.example>", b"evil.example", known="CVE-2019-20790"),
        Attack("HELO of the victim, path of the attacker", _FORGED, helo=b"bank.example", known="CVE-2019-20790"),
        Attack("a reverse name of the victim", shop, b"<x@legacy.example>", known="RFC 7208 5.5", twin="path: by reverse name"),
        Attack("a macro: a label too long", users, b"<" + b"a." * 30 + b"a" * 70 + b"@users.example>", known="RFC 7208 7.3", twin="path: by user"),
        Attack("a macro: another's host", users, b'<"anna.192.0.2.10._spf"@users.example>', known="RFC 7208 7", twin="path: by user"),
        Attack("a Received field of our relay, forged", relayed + _FORGED, b"<ceo@bank.example>", known="own", twin="by our relay"),
        Attack("by our relay, two addresses", _received(b"[192.0.2.10]") + _FORGED, b"<ceo@bank.example>", client=RELAY_IP, known="own", twin="by our relay"),
        Attack("by our relay, two fields", _received(b"a") + relayed + _FORGED, b"<ceo@bank.example>", client=RELAY_IP, known="own", twin="by our relay"),
        Attack("by our relay, one field", _received(b"mail.bank.example") + _FORGED, b"<ceo@bank.example>", client=RELAY_IP, known="own", twin="by our relay"),
        Attack("by our relay, none", _FORGED, b"<ceo@bank.example>", client=RELAY_IP, known="own", ends="temperror spf.no-client", twin="by our relay"),
        Attack("our own domain", mail(b"From: <anna@home.example>"), b"<anna@home.example>", b"mx.home.example", known="Weak Links A1"),
        Attack("our own domain, null path", mail(b"From: <anna@home.example>"), b"<>", b"home.example", known="Weak Links A3"),
        Attack("our own domain, said to be ours", mail(b"From: <anna@home.example>"), b"<anna@home.example> AUTH=<anna@home.example>", b"[127.0.0.1]", known="RFC 4954 5"),
        Attack("a path whose DNS is broken", _FORGED, b"<x@old.bank.example>", known="RFC 9989 5.3.6", ends="temperror dns.servfail"),
        Attack("behind a mail that passes", _FORGED, before=(Mail("", mail(b"From: <x@evil.example>")),), known="own", ends="fail and pass as evil.example"),
        Attack("behind another HELO", _FORGED, b"<>", before=(Mail("", _FORGED, b"<ceo@bank.example>", b"mail.bank.example"),), known="own", ends="fail and fail"),
        *_smuggled(),
    ]  # fmt: skip


def _received(helo: bytes, client: bytes = b"203.0.113.66") -> bytes:
    """The field that our relay writes."""
    return b"Received: from %s (unknown [%s])\r\n\tby mx2.home.example (Postfix) with ESMTP id 1; now\r\n" % (
        helo,
        client,
    )


# What some servers took for the end of the data. The client is one that the victim's customers share.
_ENDS = {
    "LF . LF": (b"\n.\n", "521 5.5.2"),
    "LF . CR LF": (b"\n.\r\n", "521 5.5.2"),
    "CR LF . LF": (b"\r\n.\n", "521 5.5.2"),
    "CR . CR": (b"\r.\r", "521 5.5.2"),
    "CR . CR LF": (b"\r.\r\n", "521 5.5.2"),
    "CR LF . CR": (b"\r\n.\r", "521 5.5.2"),
    "CR CR LF . CR CR LF": (b"\r\r\n.\r\r\n", "521 5.5.2"),
    "CR LF NUL . CR LF": (b"\r\n\0.\r\n", "550 5.6.0"),
    "CR LF . NUL CR LF": (b"\r\n.\0\r\n", "550 5.6.0"),
    "CR LF space . CR LF": (b"\r\n .\r\n", "fail"),
    "CR LF . . CR LF": (b"\r\n..\r\n", "fail"),
}


def _smuggled() -> list[Attack]:
    second = b"MAIL FROM:<ceo@bank.example>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n" + _FORGED
    first = mail(b"From: <x@evil.example>")
    return [
        *(
            Attack(f"smuggled: {name}", first + end + second, client=VICTIM_IP, known="SMTP Smuggling", twin="dots", ends=ends, postfix="fail")
            for name, (end, ends) in _ENDS.items()
        ),
        Attack("smuggled: in a chunk", first + b"\r\n.\r\n" + second, client=VICTIM_IP, bdat=True, known="RFC 3030", twin="dots", ends="no CHUNKING", postfix="fail"),
        Attack("smuggled: in a chunk, LF", first + b"\n.\n" + second, client=VICTIM_IP, bdat=True, known="RFC 3030", twin="dots", ends="no CHUNKING", postfix="fail"),
    ]  # fmt: skip


def honest() -> list[Honest]:
    plain = mail(b"From: <service@bank.example>")
    return [
        Honest("path: null", plain, b"<>", b"bank.example"),
        Honest("path: odd", plain, b'<"a;b \\"c\\" (d)=e"@bank.example>'),
        Honest("path: below the organization", plain, b"<service+x=y@BANK.example>"),
        Honest("path: international", mail("From: <s@bücher.example>".encode()), "<s@bücher.example> SMTPUTF8".encode(), author="xn--bcher-kva.example"),
        Honest("path: by reverse name", mail(b"From: <s@legacy.example>"), b"<s@legacy.example>", author="legacy.example"),
        Honest("path: by user", mail(b"From: <anna@users.example>"), b"<anna@users.example>", author="users.example"),
        Honest("by our relay", _received(b"mail.bank.example", b"192.0.2.10") + plain, client=RELAY_IP),
        Honest("dots", mail(b"From: <service@bank.example>", body=b"..\r\n...\r\n .\r\n...MAIL FROM:<x@evil.example>\r\n")),
    ]  # fmt: skip
