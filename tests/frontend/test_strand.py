"""What is put on a strand is run in order, by one thread at a time, and no more of it waits than its bound."""

import threading

import pytest

from filterd.frontend.pool import Pool
from filterd.frontend.strand import Strand


@pytest.fixture
def pool() -> Pool:
    return Pool(2)


def test_more_strands_than_threads_keep_their_order(pool: Pool) -> None:
    strands = [Strand(pool, 1 << 20, 30) for _ in range(20)]
    found: list[list[int]] = [[] for _ in strands]
    ended = [threading.Event() for _ in strands]
    for number in range(200):
        for strand, told in zip(strands, found, strict=True):
            strand.put(lambda told=told, number=number: told.append(number), 1)
    for strand, event in zip(strands, ended, strict=True):
        strand.put(event.set, 1)

    assert all(event.wait(30) for event in ended)
    assert found == [list(range(200))] * len(strands)


def test_a_full_strand_makes_who_puts_wait(pool: Pool) -> None:
    strand, go, done = Strand(pool, 10, 30), threading.Event(), threading.Event()
    strand.put(go.wait, 10)
    waiter = threading.Thread(target=lambda: (strand.put(lambda: None, 10), done.set()))
    waiter.start()

    assert not done.wait(0.1)
    go.set()
    assert done.wait(30)
    waiter.join()


def test_a_strand_that_stays_full_is_given_up(pool: Pool) -> None:
    strand, go, told = Strand(pool, 10, 0.01), threading.Event(), threading.Event()
    strand.put(go.wait, 10)
    with pytest.raises(TimeoutError):
        strand.put(lambda: None, 1)
    # What weighs nothing, such as the end, always gets in.
    strand.put(told.set, 0)
    go.set()

    assert told.wait(30)
