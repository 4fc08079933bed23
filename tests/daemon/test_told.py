"""What workers tell of at once is told once."""

import os
from collections.abc import Callable

from filterd.daemon.told import Told


def in_children(number: int, work: Callable[[], bool]) -> int:
    """How many of so many processes, all at once, found it true; all live until all have."""
    go, stay, said = os.pipe(), os.pipe(), os.pipe()
    pids = []
    for _ in range(number):
        pid = os.fork()
        if pid == 0:
            os.close(go[1]), os.close(stay[1])
            os.read(go[0], 1)
            os.write(said[1], b"1" if work() else b"0")
            os.read(stay[0], 1)
            os._exit(0)
        pids.append(pid)
    os.close(go[1])
    words = b""
    while len(words) < number:
        words += os.read(said[0], number)
    os.close(stay[1])
    for pid in pids:
        os.waitpid(pid, 0)
    for each in (go[0], stay[0], *said):
        os.close(each)
    return words.count(b"1")


def test_of_processes_that_notice_at_once_one_tells() -> None:
    told = Told()

    assert [in_children(8, lambda: told.begins("dns")) for _ in range(2)] == [1, 1]
    assert in_children(8, lambda: told.hourly("a list")) == 1
    assert not told.hourly("a list")


def test_the_end_is_told_once_by_whoever_sees_it_where_the_beginning_was() -> None:
    told = Told()
    assert not told.ends("dns")
    assert in_children(1, lambda: told.begins("dns")) == 1

    assert [told.ends("dns") for _ in range(2)] == [True, False]


def test_who_lives_has_told_and_who_died_is_not_counted_on() -> None:
    told = Told()
    assert [told.begins("dns") for _ in range(2)] == [True, False]
    assert [told.begins("spamd"), told.ends("spamd"), told.begins("spamd")] == [True] * 3
    assert in_children(1, lambda: told.begins("state")) == 1

    assert told.begins("state")
