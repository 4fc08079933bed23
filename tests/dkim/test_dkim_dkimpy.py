"""dkimpy and filterd agree on mails that dkimpy survives: what one signs, the other verifies."""

import time

import dkim as dkimpy
import pytest
from dkim_mail import KeyPair, dkimpy_signed, ed25519_pair, rsa_pair, signed, split, verify, zone
from hypothesis import given, settings
from hypothesis import strategies as st

from filterd.dkim.verify import DkimCode

RSA, ED25519 = rsa_pair(), ed25519_pair()
FORMS = [(header, body) for header in ("simple", "relaxed") for body in ("simple", "relaxed")]

HEAD = b"From: Joe <joe@example.org>\r\nTo: jane@example.net\r\nSubject: hello\r\nDate: today\r\n"
MAILS = {
    "plain": HEAD + b"\r\nText.\r\n",
    "empty body": HEAD + b"\r\n",
    "only blank lines": HEAD + b"\r\n\r\n\r\n\r\n",
    "only white space": HEAD + b"\r\n \t \r\n\t\r\n",
    "blank lines at the end": HEAD + b"\r\nText.\r\n\r\n\r\n",
    "no line end": HEAD + b"\r\nText.",
    "8-bit": HEAD + "X-A: grün\r\n\r\nGrüße \u2028 aus Köln\r\n".encode() + b"\xff\xfe\0\r\n",
    "tabs": HEAD.replace(b": ", b":\t") + b"\r\n\tTabs\t \tand spaces \t\r\n",
    "folded": HEAD.replace(b"hello", b"hello\r\n\tand\r\n  \t good-bye") + b"\r\nText.\r\n",
    "no space after the colon": HEAD.replace(b": ", b":") + b"\r\nText.\r\n",
    "odd case": HEAD.replace(b"From", b"fROM").replace(b"Subject", b"SUBJECT") + b"\r\nText.\r\n",
    "long lines": HEAD + b"\r\n" + b"word  " * 20_000 + b"\r\n",
    "twice the same field": b"Subject: one\r\nX-A: 1\r\nX-A: 2\r\n" + HEAD + b"To: third@example.com\r\n\r\nText.\r\n",
    "a lone CR": HEAD + b"\r\nText \r and more\r\n",
    "dots": HEAD + b"\r\n.\r\n..\r\n",
}


@pytest.mark.parametrize("mail", MAILS.values(), ids=MAILS.keys())
@pytest.mark.parametrize(("header", "body"), FORMS)
@pytest.mark.parametrize("pair", [RSA, ED25519], ids=["rsa", "ed25519"])
def test_both_ways(mail: bytes, header: str, body: str, pair: KeyPair) -> None:
    by_dkimpy = dkimpy_signed(mail, pair, header, body)
    by_us = signed(mail, pair, c=f"{header}/{body}")

    for chunk in (1 if len(mail) < 1000 else 1000, 65535):
        (result,) = verify(by_dkimpy, zone(pair.record), now=int(time.time()), chunk=chunk)
        assert (result.code, result.reason) == (DkimCode.PASS, None)
    assert dkimpy_says(by_us, pair)


def dkimpy_says(mail: bytes, pair: KeyPair) -> bool:
    try:
        return bool(dkimpy.DKIM(mail).verify(dnsfunc=lambda name, timeout: pair.record))
    except dkimpy.DKIMException:
        return False


VALUE = st.lists(
    st.sampled_from([b" ", b"\t", b"  ", b"\r\n ", b"\r\n\t", b"a", b"B", b"\xc3\xbc", b";", b"words"]), max_size=8
)
FIELD = st.tuples(
    st.sampled_from([b"From", b"TO", b"subject", b"X-A", b"Date", b"Cc"]),
    VALUE.map(lambda parts: b"".join([*parts, b"."])),
)
BODY = st.lists(
    st.sampled_from([b"\r\n", b"\r\n\r\n", b" ", b"\t", b"   ", b"\r.", b"text", b"\xff", b" \r\n"]), max_size=15
).map(lambda parts: b"".join([*parts, b"\r\n"]))
MAIL = st.builds(
    lambda fields, body: b"".join(name + b":" + value + b"\r\n" for name, value in fields) + b"\r\n" + body,
    st.lists(FIELD, max_size=8).map(lambda fields: [(b"From", b" joe@example.org"), *fields]),
    BODY,
)


@given(mail=MAIL, form=st.sampled_from(FORMS), chunk=st.integers(1, 30))
def test_what_dkimpy_signs_verifies_here(mail: bytes, form: tuple[str, str], chunk: int) -> None:
    names = [*every_name(mail), "date", "to"]
    by_dkimpy = dkimpy_signed(mail, ED25519, *form, include_headers=[name.encode() for name in names])

    assert dkimpy_says(by_dkimpy, ED25519)
    (result,) = verify(by_dkimpy, zone(ED25519.record), now=int(time.time()), chunk=chunk)
    assert result.code is DkimCode.PASS


@given(mail=MAIL, form=st.sampled_from(FORMS))
def test_what_we_sign_verifies_in_dkimpy(mail: bytes, form: tuple[str, str]) -> None:
    h = ":".join(["from"] * (len(split(mail)[0].all("From")) + 1) + ["to", "subject", "to", "x-a", "date"])
    by_us = signed(mail, ED25519, c="/".join(form), h=h)

    assert dkimpy_says(by_us, ED25519)


@settings(max_examples=300)
@given(mail=MAIL, form=st.sampled_from(FORMS), data=st.data())
def test_of_a_changed_mail_both_think_the_same(mail: bytes, form: tuple[str, str], data: st.DataObject) -> None:
    by_us = signed(mail, ED25519, c="/".join(form), h=":".join(every_name(mail)))
    start = by_us.index(b"From:")
    position = data.draw(st.integers(start, len(by_us) - 1))
    octet = data.draw(st.sampled_from([b"", b" ", b"\t", b"x", b"\r\n", b"\r\n "]))
    changed = by_us[:position] + octet + by_us[position + 1 :]
    if b"\n" in changed.replace(b"\r\n", b"") or not readable(changed):
        return
    ours = verify(changed, zone(ED25519.record))[0].code is DkimCode.PASS

    assert ours == dkimpy_says(changed, ED25519)


def every_name(mail: bytes) -> list[str]:
    """What h= has to say for filterd not to mind that From, Subject and others stand there twice (RFC 6376 8.15)."""
    return [field.key.decode() for field in split(mail)[0]]


def readable(mail: bytes) -> bool:
    """Whether dkimpy reads the header as it is: every line is a field or continues one, and no CR stands alone.

    In relaxed form dkimpy strips a CR at the end of a value, which is no white space by RFC 6376 2.8.
    """
    if b"\r" in mail.partition(b"\r\n\r\n")[0].replace(b"\r\n", b""):
        return False
    try:
        return len(dkimpy.DKIM(mail).headers) == len(split(mail)[0])
    except (dkimpy.MessageFormatError, IndexError):
        return False
