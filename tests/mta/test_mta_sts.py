"""Policies of MTA-STS (RFC 8461) from a folder."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.mta.mta_sts import Mode, StsError, StsPolicy, cached_policy, parse_policy

_POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"


def test_a_policy() -> None:
    assert parse_policy(_POLICY) == StsPolicy(Mode.ENFORCE, ("mail.example.com", "*.example.net"), 604800)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"STSv1", b"STSv2"),
        (b"version: STSv1", b""),
        (b"mode: enforce", b"mode: maybe"),
        (b"mode: enforce", b""),
        (b"604800", b"-1"),
        (b"604800", b"12345678901"),
        (b"max_age", b"age"),
        (b"mx:", b"my:"),
    ],
)
def test_no_policy(old: bytes, new: bytes) -> None:
    with pytest.raises(StsError):
        parse_policy(_POLICY.replace(old, new))


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("mail.example.com", True),
        ("x.mail.example.com", False),
        ("a.example.net", True),
        ("example.net", False),
        ("a.b.example.net", False),
    ],
)
def test_names(name: str, allowed: bool) -> None:
    """RFC 8461 4.1: a star stands for one label."""
    assert parse_policy(_POLICY).allows(name) == allowed


@given(st.binary(max_size=300))
def test_whatever_it_is_it_is_a_policy_or_none(text: bytes) -> None:
    with suppress(StsError):
        parse_policy(_POLICY[:20] + text)


def test_a_policy_has_its_time(tmp_path: Path) -> None:
    (tmp_path / "example.com").write_bytes(_POLICY)
    (tmp_path / "none.example").write_bytes(_POLICY.replace(b"enforce", b"none"))
    (tmp_path / "broken.example").write_bytes(b"x")
    os.utime(tmp_path / "example.com", (1000, 1000))

    assert cached_policy(tmp_path, "example.com", 1000 + 604800) == parse_policy(_POLICY)
    assert cached_policy(tmp_path, "example.com", 1001 + 604800) is None
    assert cached_policy(tmp_path, "none.example", 1000) is None
    assert cached_policy(tmp_path, "broken.example", 1000) is None
    assert cached_policy(tmp_path, "other.example", 1000) is None
