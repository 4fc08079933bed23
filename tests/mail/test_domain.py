"""filterd.mail.domain: one spelling for each name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.mail.domain import Domain, DomainError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("example.org", "example.org"),
        ("EXAMPLE.Org", "example.org"),
        ("example.org.", "example.org"),
        (b"example.org", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("XN--Bcher-KVA.example", "xn--bcher-kva.example"),
        ("bücher.example".encode(), "xn--bcher-kva.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("_dmarc.example.org", "_dmarc.example.org"),
        ("localhost", "localhost"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        (".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc"),
    ],
)
def test_reads_name(text: str | bytes, expected: str) -> None:
    assert Domain(expected) == Domain.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        ".a",
        "a..",
        "-a.example",
        "a-.example",
        "a b.example",
        "a@b.example",
        "[192.0.2.1]",
        "a\0.example",
        "a\n.example",
        "example.org\n",
        "a" * 64 + ".example",
        ".".join(["a" * 49] * 5) + ".abcd",
        "a" * 100_000,
        "\udcf6.example",
        b"b\xfccher.example",
        "ceo＠evil.example",
        "a／b.example",
        "\u202eelpmaxe",
    ],
)
def test_refuses_what_is_no_name(text: str | bytes) -> None:
    with pytest.raises(DomainError):
        Domain.parse(text)


@pytest.mark.parametrize(
    ("name", "other", "expected"),
    [
        ("example.org", "example.org", True),
        ("mail.example.org", "example.org", True),
        ("example.org", "mail.example.org", False),
        ("badexample.org", "example.org", False),
        ("example.org.evil.example", "example.org", False),
    ],
)
def test_under(name: str, other: str, expected: bool) -> None:
    assert expected == Domain.parse(name).under(Domain.parse(other))


def test_labels_and_parents() -> None:
    domain = Domain.parse("mail.example.org")

    assert domain.labels == ("mail", "example", "org")
    assert Domain("example.org") == domain.parent
    assert Domain.parse("org").parent is None


@given(st.one_of(st.text(max_size=80), st.binary(max_size=80), st.text("abü-_.。A1xn", max_size=30)))
def test_parse_raises_nothing_else_and_is_stable(text: str | bytes) -> None:
    try:
        domain = Domain.parse(text)
    except DomainError:
        return

    assert domain == Domain.parse(domain.name)
    assert domain.name.isascii()
