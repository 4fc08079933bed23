"""Rows of a SigningTable, and the domains whose mail they take."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.backend.opendkim_authors import (
    EVERYBODY,
    Authors,
    UnlikeError,
    authors_named,
    authors_of_key,
    authors_of_pattern,
)
from filterd.mail.domain import Domain

ORG = Domain.parse("example.org")
AT_ORG, BELOW_ORG = Authors(ORG), Authors(ORG, below=True)


@pytest.mark.parametrize(
    ("key", "authors"),
    [
        ("*@example.org", (AT_ORG,)),
        ("*@Example.ORG", (AT_ORG,)),
        ("*@*.example.org", (BELOW_ORG,)),
        ("*.example.org", (BELOW_ORG,)),
        ("*@*example.org", (AT_ORG, BELOW_ORG)),
        ("*example.org", (AT_ORG, BELOW_ORG)),
        ("*", (EVERYBODY,)),
        ("*@*", (EVERYBODY,)),
    ],
)
def test_patterns(key: str, authors: tuple[Authors, ...]) -> None:
    assert authors_of_pattern(key) == authors


@pytest.mark.parametrize(
    ("key", "authors"),
    [("example.org", (AT_ORG,)), ("EXAMPLE.org", (AT_ORG,)), (".example.org", (BELOW_ORG,)), ("*", (EVERYBODY,))],
)
def test_keys(key: str, authors: tuple[Authors, ...]) -> None:
    assert authors_of_key(key) == authors


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("joe@example.org", "is for some addresses"),
        ("*+x@example.org", "is for some addresses"),
        ("example.org", "takes no mail"),
        ("*@example.*", "stands for no domain"),
        ("*@mail*.example.org", "stands for no domain"),
        ("*@", "stands for no domain"),
    ],
)
def test_patterns_that_a_policy_cannot_say(key: str, says: str) -> None:
    with pytest.raises(UnlikeError, match=re.escape(says)):
        authors_of_pattern(key)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("*@example.org", "takes no mail: patterns need refile:"),
        ("joe@example.org", "is for one address"),
        ("joe@*", "is for one address"),
        ("example.*", "stands for no domain"),
        (".", "stands for no domain"),
        ("example.org.", "addresses have no final dot"),
    ],
)
def test_keys_that_a_policy_cannot_say(key: str, says: str) -> None:
    with pytest.raises(UnlikeError, match=re.escape(says)):
        authors_of_key(key)


def test_names_of_keys_that_are_domains() -> None:
    assert authors_named("example.org") == (AT_ORG,)
    assert authors_named("mail._domainkey.example.org") == ()
    assert authors_named("default") == ()
    assert authors_named("my key") == ()


def test_who_includes_whom() -> None:
    below = [Authors(ORG, below=True), Authors(Domain.parse("org"), below=True), EVERYBODY]

    assert list(Authors(Domain.parse("a.example.org")).wider) == below
    assert list(Authors(Domain.parse("a.example.org"), below=True).wider) == below
    assert list(AT_ORG.wider) == below[1:]
    assert list(EVERYBODY.wider) == []


def test_nearer_rows_come_first() -> None:
    deeper = Authors(Domain.parse("a.example.org"), below=True)

    assert sorted([EVERYBODY, BELOW_ORG, AT_ORG, deeper], key=lambda each: each.nearness) == [
        AT_ORG,
        deeper,
        BELOW_ORG,
        EVERYBODY,
    ]


@given(st.text("*@.ax-", max_size=12), st.sampled_from(["a", "x", "a.x", "x.a.x", "ax", "a-x.x"]))
def test_a_pattern_takes_the_domains_that_it_says(key: str, domain: str) -> None:
    """OpenDKIM's own comparison, by a regular expression: never do we sign for a domain that it does not take."""
    try:
        found = authors_of_pattern(key)
    except UnlikeError:
        return
    author = Authors(Domain.parse(domain))
    taken = any(each in (author, *author.wider) for each in found)
    pattern = ".*".join(map(re.escape, key.split("*")))

    assert not taken or re.fullmatch(pattern, f"x@{domain}")
