"""Odd signatures, keys and mails: what filterd makes of them, and where OpenDKIM, dkimpy or Mail::DKIM think otherwise.

filterd takes what breaks the grammar where two of the three do, and it cannot change what is signed. Where it differs
from most of them, the case says by which RFC.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from zlib import crc32

import pytest
from dkim_mail import DOMAIN, KeyPair, rsa_pair, signing_key, split
from interop.both_ways import RECORDS, RSA, dkimpy_verdict, key_name, our_verdicts, zone
from servers import nsd, opendkim
from servers.perl_dkim import PerlDkim

from filterd.dkim.bodyhash import BodyForm, BodyHasher
from filterd.dkim.canonical import Canonicalization, signed_octets
from filterd.mail.header import Field

PLAIN = (
    b"From: Joe <joe@example.org>\r\nTo: Jane <jane@example.net>\r\nSubject: Is dinner ready?\r\nX-A: a\r\n"
    b"\r\nHi.\r\n\r\nWe lost the game.\r\n"
)
TAGS = "v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=rsa; h=from:to:subject:x-a; bh=BH; b="
UNPADDED = replace(rsa_pair(3072), record=rsa_pair(3072).record.rstrip(b"="))


def the_same(text: str) -> str:
    return text


def unpadded(text: str) -> str:
    return text.rstrip("=")


def by_the_letter(
    tags: str = TAGS,
    mail: bytes = PLAIN,
    *,
    pair: KeyPair = RSA,
    after: str = "",
    b: Callable[[str], str] = the_same,
    bh: Callable[[str], str] = the_same,
) -> bytes:
    """The mail with a signature of exactly these tags, `after` behind b=; b= and bh= in the forms given."""
    forms = [Canonicalization(word) for word in tags.partition("c=")[2].partition(";")[0].lower().split("/")]
    names = [name.strip() for name in tags.partition("h=")[2].partition(";")[0].split(":")]
    header, body = split(mail)
    form = BodyForm(forms[1], 0 if "l=0;" in tags else None)
    hasher = BodyHasher([form])
    hasher.update(body)
    hasher.finish()
    value = " " + tags.replace("BH", bh(b64encode(hasher.hash_of(form).digest).decode()))
    octets = signed_octets(header, names, Field(b"DKIM-Signature", b""), f"{value}{after}".encode(), forms[0])
    signature = b(b64encode(signing_key(pair.pem).sign(octets)).decode())
    return b"DKIM-Signature:" + f"{value}{signature}{after}".encode() + b"\r\n" + mail


@dataclass(frozen=True)
class Case:
    """A mail, and whether it passes here.

    `differ` are programs that think otherwise, in the versions seen; `because` of this, filterd does not follow them
    though they are two or three. `records` has the key where it is another than RSA.
    """

    mail: bytes
    passes: bool
    differ: str = ""
    because: str = ""
    records: Mapping[str, bytes] = field(default_factory=dict)


def keyed(record: str, passes: bool, differ: str = "", because: str = "", pair: KeyPair = RSA) -> Case:
    """A good signature by a key that is published so; P is its base64."""
    text = record.replace("P", pair.record.decode().partition("p=")[2])
    selector = f"k{crc32(text.encode())}"
    mail = by_the_letter(TAGS.replace("s=rsa", f"s={selector}"), pair=pair)
    return Case(mail, passes, differ, because, {key_name(selector): text.encode()})


def simple(tags: str) -> str:
    return tags.replace("relaxed/relaxed", "simple/simple")


def plus(tag: str) -> str:
    return TAGS.replace("h=from", f"{tag}; h=from")


def with_value(value: bytes) -> bytes:
    return PLAIN.replace(b"X-A: a", b"X-A:" + value)


IN_CASE = "RFC 6376 3.2: values are compared by case, where nothing else is said"
TWICE = "RFC 6376 3.2: where a tag stands twice, the whole list is invalid"

CASES: Mapping[str, Case] = {
    # What breaks the grammar, and is read nevertheless.
    "h= ends in a colon": Case(by_the_letter(TAGS.replace("x-a;", "x-a:;")), True),
    "h= ends in a colon and spaces": Case(by_the_letter(TAGS.replace("x-a;", "x-a : ;")), True),
    "h= begins with a colon": Case(by_the_letter(TAGS.replace("h=from", "h=:from")), True),
    "h= has two colons": Case(by_the_letter(TAGS.replace("to:", "to::")), True),
    "b= without padding": Case(by_the_letter(b=unpadded), True, "dkimpy"),
    "v= last in a key record": keyed("k=rsa; p=P; v=DKIM1", True),
    "v= second in a key record": keyed("k=rsa; v=DKIM1; p=P", True),
    "p= in quotes": keyed('v=DKIM1; k=rsa; p="P"', True),
    # What is allowed.
    "as it should be": Case(by_the_letter(), True),
    "a semicolon at the end": Case(by_the_letter(after=";"), True),
    "a semicolon and a space at the end": Case(by_the_letter(after="; "), True),
    "a semicolon at the end of a key record": keyed("v=DKIM1; k=rsa; p=P;", True),
    "a semicolon and a space at the end of a key record": keyed("v=DKIM1; k=rsa; p=P; ", True),
    "v= not first": Case(by_the_letter(TAGS.replace("v=1; ", "").replace("bh=", "v=1; bh=")), True),
    "white space in b= and bh=": Case(by_the_letter(b=lambda b: f" {b[:9]} {b[9:]}", bh=lambda bh: f"{bh[:9]} {bh[9:]}"), True),
    "q= has another method, too": Case(by_the_letter(plus("q=dns/txt:http")), True, "dkimpy"),
    "an @ in i=, encoded": Case(by_the_letter(plus("i=joe=40b@example.org")), True, "opendkim"),
    "i= in upper case": Case(by_the_letter(plus("i=@EXAMPLE.org")), True),
    "utf-8 in a tag (RFC 8616)": Case(by_the_letter(plus("i=jürgen@example.org")), True, "opendkim"),
    # RFC 6376 3.2: FWS may stand on both sides of the equals sign.
    "a space after the b of b=": Case(by_the_letter(TAGS.replace(" b=", " b =")), True, "opendkim"),
    # RFC 6376 3.7: what surrounds the value of b= is deleted with it.
    "white space around b=, simple": Case(
        by_the_letter(simple(TAGS), after="; z=", b=lambda b: f"\r\n\t{b} "), True, "dkimpy"
    ),
    "a name with a space behind": Case(by_the_letter(mail=PLAIN.replace(b"X-A:", b"X-A :")), True, "dkimpy"),
    # What breaks the grammar, and is not read.
    "two semicolons": Case(by_the_letter(TAGS.replace("; h=", ";; h=")), False, "perl"),
    "two semicolons at the end": Case(by_the_letter(after=";;"), False, "perl"),
    "two semicolons in a key record": keyed("v=DKIM1;; k=rsa; p=P", False, "perl"),
    "two semicolons at the end of a key record": keyed("v=DKIM1; k=rsa; p=P;;", False, "perl"),
    "bh= without padding": Case(by_the_letter(bh=unpadded), False, "perl"),
    "p= without padding": keyed("v=DKIM1; p=P", False, "opendkim", pair=UNPADDED),
    "p= with a hyphen": keyed("v=DKIM1; p=-P", False, "opendkim dkimpy", "it would be guessing"),
    "b= with a hyphen": Case(by_the_letter(b=lambda b: f"-{b}"), False, "opendkim perl", "it would be guessing"),
    "a= in upper case": Case(by_the_letter(TAGS.replace("rsa-sha", "RSA-SHA")), False, "opendkim perl", IN_CASE),
    "c= in upper case": Case(by_the_letter(TAGS.replace("=relaxed", "=Relaxed")), False, "opendkim perl", IN_CASE),
    "k= in upper case": keyed("v=DKIM1; k=RSA; p=P", False, "opendkim"),
    "v= in lower case": keyed("v=dkim1; p=P", False),
    "v= of another kind, last": keyed("k=rsa; p=P; v=DKIM2", False),
    "a tag twice": Case(by_the_letter(plus("d=example.org")), False, "opendkim perl", TWICE),
    "a tag twice in a key record": keyed("v=DKIM1; k=rsa; k=rsa; p=P", False, "opendkim perl", TWICE),
    "no v=": Case(by_the_letter(TAGS.replace("v=1; ", "")), False, "perl"),
    "no equals sign": Case(by_the_letter(plus("foo")), False),
    "no equals sign in a key record": keyed("v=DKIM1; foo; p=P", False),
    "q= without a type": Case(by_the_letter(plus("q=dns")), False),
    "an empty l=": Case(by_the_letter(plus("l=")), False, "perl"),
    "d= ends in a dot": Case(
        by_the_letter(TAGS.replace(".org;", ".org.;")), False, "opendkim perl dkimpy", "RFC 6376 3.5: it is no domain-name"
    ),
    # White space is space and tab, a line ends in CRLF (RFC 6376 2.8).
    "a vertical tab in a value": Case(by_the_letter(mail=with_value(b" a \v b")), True, "opendkim"),
    "form feeds around a value": Case(by_the_letter(mail=with_value(b" \fa\f")), True, "opendkim perl dkimpy", "RFC 6376 2.8"),
    "a lone CR in the body": Case(by_the_letter(mail=PLAIN + b"a\rb\r\n"), True, "opendkim"),
    "a lone LF in the body": Case(by_the_letter(mail=PLAIN + b"a\nb\r\n"), True, "dkimpy"),
    # RFC 6376 3.4.3: a line end that is missing is added; 3.4.4: white space goes at the end of all lines.
    "no last line end, simple": Case(by_the_letter(simple(TAGS), PLAIN + b"end"), True, "perl"),
    "no last line end": Case(by_the_letter(mail=PLAIN + b"end"), True, "opendkim"),
    "white space and no last line end": Case(by_the_letter(mail=PLAIN + b"end \t"), True, "opendkim dkimpy", "RFC 6376 3.4.4"),
    # What is true, and still proves too little.
    "rsa-sha256 where the key allows sha1 only": keyed("v=DKIM1; h=sha1; p=P", False, "dkimpy"),
    "a From field was added": Case(
        by_the_letter().replace(b"To:", b"From: eve@example.com\r\nTo:"), False
    ),
    "a From field was added above": Case(
        by_the_letter().replace(b"From:", b"From: eve@example.com\r\nFrom:"), False, "opendkim perl", "RFC 6376 8.15"
    ),
    "a Subject field was added above": Case(
        by_the_letter().replace(b"From:", b"Subject: Buy!\r\nFrom:"), False, "opendkim perl dkimpy", "RFC 6376 8.15"
    ),
    "l= of nothing": Case(
        by_the_letter(TAGS.replace("bh=", "l=0; bh=")), False, "opendkim dkimpy", "RFC 6376 8.2"
    ),
}  # fmt: skip


ALL_RECORDS = {
    name: text for records in (RECORDS, *(case.records for case in CASES.values())) for name, text in records.items()
}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, dict[str, bool]]:
    """Which programs let each case pass."""
    mails = [case.mail for case in CASES.values()]
    with opendkim.verifying(ALL_RECORDS) as verifier:
        opendkims = [verifier.verdicts(mail) == ["pass"] for mail in mails]
    with nsd.running({DOMAIN: zone(ALL_RECORDS)}) as nameserver:
        perls = [verdict == ["pass"] for verdict in PerlDkim(nameserver).verdicts(mails)]
    dkimpys = [dkimpy_verdict(mail, records=ALL_RECORDS) == "pass" for mail in mails]
    ours = [our_verdicts(mail, ALL_RECORDS) == ["pass"] for mail in mails]
    rows = zip(ours, opendkims, dkimpys, perls, strict=True)
    return {
        name: dict(zip(("filterd", "opendkim", "dkimpy", "perl"), row, strict=True))
        for name, row in zip(CASES, rows, strict=True)
    }


@pytest.mark.parametrize("name", CASES)
def test_an_odd_case(verdicts: dict[str, dict[str, bool]], name: str) -> None:
    case, passes = CASES[name], verdicts[name]

    assert passes["filterd"] == case.passes
    # Those that differ today may have followed the RFC by the next release.
    assert {program for program in passes if passes[program] != case.passes} <= set(case.differ.split())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.because])
def test_filterd_is_no_stranger_without_a_reason(name: str) -> None:
    assert len(CASES[name].differ.split()) <= 1
