"""Rates as they are written."""

import pytest

from filterd.limits.rate import Rate, RateError, Unit


@pytest.mark.parametrize(
    ("text", "rate", "shown"),
    [
        ("200 recipients per 1h", Rate(200, Unit.RECIPIENTS, 3_600_000), "200 recipients per 1h"),
        ("1 recipient per 90s", Rate(1, Unit.RECIPIENTS, 90_000), "1 recipients per 90s"),
        ("20 Messages per 10 m", Rate(20, Unit.MESSAGES, 600_000), "20 messages per 10m"),
        ("50 MB per 1d", Rate(50_000_000, Unit.BYTES, 86_400_000), "50000000 bytes per 1d"),
        ("1 MiB per 1d", Rate(1 << 20, Unit.BYTES, 86_400_000), "1048576 bytes per 1d"),
        ("5 networks per 10m", Rate(5, Unit.NETWORKS, 600_000), "5 networks per 10m"),
        ("0 messages per 24h", Rate(0, Unit.MESSAGES, 86_400_000), "0 messages per 1d"),
        ("5000 per 1d", Rate(5000, Unit.FAILURES, 86_400_000), None),
    ],
)
def test_read(text: str, rate: Rate, shown: str | None) -> None:
    unit = Unit.FAILURES if shown is None else None
    if shown is None:
        with pytest.raises(RateError, match="up to 1000"):
            Rate.parse(text, unit)
        assert Rate.parse(text, Unit.BYTES) == Rate(5000, Unit.BYTES, 86_400_000)
    else:
        assert Rate.parse(text) == rate
        assert str(rate) == shown


@pytest.mark.parametrize(
    "text",
    ["", "200/h", "200 per 1h", "200 recipients per hour", "-1 messages per 1h", "1.5 messages per 1h",
     "200 mails per 1h", "200 recipients per 0s", "200 recipients per 32d", "2000 networks per 1h", "5 messages per 1ms"],
)  # fmt: skip
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(RateError):
        Rate.parse(text)


def test_a_burst_keeps_the_pace() -> None:
    assert Rate.parse("200 recipients per 1h").smoothed(20) == Rate.parse("20 recipients per 6m")
