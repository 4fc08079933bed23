"""DKIM-Signature fields are read strictly: start valid, change one thing."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.dkim.bodyhash import BodyForm
from filterd.dkim.canonical import Canonicalization
from filterd.dkim.signature import Algorithm, Auid, Signature, SignatureError, parse_signature
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason

VALID = {
    "v": "1",
    "a": "rsa-sha256",
    "c": "relaxed/simple",
    "d": "Example.ORG",
    "s": "Sel.r2026",
    "i": "joe@sub.example.org",
    "q": "dns/txt",
    "t": "1700000000",
    "x": "1700000001",
    "l": "17",
    "h": "From : to:\r\n\tSubject:From",
    "bh": b64encode(bytes(range(32))).decode(),
    "b": "AQIDBAUGBwg\r\n\tJ",
}


def written(**changed: str | None) -> bytes:
    """The valid field, with tags changed or (None) taken away."""
    tags = {**VALID, **changed}
    return "; ".join(f"{name}={value}" for name, value in tags.items() if value is not None).encode()


def test_all_that_a_signature_says() -> None:
    assert parse_signature(b" " + written()) == Signature(
        algorithm=Algorithm.RSA_SHA256,
        signature=bytes(range(1, 10)),
        body_hash=bytes(range(32)),
        header_canonicalization=Canonicalization.RELAXED,
        body_canonicalization=Canonicalization.SIMPLE,
        sdid=Domain("example.org"),
        selector="sel.r2026",
        signed_names=("from", "to", "subject", "from"),
        auid=Auid("joe", Domain("sub.example.org")),
        length=17,
        timestamp=1_700_000_000,
        expiration=1_700_000_001,
    )


def test_what_is_taken_where_nothing_is_said() -> None:
    """RFC 6376 3.5: simple/simple, @d, all of the body, no times."""
    signature = parse_signature(written(c=None, i=None, q=None, t=None, x=None, l=None))

    assert signature.header_canonicalization is Canonicalization.SIMPLE
    assert signature.body_form == BodyForm(Canonicalization.SIMPLE, None)
    assert str(signature.auid) == "@example.org"
    assert (signature.timestamp, signature.expiration) == (None, None)


def test_where_the_key_is() -> None:
    assert parse_signature(written()).key_name == "sel.r2026._domainkey.example.org"


def test_names_in_unicode_become_a_labels() -> None:
    """RFC 8616: d=, s= and i= may have U-labels."""
    signature = parse_signature(written(d="Bücher.example", s="schlüssel", i="jürgen@post.bücher.example"))

    assert signature.key_name == "xn--schlssel-95a._domainkey.xn--bcher-kva.example"
    assert str(signature.auid) == "jürgen@post.xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("changed", "attribute", "value"),
    [
        ({"c": "relaxed"}, "body_canonicalization", Canonicalization.SIMPLE),
        ({"c": "relaxed"}, "header_canonicalization", Canonicalization.RELAXED),
        ({"a": "ed25519-sha256"}, "algorithm", Algorithm.ED25519_SHA256),
        ({"a": "rsa-sha1", "bh": b64encode(bytes(20)).decode()}, "algorithm", Algorithm.RSA_SHA1),
        ({"q": "http/x : dns/txt"}, "sdid", Domain("example.org")),
        ({"z": "From:a@b|To:c@d"}, "length", 17),
        ({"l": "0"}, "length", 0),
        ({"l": "9" * 76}, "length", int("9" * 76)),
        ({"l": "00017"}, "length", 17),
        ({"i": "\r\n @example.org"}, "auid", Auid("", Domain("example.org"))),
        ({"i": "a=40b@example.org"}, "auid", Auid("a=40b", Domain("example.org"))),
        ({"i": "joe@elsewhere.example"}, "auid", Auid("joe", Domain("elsewhere.example"))),
        ({"t": None}, "timestamp", None),
        # Against the grammar, but OpenDKIM, dkimpy and Mail::DKIM read it, and it changes nothing: tests/interop.
        ({"h": "from:to:"}, "signed_names", ("from", "to")),
        ({"h": ":from:: to : "}, "signed_names", ("from", "to")),
        ({"h": ":".join(["from"] * 256) + ":"}, "signed_names", ("from",) * 256),
        ({"b": "YQ"}, "signature", b"a"),
        ({"b": "Y W\tI"}, "signature", b"ab"),
    ],
)
def test_other_things_it_may_say(changed: dict[str, str | None], attribute: str, value: object) -> None:
    assert getattr(parse_signature(written(**changed)), attribute) == value


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        *(({tag: None}, Reason.DKIM_SYNTAX) for tag in ("v", "a", "d", "s", "h", "bh", "b")),
        *(({tag: ""}, Reason.DKIM_SYNTAX) for tag in ("d", "s", "h", "bh", "b", "i", "l", "t", "x")),
        ({"v": "2"}, Reason.DKIM_VERSION),
        ({"v": ""}, Reason.DKIM_VERSION),
        ({"v": "1.0"}, Reason.DKIM_VERSION),
        ({"a": "rsa-sha512"}, Reason.DKIM_ALGORITHM),
        ({"a": "RSA-SHA256"}, Reason.DKIM_ALGORITHM),
        ({"a": "ü"}, Reason.DKIM_ALGORITHM),
        ({"c": "nofws"}, Reason.DKIM_CANONICALIZATION),
        ({"c": "relaxed/"}, Reason.DKIM_CANONICALIZATION),
        ({"c": "relaxed/simple/simple"}, Reason.DKIM_CANONICALIZATION),
        ({"c": ""}, Reason.DKIM_CANONICALIZATION),
        ({"q": "http/x"}, Reason.DKIM_QUERY),
        ({"q": "ü"}, Reason.DKIM_SYNTAX),
        ({"d": "org"}, Reason.DKIM_SYNTAX),
        ({"d": "example.org."}, Reason.DKIM_SYNTAX),
        ({"d": "a@example.org"}, Reason.DKIM_SYNTAX),
        ({"d": "exa mple.org"}, Reason.DKIM_SYNTAX),
        ({"d": "[192.0.2.1]"}, Reason.DKIM_SYNTAX),
        ({"s": "a..b"}, Reason.DKIM_SYNTAX),
        ({"s": "a" * 64}, Reason.DKIM_SYNTAX),
        ({"s": ".".join(["a" * 60] * 4)}, Reason.DKIM_SYNTAX),
        # dkimpy: IndexError.
        ({"i": "example.org"}, Reason.DKIM_SYNTAX),
        ({"i": "joe@"}, Reason.DKIM_SYNTAX),
        ({"h": ":"}, Reason.DKIM_SYNTAX),
        ({"h": " : : "}, Reason.DKIM_SYNTAX),
        ({"h": "from:a b"}, Reason.DKIM_SYNTAX),
        ({"h": "from:ü"}, Reason.DKIM_SYNTAX),
        ({"h": ":".join(["from"] * 257)}, Reason.DKIM_SYNTAX),
        # dkimpy: binascii.Error, as it tests b= in place of bh=.
        ({"bh": "YWJj"}, Reason.DKIM_SYNTAX),
        ({"bh": "YWJ"}, Reason.DKIM_SYNTAX),
        ({"bh": VALID["bh"][:-1]}, Reason.DKIM_SYNTAX),
        ({"b": "YWJjZ"}, Reason.DKIM_SYNTAX),
        ({"b": "YWJj!"}, Reason.DKIM_SYNTAX),
        ({"b": "A" * 1368}, Reason.DKIM_SYNTAX),
        # dkimpy: ValueError for an empty l=, and for numbers of more than 4,300 digits.
        ({"l": "-1"}, Reason.DKIM_SYNTAX),
        ({"l": "1e3"}, Reason.DKIM_SYNTAX),
        ({"l": "9" * 77}, Reason.DKIM_SYNTAX),
        ({"l": "9" * 5000}, Reason.DKIM_SYNTAX),
        ({"t": "9" * 13}, Reason.DKIM_SYNTAX),
        ({"t": "9" * 5000}, Reason.DKIM_SYNTAX),
        ({"t": "now"}, Reason.DKIM_SYNTAX),
        ({"t": "²"}, Reason.DKIM_SYNTAX),
        ({"x": "9" * 5000}, Reason.DKIM_SYNTAX),
        ({"x": "-5"}, Reason.DKIM_SYNTAX),
        ({"x": VALID["t"]}, Reason.DKIM_FUTURE),
        ({"z": "\0"}, Reason.DKIM_SYNTAX),
        ({"z": "a" * 65536}, Reason.DKIM_SYNTAX),
    ],
)
def test_one_thing_changed(changed: dict[str, str | None], reason: Reason) -> None:
    with pytest.raises(SignatureError) as caught:
        parse_signature(written(**changed))

    assert caught.value.reason is reason
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "value", [b"", b";", b" ", b"garbage", b"\xff", written() + b"; d=example.org", written(i="\0")]
)
def test_what_is_no_tag_list(value: bytes) -> None:
    with pytest.raises(SignatureError) as caught:
        parse_signature(value)

    assert caught.value.reason is Reason.DKIM_SYNTAX


def test_latin_1_is_not_utf_8() -> None:
    with pytest.raises(SignatureError):
        parse_signature(written(i="ü@example.org").decode().encode("latin-1"))


@given(
    tag=st.sampled_from([*VALID, "zz"]),
    value=st.binary(max_size=30) | st.text(max_size=20).map(str.encode) | st.from_regex(rb"[0-9a-z@.:/=+ \r\n]{0,20}"),
)
def test_nothing_is_raised_but_the_parsers_own_error(tag: str, value: bytes) -> None:
    text = written(**{tag: None}) + b"; " + tag.encode() + b"=" + value
    try:
        signature = parse_signature(text)
    except SignatureError as error:
        assert error.reason.startswith("dkim.")
        return

    assert len(signature.key_name) <= 253
