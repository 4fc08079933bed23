"""Greylisting by its clock: what waits, what passes, who is known; and what a hostile sender or clock makes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.limits.greylist import Answer, Attempt, Record, Terms, Welcome, attempt, delivered

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
TERMS = Terms(5 * MINUTE, 2 * DAY, 35 * DAY, 3)
T0 = 1_800_000_000_000


def tried(recipient: str = "anna@example.org", sender: str = "shop.example", client: str = "192.0.2.0/24") -> Attempt:
    return Attempt(client, sender, recipient, TERMS)


@pytest.mark.parametrize(
    ("after", "answer"),
    [
        (0, Answer(Welcome.EARLY, 0, 5 * MINUTE)),
        (5 * MINUTE - 1, Answer(Welcome.EARLY, 5 * MINUTE - 1, 1)),
        (5 * MINUTE, Answer(Welcome.PASSED, 5 * MINUTE)),
        (2 * DAY, Answer(Welcome.PASSED, 2 * DAY)),
        (2 * DAY + 1, Answer(Welcome.FIRST, 0, 5 * MINUTE)),
        (-HOUR, Answer(Welcome.EARLY, 0, 5 * MINUTE)),
    ],
)
def test_a_retry(after: int, answer: Answer) -> None:
    records: dict[str, Record] = {}
    assert attempt(records, tried(), T0) == Answer(Welcome.FIRST, 0, 5 * MINUTE)

    assert attempt(records, tried(), T0 + after) == answer


@pytest.mark.parametrize(
    "other",
    [tried("ben@example.org"), tried(sender="other.example"), tried(client="198.51.100.0/24")],
)
def test_another_triplet_waits_for_itself(other: Attempt) -> None:
    records: dict[str, Record] = {}
    attempt(records, tried(), T0)

    assert attempt(records, other, T0 + HOUR).welcome is Welcome.FIRST


def test_what_was_delivered_is_known_until_it_is_forgotten() -> None:
    records: dict[str, Record] = {}
    attempt(records, tried(), T0)
    delivered(records, [tried()], T0 + HOUR, proven=False)

    assert attempt(records, tried(), T0 + HOUR + 35 * DAY).welcome is Welcome.KNOWN
    assert attempt(records, tried(), T0 + HOUR + 70 * DAY).welcome is Welcome.KNOWN  # each mail renews it
    assert attempt(records, tried(), T0 + HOUR + 106 * DAY).welcome is Welcome.FIRST


def test_what_passed_and_was_not_taken_is_not_known() -> None:
    """A spammer who comes again, and is refused for the content, waits again once the window is over."""
    records: dict[str, Record] = {}
    attempt(records, tried(), T0)
    assert attempt(records, tried(), T0 + HOUR).welcome is Welcome.PASSED

    assert attempt(records, tried(), T0 + 3 * DAY).welcome is Welcome.FIRST


def test_a_client_is_known_after_so_many_mails_however_many_recipients_each_has() -> None:
    records: dict[str, Record] = {}
    now = T0
    for number in range(3):
        mail = [tried(f"{number}.{each}@example.org") for each in range(10)]
        assert {attempt(records, each, now).welcome for each in mail} == {Welcome.FIRST}
        delivered(records, mail, now + HOUR, proven=False)
        delivered(records, mail, now + HOUR, proven=False)  # two told of the same mail
        now += 2 * HOUR

    assert attempt(records, tried("new@example.org", "new.example"), now).welcome is Welcome.KNOWN
    assert attempt(records, tried(client="198.51.100.0/24"), now).welcome is Welcome.FIRST


def test_with_allow_after_0_no_client_is_known() -> None:
    records: dict[str, Record] = {}
    terms = Terms(MINUTE, DAY, 35 * DAY, 0)
    for number in range(10):
        asked = Attempt("c", "s", f"{number}@example.org", terms)
        assert attempt(records, asked, T0).welcome is Welcome.FIRST
        delivered(records, [asked], T0 + HOUR, proven=False)


def test_who_has_proven_once_who_wrote_is_known_from_there_in_that_name_alone() -> None:
    records: dict[str, Record] = {}
    attempt(records, tried(), T0)
    delivered(records, [tried()], T0 + HOUR, proven=True)

    assert attempt(records, tried("ben@example.org"), T0 + HOUR).welcome is Welcome.KNOWN
    assert attempt(records, tried("ben@example.org", "other.example"), T0 + HOUR).welcome is Welcome.FIRST
    assert attempt(records, tried("ben@example.org", client="other"), T0 + HOUR).welcome is Welcome.FIRST


def test_a_mail_that_was_never_tried_is_not_counted() -> None:
    records: dict[str, Record] = {}
    delivered(records, [tried()], T0, proven=False)
    delivered(records, [], T0, proven=True)

    assert records == {}


def test_no_address_is_kept() -> None:
    records: dict[str, Record] = {}
    attempt(records, tried(), T0)
    delivered(records, [tried()], T0 + HOUR, proven=True)

    assert {len(name) for name in records} == {23}
    assert {name[0] for name in records} == {"t", "c", "s"}


@given(st.lists(st.tuples(st.integers(-3 * DAY, 3 * DAY), st.booleans()), max_size=20), st.integers(0, 36 * DAY))
def test_however_the_clock_jumped_an_honest_server_gets_its_mail_in(jumps: list[tuple[int, bool]], last: int) -> None:
    """Once the clock goes as it should, two tries more are enough."""
    records: dict[str, Record] = {}
    now = T0
    for jump, taken in jumps:
        now += jump
        answer = attempt(records, tried(), now)
        assert 0 <= answer.retry_after <= TERMS.delay
        if taken and not answer.welcome.waits:
            delivered(records, [tried()], now, proven=False)
    answer = attempt(records, tried(), now + last)

    assert not attempt(records, tried(), now + last + answer.retry_after).welcome.waits
