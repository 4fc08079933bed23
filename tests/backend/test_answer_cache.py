"""How long answers are kept, and how many."""

import pytest

from filterd.backend.answer_cache import AnswerCache
from filterd.lookup import Answer, Outcome
from filterd.mail.reason import Reason

QUESTION = ("a.example", "TXT")


def answer(outcome: Outcome = Outcome.FOUND, ttl: int = 0, size: int = 0) -> Answer:
    return Answer(*QUESTION, outcome, (b"x" * size,), ttl, Reason.DNS_SERVFAIL)


@pytest.mark.parametrize(
    ("outcome", "ttl", "kept"),
    [
        (Outcome.FOUND, 60, 60),
        (Outcome.FOUND, 0, 5),
        (Outcome.FOUND, 1_000_000, 3_600),
        (Outcome.NODATA, 60, 60),
        (Outcome.NODATA, 1_000_000, 900),
        (Outcome.NXDOMAIN, 0, 5),
        (Outcome.NXDOMAIN, 1_000_000, 900),
        (Outcome.TEMPFAIL, 0, 3),
        (Outcome.TEMPFAIL, 1_000_000, 3),
    ],
)
def test_the_time_that_an_answer_is_kept(outcome: Outcome, ttl: int, kept: int) -> None:
    cache = AnswerCache(min_ttl=5, max_ttl=3_600, max_negative_ttl=900, failure_ttl=3)
    given = answer(outcome, ttl)
    cache.put(QUESTION, given, now=1_000)
    assert cache.get(QUESTION, 1_000 + kept - 0.1) is given
    assert cache.get(QUESTION, 1_000 + kept) is None


def test_a_new_answer_takes_the_place_of_the_old() -> None:
    cache = AnswerCache()
    cache.put(QUESTION, answer(ttl=10), now=0)
    newer = answer(ttl=100)
    cache.put(QUESTION, newer, now=5)
    assert cache.get(QUESTION, 50) is newer
    assert len(cache) == 1


def test_the_oldest_go_when_there_is_too_much() -> None:
    cache = AnswerCache(max_octets=100_000)
    for i in range(100):
        cache.put((f"n{i}", "TXT"), answer(ttl=60, size=10_000), now=0)
    kept = [i for i in range(100) if cache.get((f"n{i}", "TXT"), 1) is not None]
    assert kept == list(range(100 - len(kept), 100))
    assert 5 <= len(kept) <= 10
    for i in range(10_000):
        cache.put((f"m{i}", "A"), answer(Outcome.NXDOMAIN, 60), now=0)
    assert len(cache) <= 200


def test_an_answer_too_large_for_the_cache_is_not_kept() -> None:
    cache = AnswerCache(max_octets=1_000)
    cache.put(QUESTION, answer(ttl=60, size=2_000), now=0)
    assert len(cache) == 0
