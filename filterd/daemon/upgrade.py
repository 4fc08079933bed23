"""A new master in the place of this one: the program as it is on the disk by now, with the sockets of the old one.

The old one goes on until the new one says that its workers serve; if it never does, nothing has happened. Both sides of
that are here, and what they say to each other: one octet on a pipe, or its end.
"""

import os
import signal
import sys
from collections.abc import Callable, MutableMapping, Sequence
from functools import partial

from filterd.daemon.inherited import hand_over
from filterd.daemon.listen import Listener
from filterd.daemon.signals import ALL

_PIPE = "FILTERD_UPGRADES"
_READY = b"1"


class Upgrade:
    """A new master that has been started. `pid` is its process id."""

    def __init__(self, fork: Callable[[Callable[[], int]], int], listeners: Sequence[Listener]) -> None:
        self._read, write = os.pipe()
        self.pid = fork(partial(_become, listeners, write))
        os.close(write)

    def fileno(self) -> int:
        return self._read

    def succeeds(self) -> bool:
        """Whether it serves now, once the pipe is readable; it has failed if not."""
        return os.read(self._read, 1) == _READY

    def close(self) -> None:
        os.close(self._read)


def _become(listeners: Sequence[Listener], pipe: int) -> int:
    environment = dict(os.environ)
    environment[_PIPE] = str(hand_over([each.socket for each in listeners], pipe, environment))
    if "WATCHDOG_PID" in environment:
        environment["WATCHDOG_PID"] = str(os.getpid())
    signal.set_wakeup_fd(-1)
    for each in ALL:
        # Until the new program listens to them, only those that end it may reach it.
        ends = each in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        signal.signal(each, signal.SIG_DFL if ends else signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - it is ourselves


class Predecessor:
    """The master that this one is to take the place of."""

    def __init__(self, pipe: int) -> None:
        os.set_inheritable(pipe, False)
        self._pipe = pipe

    def tell(self) -> None:
        """Our workers serve: it may go. If it has gone already, all the better."""
        try:
            os.write(self._pipe, _READY)
        except BrokenPipeError:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Give it up; in a child, which has no part in it."""
        os.close(self._pipe)


def predecessor(environment: MutableMapping[str, str]) -> Predecessor | None:
    """The master that has started this process to take its place, if any."""
    pipe = environment.pop(_PIPE, "")
    return Predecessor(int(pipe)) if pipe.isdecimal() else None
