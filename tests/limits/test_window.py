"""Never more than N in any span of T, and little less: the window against a list of everything that ever happened."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.limits.window import HELD_FOR, SLOTS, Bucket, Charge, Ending, Held, Recorded, reserve, settle

HOUR = 3_600_000
T0 = 1_800_000_000_000


def charge(cost: int = 1, member: str = "m", most: int = 10, span: int = HOUR, **more: object) -> Charge:
    return Charge("b", most, span, cost, member, **more)  # type: ignore[arg-type]


def admit(bucket: Bucket, now: int, cost: int = 1, most: int = 10, span: int = HOUR) -> bool:
    """A whole mail: asked for, and counted if there was room."""
    buckets, wanted = {"b": bucket}, charge(cost, f"at {now}", most, span)
    [standing] = reserve(buckets, [wanted], now)
    if standing.fits:
        settle(buckets, [wanted], Ending.COUNT)
    bucket.counts, bucket.held = buckets["b"].counts, buckets["b"].held
    return standing.fits


@given(
    st.integers(1, 20),
    st.sampled_from([1000, 60_000, 61_234, HOUR]),
    st.lists(st.tuples(st.floats(0, 0.4), st.integers(1, 4)), max_size=80),
)
def test_never_more_in_any_span_and_refused_only_where_it_is_full(
    most: int, span: int, mails: list[tuple[float, int]]
) -> None:
    bucket, now = Bucket(), T0
    admitted: list[tuple[int, int]] = []
    # One slot, and what rounding slots up to whole milliseconds adds.
    slack = (SLOTS + 1) * -(-span // SLOTS) - span
    for pause, cost in mails:
        now += int(pause * span)
        fits = admit(bucket, now, cost, most, span)
        if fits:
            admitted.append((now, cost))
            assert sum(each for at, each in admitted if at > now - span) <= most
        else:
            assert sum(each for at, each in admitted if at > now - span - slack) + cost > most


def test_there_is_room_when_it_was_said_there_would_be_and_not_before() -> None:
    buckets = {"b": Bucket()}
    for number in range(10):
        assert admit(buckets["b"], T0 + number * 1000)

    [full] = reserve(buckets, [charge(member="late")], T0 + 60_000)
    [before] = reserve(buckets, [charge(member="late")], T0 + 60_000 + full.retry_after - 1)
    [after] = reserve(buckets, [charge(member="late")], T0 + 60_000 + full.retry_after)

    assert (full.fits, before.fits, after.fits) == (False, False, True)
    assert HOUR - 60_000 <= full.retry_after <= HOUR + HOUR // SLOTS


def test_what_alone_is_too_much_never_fits() -> None:
    [standing] = reserve({}, [charge(cost=11)], T0)

    assert (standing.fits, standing.retry_after) == (False, HOUR)


def test_the_same_mail_is_charged_once_however_often_and_by_whomever_it_is_asked_for() -> None:
    buckets: dict[str, Bucket] = {}
    used = [
        reserve(buckets, [charge(cost, kept=kept)], T0)[0].used
        for cost, kept in ((1, True), (1, False), (2, True), (2, False), (3, False))
    ]

    assert used == [1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("ending", "kept", "used"),
    [
        (Ending.COUNT, False, 2),
        (Ending.COUNT, True, 2),
        (Ending.REFUND, False, 0),
        (Ending.REFUND, True, 0),
        (Ending.LEAVE, True, 2),
        (Ending.LEAVE, False, 5),  # another holds it: not ours to end
    ],
)
def test_how_a_mail_ends(ending: Ending, kept: bool, used: int) -> None:
    """It is counted as who ends it saw it: what the policy service let through may have been refused after that."""
    buckets: dict[str, Bucket] = {}
    reserve(buckets, [charge(5, kept=kept)], T0)

    settle(buckets, [charge(2)], ending)

    assert buckets["b"].used == used
    settle(buckets, [charge(2)], ending)
    assert buckets["b"].used == used


def test_what_a_killed_worker_held_lapses_and_what_was_left_to_lapse_is_counted() -> None:
    day = 24 * HOUR
    buckets: dict[str, Bucket] = {}
    reserve(buckets, [charge(3, "lost", span=day), charge(4, "kept", span=day, kept=True)][:1], T0)
    reserve(buckets, [charge(4, "kept", span=day, kept=True)], T0)

    before = reserve(buckets, [charge(1, span=day, recorded=Recorded.NEVER)], T0 + HELD_FOR - 1)[0].used
    after = reserve(buckets, [charge(1, span=day, recorded=Recorded.NEVER)], T0 + HELD_FOR)[0].used
    later = reserve(buckets, [charge(1, span=day, recorded=Recorded.NEVER)], T0 + 2 * day)[0].used

    assert (before, after, later) == (7, 4, 0)


def test_all_limits_of_a_mail_or_none() -> None:
    buckets: dict[str, Bucket] = {}
    one, full = Charge("one", 5, HOUR, 1, "m"), Charge("full", 0, HOUR, 1, "m")
    observed = Charge("observed", 0, HOUR, 1, "m", binding=False)

    both = reserve(buckets, [one, full], T0)
    alone = reserve(buckets, [one, observed], T0)

    assert [each.fits for each in both] == [True, False]
    assert [each.used for each in both] == [0, 0]
    assert [(each.fits, each.used) for each in alone] == [(True, 1), (False, 0)]


def test_different_things_count_once_each_and_one_too_many_is_remembered_no_more() -> None:
    buckets: dict[str, Bucket] = {}

    def seen(value: str, now: int) -> tuple[bool, int]:
        one = charge(1, value, 3, kept=True, recorded=Recorded.ALWAYS, held_for=2 * HOUR)
        [standing] = reserve(buckets, [one], now)
        return standing.fits, standing.used

    assert [seen(value, T0) for value in "aababc"] == [
        (True, 1), (True, 1), (True, 2), (True, 2), (True, 2), (True, 3),
    ]  # fmt: skip
    assert seen("d", T0) == (False, 4)
    assert seen("e", T0) == (False, 4)
    assert seen("a", T0) == (False, 4)  # known, and one of too many
    assert seen("a", T0 + 2 * HOUR) == (True, 1)


def test_a_clock_that_jumps_does_harm_for_one_window_at_most() -> None:
    year = 365 * 24 * HOUR
    bucket = Bucket()
    assert [admit(bucket, T0) for _ in range(1)] == [True]
    for number in range(1, 10):
        assert admit(bucket, T0 + number)

    assert not admit(bucket, T0 - year)  # back: what was counted in the future counts as now
    assert not admit(bucket, T0 - year + HOUR // 2)
    assert admit(bucket, T0 - year + HOUR + 2 * HOUR // SLOTS)
    assert admit(bucket, T0 + year)  # forward: what was counted has left the window


def test_held_in_the_future_is_held_now() -> None:
    buckets = {"b": Bucket(held={"m": Held(T0 + 99 * HOUR, 10, False)})}

    assert reserve(buckets, [charge(member="other")], T0)[0].fits is False
    assert reserve(buckets, [charge(member="other")], T0 + HELD_FOR + HOUR)[0].fits is True
