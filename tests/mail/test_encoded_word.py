"""Text goes into a field's value and comes back, and no value is more than one field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.mail.encoded_word import MAX_TEXT, shown, written


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" plain text", "plain text"),
        (b" folded\r\n text", "folded text"),
        (b" =?utf-8?q?K=C3=A4se?=", "Käse"),
        (b" =?ISO-8859-1?B?S+RzZQ==?= und Brot", "Käse und Brot"),
        (b" =?iso-8859-1*de?Q?K=E4se_gut?=", "Käse gut"),
        (b" =?utf-8?q?a?=\r\n =?utf-8?q?b?=", "ab"),
        (b" =?utf-8?q?a?= b", "a b"),
        (b" =?utf-8?q?a?= =?utf-8?q?b?= =?utf-8?q?c?=", "abc"),
        (b" ?= =?utf-8?q?a?= =?", "?= a =?"),
        (b" =?utf-8?b?S8Okc2U?=", "Käse"),  # without its padding
        ("K\u00e4se".encode(), "Käse"),
        (b"K\xe4se", "Käse"),
        (b" =?rot13?q?a?=", "=?rot13?q?a?="),
        (b" =?idna?q?xn--a?=", "=?idna?q?xn--a?="),
        (b" =?unicode_escape?q?a?=", "=?unicode_escape?q?a?="),
        (b" =?utf-8?b?S?=", "=?utf-8?b?S?="),
        (b" =?utf-8?x?a?=", "=?utf-8?x?a?="),
        (b"", ""),
    ],
)
def test_what_a_value_shows(value: bytes, expected: str) -> None:
    assert expected == shown(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("Käse und Brot", "=?utf-8?b?S8Okc2U=?= und Brot"),
        ("Käse, Öl", "=?utf-8?b?S8Okc2UsIMOWbA==?="),
        ("a\r\nBcc: eve@example.net", "a Bcc: eve@example.net"),
        ("a\0b\x7f\x1b[31m", "a b [31m"),
        ("=?utf-8?q?a?=", "=?utf-8?b?PT91dGYtOD9xP2E/PQ==?="),
        ("", ""),
        ("word " * 20, ("word " * 13).strip() + "\n " + ("word " * 7).strip()),
    ],
)
def test_how_text_is_written(text: str, expected: str) -> None:
    assert expected == written(text, 8)


@given(st.text(max_size=3 * MAX_TEXT) | st.text("aä =?\r\n\t\x00.", max_size=300), st.integers(1, 80))
def test_whatever_the_text_the_value_is_one_field_that_shows_it(text: str, start: int) -> None:
    value = written(text, start)

    lines = value.split("\n")
    assert value.isascii()
    assert value.replace("\n", "").isprintable()
    assert all(line.strip() for line in lines) or value == ""
    assert all(line[:1] == " " for line in lines[1:])
    assert max(map(len, lines)) <= 998
    if len(text) <= MAX_TEXT:
        same = "".join(char if char.isprintable() else " " for char in text).encode("utf-8", "replace").decode()
        assert " ".join(same.split()) == shown(value.replace("\n", "\r\n").encode())


@given(st.binary(max_size=300) | st.from_regex(rb"( ?=\?[a-z0-9-]{1,9}\?[bq]\?[ -~]{0,20}\?=){1,4}", fullmatch=True))
def test_any_value_shows_something(value: bytes) -> None:
    assert isinstance(shown(value), str)
