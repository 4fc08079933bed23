"""What processes at one listener know of each other."""

import os

from filterd.frontend.seats import seats


def test_whoever_has_fewest_is_roomiest() -> None:
    first, second = seats(2)
    found = []
    for one, two in ((0, 0), (1, 0), (1, 1), (1, 2)):
        first.tell(one)
        second.tell(two)
        found.append((first.roomiest(), second.roomiest()))

    assert found == [(True, True), (False, True), (True, True), (True, False)]


def test_who_takes_none_is_not_left_anything() -> None:
    first, second = seats(2)
    first.tell(5)
    second.tell(None)

    assert first.roomiest()


def test_processes_see_each_other() -> None:
    first, second = seats(2)
    first.tell(1)
    pid = os.fork()
    if pid == 0:
        second.tell(2)
        os._exit(0)
    os.waitpid(pid, 0)

    assert first.roomiest()
    assert not second.roomiest()
