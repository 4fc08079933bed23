"""Signatures: keys that are not the victim's, fields that name somebody else, and the victim's own mail, changed.

Sources: RFC 6376 8, "Composition Kills", "Breaking DKIM" (Ullrich, 2017), the l= attack on large brands (Zone, 2024).
"""

from base64 import b64encode
from collections.abc import Callable
from hashlib import sha1

from dkim_mail import KeyPair, split
from spoofing.cast import ATTACKER_KEY, VICTIM_ED25519_KEY, VICTIM_KEY, Attack, Honest, mail
from spoofing.small_rsa import CUBE, WEAK, of_pem

from filterd.dkim.bodyhash import BodyForm, BodyHasher
from filterd.dkim.canonical import Canonicalization, signed_octets
from filterd.dkim.sign import SigningKey
from filterd.mail.header import Field

_FORGED, _PLAIN = mail(b"From: <ceo@bank.example>"), mail(b"From: <service@bank.example>")
_H = "from:to:subject:date"
KILLS, RFC = "Composition Kills ", "RFC 6376 "

Sign = Callable[[bytes], bytes]


def by(pair: KeyPair) -> Sign:
    """The signing of a key pair."""
    return SigningKey.load(pair.pem, min_rsa_bits=1024).sign


_BY_VICTIM = by(VICTIM_KEY)
_C = {f"{header}/{body}" for header in Canonicalization for body in Canonicalization}


def signed(message: bytes, sign: Sign = _BY_VICTIM, **changed: str | None) -> bytes:
    """The message with a signature above it that says whatever is wanted, by the victim's key if not told otherwise."""
    header, body = split(message)
    tags = {"v": "1", "a": "rsa-sha256", "c": "relaxed/relaxed", "d": "bank.example", "s": "sel", "h": _H, **changed}
    of_header, of_body = map(Canonicalization, (tags["c"] if tags["c"] in _C else "relaxed/relaxed").split("/"))
    length = tags.get("l") or ""
    form = BodyForm(of_body, int(length) if length.isdigit() else None)
    hasher = BodyHasher([form])
    hasher.update(body)
    hasher.finish()
    tags.setdefault("bh", b64encode(hasher.hash_of(form).digest).decode())
    value = f" {'; '.join(f'{name}={text}' for name, text in tags.items() if text is not None)}; b=".encode()
    names = [name.strip().lower() for name in (tags["h"] or "").split(":")]
    octets = signed_octets(header, names, Field(b"DKIM-Signature", value), value, of_header)
    return b"DKIM-Signature:" + value + b64encode(sign(octets)) + b"\r\n" + message


def _mine(**changed: str | None) -> bytes:
    """Forged mail, signed by the attacker."""
    return signed(_FORGED, by(ATTACKER_KEY), **changed)


def keys() -> list[Attack]:
    """The attacker's key, found where the victim's should be; the victim's keys that prove nothing."""
    elsewhere = "sel._domainkey.evil.example"
    sha1_hash = b64encode(sha1(b"Please confirm.\r\n").digest()).decode()
    victim = of_pem(VICTIM_KEY.pem)
    return [
        Attack("signed by the attacker", _mine(d="evil.example"), known=RFC + "6.3"),
        Attack("signed by the attacker as the victim", _mine(), known=RFC + "8", ends="fail dkim.signature"),
        Attack("a selector that ends in NUL", _mine(s=elsewhere + ".\0.any"), known=KILLS + "A3", ends="550 5.6.0", postfix="fail dkim.syntax"),
        Attack("a selector that is a whole name", _mine(s=elsewhere), known=KILLS + "A3", twin="signed, long selector", ends="fail dkim.key.missing"),
        Attack("a selector that ends the name", _mine(s=elsewhere + ".."), known=KILLS + "A3", ends="fail dkim.syntax"),
        Attack("a selector with an escape", _mine(s=elsewhere + r".\000"), known=KILLS + "A3", ends="fail dkim.syntax"),
        Attack("a selector with a comment sign", _mine(s=elsewhere + "#"), known=KILLS + "A3", ends="fail dkim.syntax"),
        Attack("a selector with spaces", _mine(s=elsewhere + " TXT "), known=KILLS + "A3", ends="fail dkim.syntax"),
        Attack("a selector in quotes", _mine(s=f'"{elsewhere}. "'), known=KILLS + "A3", ends="fail dkim.syntax"),
        Attack("a selector that goes up", _mine(s="../../" + elsewhere), known="own", ends="fail dkim.syntax"),
        Attack("a selector too long for DNS", _mine(s=".".join([elsewhere] * 9)), known="own", ends="fail dkim.syntax"),
        Attack("a selector of labels too long", _mine(s="s" * 64 + "." + elsewhere), known="own", ends="fail dkim.syntax"),
        Attack("a selector of two names", _mine(s="sel._domainkey"), known="own", ends="fail dkim.key.missing"),
        Attack("a domain that is a key's name", _mine(d="sel._domainkey.evil.example"), known="own", ends="fail dkim.key.missing"),
        Attack("a key by a wildcard", _mine(d="any.evil.example", s="any"), known="own"),
        Attack("no selector", _mine(s=""), known="own", ends="fail dkim.syntax"),
        Attack("a key of 512 bits, factored", signed(_FORGED, WEAK.sign, s="weak"), known="RFC 8301 3.2; Harris 2012", ends="fail dkim.key.weak"),
        Attack("a key with exponent 3, forged", signed(_FORGED, CUBE.forge, s="cube"), known="CVE-2006-4339", ends="fail dkim.signature"),
        Attack("a revoked key", signed(_FORGED, s="revoked"), known=RFC + "3.6.1", ends="fail dkim.key.revoked"),
        Attack("a key for reports", _mine(s="report"), known=RFC + "3.6.1; RFC 8460 3", ends="fail dkim.key.service"),
        Attack("a key for sha1", _mine(s="sha1"), known=RFC + "3.6.1", ends="fail dkim.key.hash"),
        Attack("a key for users only", signed(_FORGED, s="users", i="x@nobody.bank.example"), known=RFC + "3.6.1", twin="signed, t=s", ends="fail dkim.identity"),
        Attack("a key of another type", signed(_FORGED, s="ed"), known="RFC 8463 4", ends="fail dkim.key.type"),
        Attack("another algorithm for the key", signed(_FORGED, by(VICTIM_ED25519_KEY), a="ed25519-sha256"), known="RFC 8463 4", ends="fail dkim.key.type"),
        Attack("sha1 by the victim", signed(_PLAIN, lambda octets: victim.sign(octets, True), a="rsa-sha1", bh=sha1_hash), known="RFC 8301 3.1", ends="fail dkim.sha1"),
        Attack("an empty signature", signed(_FORGED, lambda _: b""), known="own", ends="fail dkim.syntax"),
        Attack("a signature of zeros", signed(_FORGED, lambda _: b"\0" * 256), known="own", ends="fail dkim.signature"),
        Attack("a signature of one", signed(_FORGED, lambda _: b"\0" * 255 + b"\1"), known="own", ends="fail dkim.signature"),
        Attack("an Ed25519 signature of zeros", signed(_FORGED, lambda _: b"\0" * 64, s="ed", a="ed25519-sha256"), known="own", ends="fail dkim.signature"),
    ]  # fmt: skip


def domains() -> list[Attack]:
    """d= and i= that name the victim to some, and the attacker to others."""
    odd = [
        ("a single quote", "bank.example'a.evil.example", KILLS + "A4"),
        ("a parenthesis", "bank.example(.evil.example", KILLS + "A5"),
        ("a quotation mark", 'bank.example".evil.example', KILLS + "A4"),
        ("a backslash", "bank.example\\.evil.example", KILLS + "A4"),
        ("a semicolon", "bank.example;.evil.example", KILLS + "A4"),
        ("a comma", "bank.example,evil.example", KILLS + "A4"),
        ("an equals sign", "bank.example=.evil.example", KILLS + "A4"),
        ("a space", "bank.example evil.example", KILLS + "A4"),
        ("a fold", "bank.example\r\n\t.evil.example", KILLS + "A4"),
        ("an at-sign", "bank.example@evil.example", KILLS + "A4"),
        ("a slash", "bank.example/evil.example", KILLS + "A4"),
        ("a percent sign", "bank.example%00.evil.example", KILLS + "A4"),
        ("a result", "bank.example header.from=bank.example dmarc=pass.evil.example", "CVE-2020-12272"),
        ("an encoded word", "=?utf-8?q?bank.example?=.evil.example", KILLS + "A4"),
        ("a final dot", "bank.example.", RFC + "3.5"),
        ("a dot in front", ".bank.example", RFC + "3.5"),
        ("both, the attacker first", "evil.example; d=bank.example", RFC + "3.2"),
        ("both, the victim first", "bank.example; d=evil.example", RFC + "3.2"),
        ("the top-level domain", "example", RFC + "8.13; RFC 9989 4.10"),
        ("nothing", "", "own"),
    ]  # fmt: skip
    users = [
        ("the victim", "ceo@bank.example", RFC + "3.5", "dkim.identity"),
        ("the victim alone", "@bank.example", RFC + "3.5", "dkim.identity"),
        ("two at-signs", "ceo@bank.example@evil.example", RFC + "3.5", ""),
        ("a result", '";dmarc=pass header.from=bank.example;"@evil.example', "CVE-2020-12272", "dkim.syntax"),
        ("a result, encoded", "=3Bdmarc=3Dpass=20header.from=3Dbank.example=3B@evil.example", "CVE-2020-12272", ""),
        ("a comment", "(dmarc=pass)ceo@bank.example(@evil.example", "CVE-2020-12272", ""),
        ("a fold", "x\r\n ;dmarc=pass\r\n @evil.example", "CVE-2020-12272", "dkim.syntax"),
    ]  # fmt: skip
    under = [
        ("co.example", "shop.co.example", "a public suffix"),
        ("evil.co.example", "shop.co.example", "a neighbour under a public suffix"),
        ("promo.strict.example", "strict.example", "a lost name under the victim, strict"),
        ("site.host.example", "host.example", "a customer's site"),
    ]  # fmt: skip
    return [
        Attack("d= with NUL", _mine(d="bank.example\0.evil.example"), known=KILLS + "A3", ends="550 5.6.0", postfix="fail dkim.syntax"),
        Attack("d= with other letters", _mine(d="ｂａｎｋ.example"), known="RFC 8616 4", ends="fail dkim.signature"),
        Attack("d= that ends as the victim's", _mine(d="notbank.example"), known="RFC 9989 4.4"),
        Attack("d= that begins as the victim's", _mine(d="bank.example.evil.example"), known=KILLS + "A4"),
        *(Attack(f"d= with {name}", _mine(d=text), known=known, ends="fail dkim.syntax") for name, text, known in odd),
        *(
            Attack(f"i= with {name}", _mine(d="evil.example", i=text), known=known, ends=f"fail {reason}".strip())
            for name, text, known, reason in users
        ),
        *(
            Attack(f"d= of {name}", signed(mail(f"From: <ceo@{victim}>".encode()), by(ATTACKER_KEY), d=domain), b"<x@%s>" % domain.encode(), known="RFC 9989 4.4, 4.10", twin="signed")
            for domain, victim, name in under
        ),
    ]  # fmt: skip


def tags() -> list[Attack]:
    """The victim's signatures that cover too little, or are none."""
    return [
        Attack("From not signed", signed(_PLAIN, h="to:subject:date"), known=RFC + "5.4", ends="fail dkim.from-unsigned"),
        Attack("From not signed, a name like it", signed(_PLAIN, h="x-from:from-:to:subject:date"), known=RFC + "5.4", ends="fail dkim.from-unsigned"),
        Attack("another version", signed(_PLAIN, v="2"), known=RFC + "3.5", ends="fail dkim.version"),
        Attack("no version", signed(_PLAIN, v=None), known=RFC + "3.5", ends="fail dkim.syntax"),
        Attack("another query", signed(_PLAIN, q="http/well-known"), known=RFC + "3.5", ends="fail dkim.query"),
        Attack("another canonicalization", signed(_PLAIN, c="relaxed/nowsp"), known=RFC + "3.5", ends="fail dkim.canonicalization"),
        Attack("an unknown algorithm", signed(_PLAIN, a="rsa-md5"), known=RFC + "3.5", ends="fail dkim.algorithm"),
        Attack("expired", signed(_PLAIN, x="1000000000"), known=RFC + "3.5", twin="signed, x=", ends="fail dkim.expired"),
        Attack("from the future", signed(_PLAIN, t="99999999999"), known=RFC + "3.5", ends="fail dkim.future"),
        Attack("expired before it was made", signed(_PLAIN, t="99999999999", x="99999999998"), known=RFC + "3.5", ends="fail dkim.future"),
    ]  # fmt: skip


def replays() -> list[Attack]:
    """The victim's own signed mail, with something added."""
    whole = signed(_PLAIN)
    short = signed(_PLAIN, l=str(len(b"Please confirm.\r\n")))
    none = signed(_PLAIN, l="0")
    mime = mail(b"From: <service@bank.example>", b"MIME-Version: 1.0", b"Content-Type: text/plain")
    typed = signed(mime, h=_H + ":mime-version:content-type")
    relayed = signed(mime, h=_H, l="17")
    many = b"".join(signed(b"", by(ATTACKER_KEY), d="evil.example") for _ in range(6))
    page = b"<h1>Your account is blocked</h1>\r\n"
    other = b"Content-Type: multipart/mixed; boundary=x\r\n"
    added = [
        (b"From", b"<x@evil.example>", "permerror author.several-fields"),
        (b"From ", b"<x@evil.example>", "permerror author.several-fields"),
        (b"FROM", b"<service@bank.example>", "permerror author.several-fields"),
        (b"Subject", b"Your account is blocked", "fail dkim.field-added"),
        (b"Subject ", b"Your account is blocked", "fail dkim.field-added"),
        (b"sUBJECT\t", b"Your account is blocked", "fail dkim.field-added"),
        (b"To", b"<everybody@home.example>", "fail dkim.field-added"),
        (b"Date", b"Thu, 1 Jan 2026 00:00:00 +0000", "fail dkim.field-added"),
    ]  # fmt: skip
    return [
        Attack("the body changed", whole.replace(b"confirm", b"pay"), known=RFC + "8", twin="signed", ends="fail dkim.body-hash"),
        Attack("the author changed", whole.replace(b"<service@", b"<ceo@"), known=RFC + "8", twin="signed", ends="fail dkim.signature"),
        Attack("the subject changed", whole.replace(b"Subject: Your", b"Subject: My"), known=RFC + "8", twin="signed", ends="fail dkim.signature"),
        Attack("text added", whole + page, known=RFC + "8", twin="signed", ends="fail dkim.body-hash"),
        Attack("text added behind l=", short + page, known=RFC + "8.2; Zone 2024", twin="signed, l=", ends="fail dkim.length"),
        Attack("all text added, l=0", none + page, known=RFC + "8.2; Zone 2024", twin="signed, l=", ends="fail dkim.length"),
        Attack("all text exchanged, l=0", none.replace(b"Please confirm.\r\n", page), known=RFC + "8.2", twin="signed, l=", ends="fail dkim.length"),
        Attack("l= larger than the body", signed(_PLAIN, l="999999"), known=RFC + "3.5", twin="signed, l=", ends="fail dkim.length-too-long"),
        Attack("l= is negative", signed(_PLAIN, l="-1"), known=RFC + "3.5", twin="signed, l=", ends="fail dkim.syntax"),
        Attack("l= is in another base", signed(_PLAIN, l="0x11"), known=RFC + "3.5", twin="signed, l=", ends="fail dkim.syntax"),
        Attack("another part, behind l=", other + relayed + b"--x\r\n\r\n" + page, known="Breaking DKIM", twin="signed, l=", ends="fail dkim.length"),
        Attack("a second Content-Type", other + typed, known="Breaking DKIM", twin="signed, Content-Type", ends="fail dkim.field-added"),
        *(
            Attack(f"a second {name.decode()!r}", b"X: y\r\n" + name + b": " + text + b"\r\n" + whole, known=RFC + "8.15", ends=ends, twin="signed")
            for name, text, ends in added
        ),
        Attack("text behind NUL in a signed field", whole.replace(b"Your account", b"Your account\0 is blocked"), known=KILLS + "A3", twin="signed", ends="550 5.6.0", postfix="pass as bank.example", lie=b"is blocked"),
        Attack("an author behind NUL in From", whole.replace(b"bank.example>\r", b"bank.example>\0, <ceo@evil.example>\r"), known=KILLS + "A3", twin="signed", ends="550 5.6.0", postfix="pass as bank.example", lie=b"ceo@evil.example"),
        Attack("a subject behind a lone CR", whole.replace(b"Your account", b"Your account\rSubject: blocked"), known="RFC 5321 2.3.8", twin="signed", ends="521 5.5.2", postfix="fail dkim.signature"),
        Attack("a subject behind a lone LF", whole.replace(b"Your account", b"Your account\nSubject: blocked"), known="RFC 5321 2.3.8", twin="signed", ends="521 5.5.2", postfix="fail dkim.field-added"),
        Attack("signed for a name whose DNS is broken", _mine(d="old.bank.example"), known="RFC 9989 5.3.6", ends="temperror dns.servfail", twin="signed"),
        Attack("behind six of the attacker's", many + whole.replace(b"confirm", b"pay"), known=RFC + "8.4", twin="signed", ends="fail dkim.body-hash"),
        Attack("only the top is the victim's", signed(whole.replace(b"<service@", b"<ceo@"), by(ATTACKER_KEY), d="evil.example"), known=RFC + "4.2", twin="signed", ends="fail dkim.signature"),
    ]  # fmt: skip


def attacks() -> list[Attack]:
    return [*keys(), *domains(), *tags(), *replays()]


def honest() -> list[Honest]:
    """Signed mail, brought by a forwarder: only its signature speaks for it."""
    messages = {
        "signed": signed(_PLAIN),
        "signed, long selector": signed(_PLAIN, s="sel"),
        "signed, Ed25519": signed(_PLAIN, by(VICTIM_ED25519_KEY), a="ed25519-sha256", s="ed"),
        "signed, t=s": signed(_PLAIN, s="users", i="service@bank.example"),
        "signed, i= below": signed(_PLAIN, i="service@news.bank.example"),
        "signed, x=": signed(_PLAIN, t="1000000000", x="99999999999"),
        "signed, l=": signed(_PLAIN, l="17"),
        "signed, oversigned": signed(_PLAIN, h="from:from:to:to:subject:subject:date:date:reply-to:cc"),
        "signed, Content-Type": signed(
            mail(b"From: <service@bank.example>", b"Content-Type: text/plain"), h=_H + ":content-type"
        ),
        "signed, spelled otherwise": signed(_PLAIN).replace(b"Subject: Your account", b"SUBJECT :  Your\r\n  account "),
        "signed, blank lines added": signed(_PLAIN) + b"\r\n \r\n\r\n",
        "signed, fields added": b"List-Id: <l.example>\r\nReceived: x\r\nReceived: y\r\nX-Subject: y\r\n"
        + signed(_PLAIN),
        "signed by others too": signed(signed(_PLAIN), by(ATTACKER_KEY), d="evil.example"),
        "signed, all of two Subjects": signed(
            mail(b"From: <service@bank.example>", b"Subject: one"), h=_H + ":subject"
        ),
    }
    return [
        Honest(name, message, b"<bounce@evil.example>", b"mail.evil.example", "203.0.113.66")
        for name, message in messages.items()
    ]  # fmt: skip
