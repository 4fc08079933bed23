"""Results that the attacker brings along: what a careless reader would take for ours (RFC 8601 5, 7.1).

Sources: RFC 8601 7, CVE-2022-48521, "Composition Kills"; authres_status issue 86 and others on readers that guess.
"""

from arc_mail import sealed_by_hand
from spoofing.cast import ATTACKER_KEY, Attack, Honest, encoded, mail

_PASS = b"dmarc=pass header.from=bank.example"
# What the bundled MTA does not take.
_REFUSED = {"NUL": "550 5.6.0", "a lone CR": "521 5.5.2"}
_FORGED = mail(b"From: <ceo@bank.example>")

_FIELDS: dict[str, bytes] = {
    "as ours": b"Authentication-Results: mx.home.example; " + _PASS,
    "in upper case": b"AUTHENTICATION-RESULTS: MX.HOME.EXAMPLE; DMARC=PASS HEADER.FROM=BANK.EXAMPLE",
    "without a space": b"Authentication-Results:mx.home.example;" + _PASS,
    "a space before the colon": b"Authentication-Results : mx.home.example; " + _PASS,
    "a tab before the colon": b"Authentication-Results\t: mx.home.example; " + _PASS,
    "folded": b"Authentication-Results:\r\n\tmx.home.example;\r\n\tdmarc\r\n =\r\n pass header.from=bank.example",
    "a version": b"Authentication-Results: mx.home.example 1; " + _PASS,
    "an unknown version": b"Authentication-Results: mx.home.example 2; " + _PASS,
    "quoted": b'Authentication-Results: "mx.home.example"; ' + _PASS,
    "quoted, escaped": rb'Authentication-Results: "mx.ho\me.exam\ple"; ' + _PASS,
    "a comment in front": b"Authentication-Results: (x) mx.home.example; " + _PASS,
    "a comment within": b"Authentication-Results: mx.home(x).example; " + _PASS,
    "a comment behind": b"Authentication-Results: mx.home.example(x); " + _PASS,
    "a comment without end": b"Authentication-Results: mx.home.example; " + _PASS + b" ((",
    "a quote without end": b'Authentication-Results: mx.home.example; x="; ' + _PASS,
    "a final dot": b"Authentication-Results: mx.home.example.; " + _PASS,
    "other letters": "Authentication-Results: ｍｘ。home.example; ".encode() + _PASS,
    "a soft hyphen": "Authentication-Results: mx.ho\u00adme.example; ".encode() + _PASS,
    "8-bit octets": b"Authentication-Results: mx.home.example\xff; " + _PASS,
    "NUL": b"Authentication-Results: mx.home.example\0; " + _PASS,
    "a lone CR": b"Authentication-Results: x; none\r mx.home.example; " + _PASS,
    "an encoded id": b"Authentication-Results: =?us-ascii?q?mx.home.example?=; " + _PASS,
    "an id encoded by octets": b"Authentication-Results: =?us-ascii?q?mx=2Ehome=2Eexample?=; " + _PASS,
    "all encoded": b"Authentication-Results: " + encoded("mx.home.example; " + _PASS.decode(), "us-ascii"),
    "a part encoded": b"Authentication-Results: mx.home.ex" + encoded("ample;") + b" " + _PASS,
    "behind folds of white space": b"Authentication-Results: \r\n \r\n\t\r\n mx.home.example; " + _PASS,
    "a fold within the id": b"Authentication-Results: mx.home\r\n .example; " + _PASS,
    "spaces around the dots": b"Authentication-Results: mx . home . example; " + _PASS,
    "comments in comments within": b"Authentication-Results: mx.(a(b)c)home(d).example; " + _PASS,
    "a comment that ends too early": rb"Authentication-Results: (\)) mx.home.example; " + _PASS,
    "a comment that was not opened": b"Authentication-Results: x) mx.home.example; " + _PASS,
    "all in a comment": b"Authentication-Results: mx.home.example (; " + _PASS + b")",
    "a version behind a slash": b"Authentication-Results: mx.home.example/1; " + _PASS,
    "angle brackets": b"Authentication-Results: <mx.home.example>; " + _PASS,
    "an empty quoted string in front": b'Authentication-Results: ""mx.home.example; ' + _PASS,
    "a set's number in front": b"Authentication-Results: i=1; mx.home.example; " + _PASS,
    "a zero width space": "Authentication-Results: mx.home\u200b.example; ".encode() + _PASS,
    "a byte order mark": "Authentication-Results: \ufeffmx.home.example; ".encode() + _PASS,
    "a no-break space": b"Authentication-Results: \xa0mx.home.example; " + _PASS,
    "a form feed": b"Authentication-Results: \x0cmx.home.example; " + _PASS,
    "behind the results of another": b"Authentication-Results: x.example; none;\r\n mx.home.example; " + _PASS,
    "a comma": b"Authentication-Results: x.example, mx.home.example; " + _PASS,
    "nothing in front": b"Authentication-Results: ; mx.home.example; " + _PASS,
    "no id": b"Authentication-Results: " + _PASS,
    "an id below ours": b"Authentication-Results: a.mx.home.example; " + _PASS,
    "an id that ends as ours": b"Authentication-Results: evilmx.home.example; " + _PASS,
    "a hundred": b"\r\n".join([b"Authentication-Results: mx.home.example; " + _PASS] * 100),
    "between others": b"\r\n".join([b"Authentication-Results: %s.example; none" % name for name in (b"a", b"b")] * 9 + [b"Authentication-Results: mx.home.example; " + _PASS] * 2),
    "long": b"Authentication-Results: mx.home.example; " + _PASS + b" (" + b"x" * 64_000 + b")",
    "many results": b"Authentication-Results: mx.home.example; " + b"a=b; " * 5_000 + _PASS,
    "of another server of ours": b"Authentication-Results: mx2.home.example; " + _PASS,
    "of Received-SPF": b"Received-SPF: pass (mx.home.example: domain of bank.example)",
    "of our marks": b"X-Filterd-Tag: dmarc=pass\r\nX-Filterd-Quarantine: none",
    "in a chain": b"ARC-Authentication-Results: i=1; mx.home.example; " + _PASS,
}  # fmt: skip


def attacks() -> list[Attack]:
    return [
        *(
            Attack(f"results: {name}", field + b"\r\n" + _FORGED, known="RFC 8601 5, 7.1", twin="results of others", ends=_REFUSED.get(name, "fail"), postfix="fail")
            for name, field in _FIELDS.items()
        ),
        Attack("results: in a chain that the attacker sealed", sealed_by_hand(_FORGED, found="mx.home.example; " + _PASS.decode(), domain="evil.example", pair=ATTACKER_KEY), known="Weak Links A11", twin="results of others"),
        Attack("results: in a chain for the victim", sealed_by_hand(_FORGED, found="mx.home.example; " + _PASS.decode(), domain="bank.example", pair=ATTACKER_KEY), known="Weak Links A11", twin="results of others"),
        Attack("results: below the author", mail(b"From: <ceo@bank.example>", *list(_FIELDS.values())[:3]), known="RFC 8601 5", twin="results of others"),
    ]  # fmt: skip


def honest() -> list[Honest]:
    plain = mail(b"From: <service@bank.example>")
    others = b"".join(
        b"Authentication-Results: %s; dmarc=fail header.from=bank.example\r\n" % name
        for name in (b"mx.bank.example", b"home.example", b'"x.example" 1', b"b\xc3\xbccher.example")
    )
    return [
        Honest("results of others", others + plain),
        Honest("results of ours", b"Authentication-Results: mx.home.example; dmarc=fail\r\n" + plain),
    ]  # fmt: skip
