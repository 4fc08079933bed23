"""Durations, sizes, rates and numbers, in the forms in which people write them; what readers disagree on is refused."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from filterd.limits.rate import Rate, Unit, duration_text, size_text
from filterd.policy.field_types import Secret
from filterd.policy.quantities import (
    Flag,
    Number,
    Seconds,
    Size,
    Whole,
    WrittenRate,
)


def read(kind: Any, text: Any) -> Any:
    return TypeAdapter(kind).validate_python(text)


def fault(kind: Any, text: str) -> str:
    with pytest.raises(ValidationError) as caught:
        read(kind, text)
    return caught.value.errors()[0]["msg"].removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (Seconds, "500ms", 0.5),
        (Seconds, "5m", 300.0),
        (Seconds, "1h30m", 5400.0),
        (Seconds, "1h 30m", 5400.0),
        (Seconds, "1.5h", 5400.0),
        (Seconds, "7d", 604_800.0),
        (Seconds, "2w", 1_209_600.0),
        (Seconds, "0s", 0.0),
        (Size, "512KiB", 524_288),
        (Size, "10MB", 10_000_000),
        (Size, "10 MB", 10_000_000),
        (Size, "1.5GiB", 1_610_612_736),
        (Size, "7B", 7),
        (WrittenRate, "200 recipients per 1h", Rate(200, Unit.RECIPIENTS, 3_600_000)),
        (WrittenRate, "1 recipient per minute", Rate(1, Unit.RECIPIENTS, 60_000)),
        (WrittenRate, "100 per 1h", Rate(100, Unit.MESSAGES, 3_600_000)),
        (WrittenRate, "5 networks per 10m", Rate(5, Unit.NETWORKS, 600_000)),
        (WrittenRate, "100/h", Rate(100, Unit.MESSAGES, 3_600_000)),
        (WrittenRate, "50 MB per 1d", Rate(50_000_000, Unit.BYTES, 86_400_000)),
        (WrittenRate, "50MB/1d12h", Rate(50_000_000, Unit.BYTES, 129_600_000)),
        (Whole, "-5", -5),
        (Whole, "+5", 5),
        (Whole, "0", 0),
        (Number, "-1.25", -1.25),
        (Number, "10", 10.0),
        (Flag, "true", True),
        (Flag, "False", False),
    ],
)
def test_forms(kind: Any, text: str, expected: object) -> None:
    assert expected == read(kind, text)


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (Seconds, "90", "a duration has a unit.*: 90s or 90m, say"),
        (Seconds, "1:30", "a duration has a unit"),
        (Seconds, "30m1h", "a duration has a unit"),
        (Seconds, "5 minutes", "a duration has a unit"),
        (Seconds, "", "a duration has a unit"),
        (Seconds, "-5s", "a duration has a unit"),
        (Size, "5", "a size is bytes with their unit"),
        (Size, "5K", "a size is bytes with their unit"),
        (Size, "0.5B", "a size is bytes with their unit"),
        (WrittenRate, "100", "a rate is a number, what is counted, and a span"),
        (WrittenRate, "0 per 1h", "a rate allows 1 at least"),
        (WrittenRate, "5 per 0s", "a rate allows 1 at least"),
        (WrittenRate, "5 mails per 1h", "'5 mails' is no number of messages, recipients, failures, "),
        (WrittenRate, "5 per 60", "a duration has a unit"),
        (WrittenRate, "5 per 32d", "the span of a rate is from 1s to 31d"),
        (WrittenRate, "2000 networks per 1h", "different networks are counted up to 1000"),
        (Whole, "012", "write 12: some readers of YAML take 012 for an octal number"),
        (Whole, "1e3", "write 1000, not 1e3"),
        (Whole, "1_000", "write 1000, not 1_000"),
        (Whole, "1:30", "here stands a number of at most 12 digits, not '1:30'"),
        (Whole, "0x1f", "here stands a number"),
        (Whole, "1.5", "here stands a whole number, not 1.5"),
        (Whole, "9" * 400, "here stands a number of at most 12 digits"),
        (Whole, "2026-01-01", "here stands a number"),
        (Number, ".5", "write 0.5, not .5"),
        (Number, "1e999999999", "here stands a number"),
        (Number, ".inf", "here stands a number"),
        (Number, ".nan", "here stands a number"),
        (Flag, "yes", "write true, not yes"),
        (Flag, "Off", "write false, not Off"),
        (Flag, "1", "here stands true or false"),
    ],
)
def test_what_is_none_is_refused_with_what_would_be_right(kind: Any, text: str, words: str) -> None:
    assert re.match(words, fault(kind, text)), fault(kind, text)


@given(st.integers(0, 10**11))
def test_a_duration_reads_as_it_was_written(milliseconds: int) -> None:
    assert milliseconds / 1000 == pytest.approx(read(Seconds, duration_text(milliseconds / 1000)))


@given(st.integers(0, 999_999_999))
def test_a_size_reads_as_it_was_written(size: int) -> None:
    assert size == read(Size, size_text(size))


@given(st.integers(1, 999_999_999), st.sampled_from(Unit), st.integers(1000, 31 * 86_400_000))
def test_a_rate_reads_as_it_was_written(count: int, unit: Unit, span: int) -> None:
    rate = Rate(min(count, 1000) if unit.distinct else count, unit, span)

    assert rate == read(WrittenRate, str(rate))


@given(st.text(max_size=30), st.sampled_from([Seconds, Size, WrittenRate, Whole, Number, Flag]))
def test_any_text_is_a_value_or_an_error(text: str, kind: Any) -> None:
    try:
        read(kind, text)
    except ValidationError as error:
        assert len(error.errors()) == 1


def test_a_secret_stands_in_the_policy_or_in_a_file_and_is_not_shown() -> None:
    kind = TypeAdapter(Secret)
    context = {"read_secret": {"password": "s3cret"}.__getitem__}

    assert [
        kind.validate_python("s3cret"),
        kind.validate_python({"file": "password"}, context=context),
    ] == [kind.validate_python("s3cret")] * 2
    assert kind.validate_python("s3cret").get_secret_value() == "s3cret"
    assert "s3cret" not in repr(kind.validate_python("s3cret"))


@pytest.mark.parametrize("given", [{"file": "x", "other": "y"}, {"path": "x"}, {"file": ["x"]}, ["x"], None, {}])
def test_what_is_no_secret_is_refused(given: Any) -> None:
    assert "a secret is a text, or { file: PATH }" in fault(Secret, given)
