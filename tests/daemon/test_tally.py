"""What a worker counts is the master's, however the worker ends."""

import os
import signal

from filterd.daemon.tally import OVERFLOW, Tally


def test_what_a_killed_process_had_counted_is_not_lost() -> None:
    tally = Tally()
    counted_read, counted_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        tally.add([(("mails", "accept", "-"), 2), (("seconds",), 0.25), (("mails", "accept", "-"), 1)])
        tally.note(12.5, "spf: boom")
        os.write(counted_write, b"x")
        signal.pause()
    os.read(counted_read, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    assert tally.read() == {OVERFLOW: 0, ("mails", "accept", "-"): 3, ("seconds",): 0.25}
    assert tally.notes() == [(12.5, "spf: boom")]
    tally.close()


def test_without_room_for_another_key_the_others_go_on() -> None:
    tally = Tally(rows=3)
    tally.add([((word,), 1) for word in ("a", "b", "c", "d", "a")])
    tally.add([(("x" * 300,), 1)])

    assert tally.read() == {OVERFLOW: 3, ("a",): 2, ("b",): 1}


def test_the_latest_notes_are_kept() -> None:
    tally = Tally()
    for number in range(20):
        tally.note(1000.0 + number, f"fault {number} " + "ü" * 600)

    notes = tally.notes()
    assert [at for at, _ in notes] == [1012.0 + number for number in range(8)]
    assert all(text.startswith(f"fault {at - 1000:.0f} üü") for at, text in notes)
