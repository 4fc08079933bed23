"""Whoever waits for the world says so first, on the thread that waits."""

import threading
import time
from collections.abc import Iterator

import pytest
from servers.fake_dns import FakeDns, reply

from filterd.backend.resolver import DnsResolver
from filterd.backend.waiting import about_to_wait, tell_of_waits

LONG = 30.0  # seconds; no test waits for it


@pytest.fixture
def waits() -> Iterator[list[str]]:
    """The waits of this thread."""
    told: list[str] = []
    tell_of_waits(lambda: told.append(threading.current_thread().name))
    yield told
    tell_of_waits(lambda: None)


def test_each_thread_is_told_of_its_own_waits(waits: list[str]) -> None:
    other = threading.Thread(target=about_to_wait, name="other")
    other.start()
    other.join()
    about_to_wait()

    assert waits == [threading.current_thread().name]


def test_a_question_that_goes_out_is_a_wait_and_one_that_is_remembered_is_none(waits: list[str]) -> None:
    with FakeDns(lambda query, _: [reply(query, "a.example. 300 A 192.0.2.1")]) as dns:
        resolver = DnsResolver([dns.address], LONG)
        resolver.start()
        try:
            counts = []
            for _ in range(2):
                resolver.lookup("a.example", "A", time.monotonic() + LONG)
                counts.append(len(waits))
            resolver.prefetch("b.example", "A")
        finally:
            resolver.close()

    assert counts == [1, 1]
    assert len(waits) == 1
