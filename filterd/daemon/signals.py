"""Signals as something that select can wait for."""

import os
import signal
from collections.abc import Iterable

#: What a process of ours listens to, or leaves to others on purpose.
ALL = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD},
)


class Signals:
    """The signals that came since they were last taken. Others of `ALL` are ignored. One in a process."""

    def __init__(self, wanted: Iterable[signal.Signals]) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        wanted = frozenset(wanted)
        for each in ALL:
            # A child's end must not be ignored: the kernel would take its status away.
            unwanted = signal.SIG_DFL if each is signal.SIGCHLD else signal.SIG_IGN
            signal.signal(each, _nothing if each in wanted else unwanted)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def fileno(self) -> int:
        return self._read

    def take(self) -> frozenset[int]:
        """The numbers that came; empty where none did."""
        try:
            return frozenset(os.read(self._read, 4096))
        except BlockingIOError:
            return frozenset()

    def wake(self) -> None:
        """End a wait, from any thread: 0 is no signal."""
        os.write(self._write, b"\0")

    def close(self) -> None:
        """Give up the pipe; in a child that will have its own."""
        os.close(self._read)
        os.close(self._write)


def _nothing(number: int, frame: object) -> None:
    """The byte on the pipe is all that is wanted."""
