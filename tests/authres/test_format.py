"""filterd.authres.format: what is ours is written so that nothing remote can add to it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.authres.format import format_value
from filterd.authres.parse import parse
from filterd.authres.result import AuthenticationResults, AuthResultsError, MethodResult, Property

ID = "mx.example.org"
KEYWORDS = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOSTILE = st.text(st.sampled_from('a@. \t\r\n\0"\\();=é，pas\u2028'), max_size=60) | st.text(max_size=600)


def one(value: str) -> str:
    """The only property of a formatted field, with this value."""
    result = MethodResult("spf", "pass", (Property("smtp", "mailfrom", value),))
    text = format_value(AuthenticationResults(ID, (result,)))
    return text.removeprefix(f"{ID};\n\tspf=pass").lstrip("\n\t ")


def test_no_results() -> None:
    assert format_value(AuthenticationResults(ID, ())) == "mx.example.org; none"


def test_one_result_a_line() -> None:
    """RFC 8601 2.2; appendix B.6 has this shape."""
    ar = AuthenticationResults(
        ID,
        (
            MethodResult("spf", "pass", (Property("smtp", "mailfrom", "a@example.net"),)),
            MethodResult("dkim", "fail", (Property("header", "d", "example.net"),), "dkim.body-hash", "2048-bit key"),
        ),
    )
    expected = (
        "mx.example.org;\n"
        "\tspf=pass smtp.mailfrom=a@example.net;\n"
        "\tdkim=fail (2048-bit key) reason=dkim.body-hash header.d=example.net"
    )

    assert expected == format_value(ar)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("example.net", "example.net"),
        ("a.b+c@example.net", "a.b+c@example.net"),
        ("@example.net", "@example.net"),
        ("2001:db8::1", '"2001:db8::1"'),
        ("ab/+cdef", '"ab/+cdef"'),
        ("", '""'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        # An unusual local part goes, the domain stays.
        ("a b@example.net", "example.net"),
        ('"x; dkim=pass "@example.net', "example.net"),
        ("dkim=pass@example.net", "example.net"),
        ("jörg@example.net", "example.net"),
        ("..@example.net", "example.net"),
        ("a" * 500 + "@example.net", "example.net"),
        ("ceo@good.example@example.net", "example.net"),
        # What is no address is made harmless.
        ("dkim=pass", '"dkim?pass"'),
        ("x; dkim=pass", '"x? dkim?pass"'),
        ("x\r\n\tdkim=pass", '"x???dkim?pass"'),
        ("x\0é", '"x??"'),
    ],
)
def test_property_value(value: str, expected: str) -> None:
    assert f"smtp.mailfrom={expected}" == one(value)


def test_over_long_value_is_left_out() -> None:
    assert one("a" * 500) == ""


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("2048-bit key", "(2048-bit key)"),
        ("a) ; dmarc=pass (", "(a] , dmarc:pass [)"),
        ("a\\", "(a/)"),
        ("a\r\nSubject: x", "(a??Subject: x)"),
        ("x" * 500, "(" + "x" * 397 + "...)"),
    ],
)
def test_comment(comment: str, expected: str) -> None:
    """A comment never looks like a result, not even to a program that only searches for one."""
    text = format_value(AuthenticationResults(ID, (MethodResult("dmarc", "fail", comment=comment),)))

    assert f"{ID};\n\tdmarc=fail {expected}" == text.replace("\n\t(", " (")


@pytest.mark.parametrize(
    "ar",
    [
        AuthenticationResults("", ()),
        AuthenticationResults("a b", ()),
        AuthenticationResults("a;b", ()),
        AuthenticationResults("mx\n", ()),
        AuthenticationResults("bücher.example", ()),
        AuthenticationResults(ID, (MethodResult("spf=pass", "x"),)),
        AuthenticationResults(ID, (MethodResult("spf", ""),)),
        AuthenticationResults(ID, (MethodResult("spf", "pass", (Property("smtp", "mail from", "x"),)),)),
        AuthenticationResults(ID, (MethodResult("spf", "pass", (Property("smtp\n", "mailfrom", "x"),)),)),
    ],
)
def test_refuses_our_own_mistakes(ar: AuthenticationResults) -> None:
    with pytest.raises(AuthResultsError):
        format_value(ar)


@st.composite
def method_results(draw: st.DrawFn) -> MethodResult:
    properties = draw(st.lists(st.builds(Property, KEYWORDS, KEYWORDS, HOSTILE), max_size=4))
    return MethodResult(
        draw(KEYWORDS), draw(KEYWORDS), tuple(properties), draw(st.none() | HOSTILE), draw(st.none() | HOSTILE)
    )


@given(st.lists(method_results(), max_size=5))
def test_nothing_remote_adds_a_result(results: list[MethodResult]) -> None:
    """However hostile the texts: the same methods and codes are read back, by a parser or by hand."""
    text = format_value(AuthenticationResults(ID, tuple(results)))
    expected = [(each.method, each.code) for each in results]

    again = parse(text.encode())
    assert [(each.method, each.code) for each in again.results] == expected
    assert again.authserv_id == ID
    # A program that splits at semicolons, or searches for results, sees no more.
    naive = [part.split()[0] for part in text.split(";")[1:] if part.strip() != "none"]
    assert naive == [f"{method}={code}" for method, code in expected]
    names = []
    for each in again.results:
        reason = ["reason"] if each.reason else []
        names += [each.method, *reason, *(f"{found.ptype}.{found.name}" for found in each.properties)]
    assert names == re.findall(r"([a-z0-9.-]+)=", text)


@given(st.lists(method_results(), max_size=5))
def test_shape(results: list[MethodResult]) -> None:
    """Printable ASCII, folded with LF and tab, no line near 998 characters (RFC 5322 2.1.1)."""
    lines = format_value(AuthenticationResults(ID, tuple(results))).split("\n")

    assert all(len(line) < 900 for line in lines)
    assert all(re.fullmatch(r"[ -~]+", line) for line in lines[:1])
    assert all(re.fullmatch(r"\t[ -~]+", line) for line in lines[1:])


VALUES = st.from_regex(
    r"([a-z0-9+_-]{1,20}(\.[a-z0-9]{1,20})?@)?[a-z0-9-]{1,10}(\.[a-z0-9-]{1,10}){0,3}", fullmatch=True
)
VALUES |= st.text(st.sampled_from('ab "\\()/:,.<>[]?'), min_size=1, max_size=20)
TEXTS = st.none() | st.from_regex(r"[a-z0-9][a-z0-9 .,:/'-]{0,30}[a-z0-9]", fullmatch=True)


@given(
    st.lists(
        st.builds(
            MethodResult,
            KEYWORDS,
            KEYWORDS,
            st.lists(st.builds(Property, KEYWORDS, KEYWORDS, VALUES), max_size=4).map(tuple),
            TEXTS,
            TEXTS,
        ),
        max_size=5,
    )
)
def test_reads_back_what_it_writes(results: list[MethodResult]) -> None:
    """What needs no replacement comes back as it was, quotation marks, backslashes and parentheses included."""
    ar = AuthenticationResults(ID, tuple(results))

    assert ar == parse(format_value(ar).encode())
