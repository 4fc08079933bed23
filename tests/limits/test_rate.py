"""A burst is a second rate."""

from filterd.limits.rate import Rate, Unit

HOUR = 3_600_000


def test_a_burst_keeps_the_pace() -> None:
    assert str(Rate(200, Unit.RECIPIENTS, HOUR).smoothed(20)) == "20 recipients per 6m"


def test_a_burst_lasts_a_second_at_least() -> None:
    assert str(Rate(100_000, Unit.MESSAGES, HOUR).smoothed(1)) == "1 messages per 1s"
