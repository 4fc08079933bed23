"""filterd.authres.forged: what pretends to be ours goes, what others said stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.authres.forged import claims_ours, forged
from filterd.mail.header import Field, Header

OURS = frozenset({"mx.example.org", "mx.xn--bcher-kva.example"})

FORGERIES = [
    b" mx.example.org; dkim=pass header.d=good.example",
    b"mx.example.org; none",
    b"mx.example.org 1; dkim=pass header.d=good.example",
    b" (hello) mx.example.org; dkim=pass",
    b" (a (nested \\) ; other.example) comment)\r\n\tmx.example.org (b) ; dkim=pass",
    b'"mx.example.org"; dkim=pass',
    b'"mx.exa\\mple.org"; dkim=pass',
    b'" mx.example.org "; dkim=pass',
    b"MX.Example.ORG; dkim=pass",
    b"mx.example.org.; dkim=pass",
    b"\r\n\tmx.example.org\r\n\t; dkim=pass",
    "mx．example．org; dkim=pass".encode(),
    "\u200bmx.example.org; dkim=pass".encode(),
    "mx.bücher.example; dkim=pass".encode(),
    b"mx.XN--bcher-kva.example; dkim=pass",
    # Not to be read, but some program may.
    b"mx.example.org",
    b"mx.example.org dkim=pass",
    b"mx.example.org/1; dkim=pass",
    b"mx.example.org 2; dkim=pass",
    b"mx.example.org, other.example; dkim=pass",
    b"x@mx.example.org; dkim=pass",
    b"mx.(x)example.org; dkim=pass",
    b'"mx."example.org; dkim=pass',
    b'mx."example".org; dkim=pass',
    b'"mx.example.org; dkim=pass',
    b'"mx.example.org;"; dkim=pass',
    b"(open mx.example.org; dkim=pass",
    b") mx.example.org; dkim=pass",
    b"mx.example.org\0; dkim=pass",
    b"mx.exam\0ple.org; dkim=pass",
    b"mx.exam\xffple.org; dkim=pass",
    b"mx.exam\\ple.org; dkim=pass",
    b"mx.example.org; dkim",
    b"; mx.example.org; dkim=pass",
    b"=?utf-8?q?mx.example.org?=; dkim=pass",
    b"other.example; dkim=pass; mx.example.org; dkim=pass",
    b"other.example\nmx.example.org; dkim=pass",
    b"mx.example.org; dkim=pass (" + b" " * 70_000,
    # Programs that look at the beginning only, and programs that decode.
    b"mx.example.org.other.example; dkim=pass",
    b"mx.example.org-other.example; dkim=pass",
    b"mx.example.org_other; dkim=pass",
    b"=?us-ascii?q?mx=2Eexample=2Eorg?=; dkim=pass",
    b"=?US-ASCII?B?bXguZXhhbXBsZS5vcmc7IGRraW09cGFzcw==?=",
    b"mx.exam=?us-ascii?b?cGxlLm9yZzs=?= dkim=pass",
    b"(" * 40 + b")" * 40 + b"mx.example.org; dkim=pass",
]

FOREIGN = [
    b" other.example; dkim=pass header.d=good.example",
    b"example.org; dkim=pass",
    b"amx.example.org; dkim=pass",
    b"mx.example.organization.example; dkim=pass",
    b"other.example (mx.example.org); dkim=pass",
    b'other.example; dkim=pass reason="mx.example.org" header.d=mx.example.org',
    b"other.example; none",
    # No authserv-id at all (Office 365): not to be read, and not ours.
    b"spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=good.example; dkim=pass header.d=good.example",
    b"",
]


@pytest.mark.parametrize("value", FORGERIES)
def test_claims_ours(value: bytes) -> None:
    assert claims_ours(value, OURS)


def test_others_may_begin_as_a_host_name_without_a_dot() -> None:
    assert not claims_ours(b"mail.example.org; dkim=pass", frozenset({"mail"}))
    assert claims_ours(b"mail; dkim=pass", frozenset({"mail"}))


@pytest.mark.parametrize("value", FOREIGN)
def test_others_stay(value: bytes) -> None:
    assert not claims_ours(value, OURS)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"Authentication-Results", b"authentication-RESULTS", b"Subject"]),
            st.sampled_from([each for each in FORGERIES + FOREIGN if len(each) < 500]),
        ),
        max_size=20,
    )
)
def test_deleting_in_the_given_order_leaves_exactly_the_others(fields: list[tuple[bytes, bytes]]) -> None:
    """n forged copies among others, on an MTA that renumbers after each deletion (CVE-2022-48521)."""
    header = Header.of(Field(name, value) for name, value in fields)
    expected = [each for each in header if each.key == b"subject" or each.value in FOREIGN]

    left = list(header)
    for number in forged(header, OURS):
        del left[[at for at, each in enumerate(left) if each.key == b"authentication-results"][number - 1]]

    assert expected == left
    assert sorted(forged(header, OURS), reverse=True) == list(forged(header, OURS))


def numbers(*values: bytes) -> tuple[int, ...]:
    return forged(Header.of(Field(b"Authentication-Results", value) for value in values), OURS)


def test_beyond_a_hundred_fields_none_is_read_and_all_go() -> None:
    assert numbers(*[FOREIGN[0]] * 100) == ()
    assert numbers(*[FOREIGN[0]] * 102) == (102, 101)


def test_beyond_16_kib_none_is_read_and_all_go() -> None:
    long = FOREIGN[0] + b" (" + b"x" * 5_000 + b")"
    assert numbers(long, long, long, FOREIGN[0]) == ()
    assert numbers(long, long, long, long, FOREIGN[0]) == (5, 4)


@given(st.binary(max_size=200))
def test_raises_nothing(value: bytes) -> None:
    claims_ours(value, OURS)
