"""filterd.authres.parse: other people's results, read without guessing."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from filterd.authres.parse import parse
from filterd.authres.result import AuthenticationResults, AuthResultsError, MethodResult, Property


def spf(value: str) -> MethodResult:
    return MethodResult("spf", "pass", (Property("smtp", "mailfrom", value),))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # RFC 8601 appendix B
        (b"example.org 1; none", []),
        (b" example.com;\r\n\tspf=pass smtp.mailfrom=example.net", [spf("example.net")]),
        (
            b" example.com;\n auth=pass (cram-md5) smtp.auth=sender@example.net;\n spf=pass smtp.mailfrom=example.net",
            [
                MethodResult("auth", "pass", (Property("smtp", "auth", "sender@example.net"),), comment="cram-md5"),
                spf("example.net"),
            ],
        ),
        (
            b'example.com; dkim=pass reason="good signature" header.i=@mail-router.example.net;',
            [MethodResult("dkim", "pass", (Property("header", "i", "@mail-router.example.net"),), "good signature")],
        ),
        (
            b"foo.example.net (foobar) 1 (baz); dkim (Because I like it) / 1 (One yay) = (wait for it) fail\r\n"
            b" policy (A dot can go here) . (like that) expired (this surprised me) = (as I wasn't expecting it)"
            b" 1362471462",
            [MethodResult("dkim", "fail", (Property("policy", "expired", "1362471462"),), comment="Because I like it")],
        ),
        # As found in the wild
        (b"example.com; SPF=Pass SMTP.MailFrom=example.net", [spf("example.net")]),
        (b"example.com; spf=pass smtp.mailfrom=<a@example.net>", [spf("<a@example.net>")]),
        (b'example.com; spf=pass smtp.mailfrom="a b"@example.net', [spf("a b@example.net")]),
        (b'example.com; spf=pass smtp.mailfrom="a\\"b"', [spf('a"b')]),
        (b"example.com; spf=pass smtp.mailfrom=a=b@example.net", [spf("a=b@example.net")]),
        (b"example.com; spf=pass smtp.mailfrom=", [spf("")]),
        (b"example.com; spf=pass action=none smtp.mailfrom=example.net;;", [spf("example.net")]),
        (
            b"example.com; iprev=pass policy.iprev=2001:db8::1",
            [MethodResult("iprev", "pass", (Property("policy", "iprev", "2001:db8::1"),))],
        ),
        ("example.com; spf=pass smtp.mailfrom=jörg@bücher.example".encode(), [spf("jörg@bücher.example")]),
        (
            b"example.com; spf=pass ((a) \\( b) smtp.mailfrom=x",
            [MethodResult("spf", "pass", spf("x").properties, None, "(a) ( b")],
        ),
    ],
)
def test_reads(value: bytes, expected: list[MethodResult]) -> None:
    assert tuple(expected) == parse(value).results


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"mx.example.org", "mx.example.org"),
        (b" (a (b)) mx.example.org (c)", "mx.example.org"),
        (b'"mx.example.org"', "mx.example.org"),
        (b'"mx.exa\\mple.org" 1', "mx.example.org"),
        (b"mx.example.org\r\n 1", "mx.example.org"),
        ("mx.bücher.example".encode(), "mx.bücher.example"),
    ],
)
def test_reads_authserv_id(head: bytes, expected: str) -> None:
    assert AuthenticationResults(expected, ()) == parse(head + b"; none")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b";",
        b"; none",
        b"(only a comment); none",
        b"a b; none",
        b"a 2; none",
        b"a/1; none",
        b"a@b; none",
        b"a=b; none",
        b'"a;b"; none',
        b'"a"b; none',
        b'a"b; none',
        b"spf=pass smtp.mailfrom=x; dkim=none",
        b"a; spf",
        b"a; spf pass",
        b"a; =pass",
        b"a; spf=",
        b"a; spf=pa,ss",
        b"a; s f=pass",
        b"a; spf=pass junk",
        b"a; spf=pass junk smtp.mailfrom=x",
        b"a; spf=pass smtp.mailfrom=x (open",
        b'a; spf=pass smtp.mailfrom="open',
        b"a; spf=pass ) smtp.mailfrom=x",
        b"a; spf=pass smtp.mailfrom=x\\y",
        b"a; spf=pass\nsmtp.mailfrom=x",
        b"a; spf=pass\0",
        b"a; spf=pass\x7f",
        b"a; spf=pass \xff",
        b"a" + b"; spf=pass" * 101,
        b"a; spf=pass" + b" smtp.x=y" * 101,
        b"a; " + b" " * 65_536 + b"spf=pass",
        b"a; spf=pass " + b"(" * 33 + b")" * 33,
    ],
)
def test_refuses(value: bytes) -> None:
    with pytest.raises(AuthResultsError):
        parse(value)


@given(st.binary(max_size=200) | st.text('ab1;=./ "\\()\t\r\n\0é@', max_size=80).map(str.encode))
@example(b"(" * 65_000)
@example(b"(a" * 30_000)
@example(b"a; " + b"a " * 30_000)
@example(b"a; " + b"a=" * 30_000)
@example(b'a; a="' + b"\\" * 65_000)
@example(b'a;"' * 20_000)
@example(b"a" + b";" * 65_000)
def test_raises_nothing_else(value: bytes) -> None:
    with contextlib.suppress(AuthResultsError):
        parse(value)
