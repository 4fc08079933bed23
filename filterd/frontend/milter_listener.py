"""A listening socket of ours in the place of libmilter's own.

libmilter takes no descriptor, and unlinks its unix socket when any process stops. So it opens a throw-away socket, and
ours is put over that descriptor: the real socket outlives every process, and what waits in its queue is never lost.
"""

import os
import socket
import stat
import tempfile
from pathlib import Path

import milter as libmilter

_THROW_AWAY = {socket.AF_INET: "inet:0@127.0.0.1", socket.AF_INET6: "inet6:0@::1"}


class Door:
    """The door that libmilter listens at: open on our socket, closed on one that nobody knows."""

    def __init__(self, listener: socket.socket) -> None:
        """Open the door. `listener` must listen and not block: a process that loses the race for a connection goes on.

        Call after `MilterFrontend.register`. Raises `milter.error` or OSError.
        """
        before = _sockets()
        with tempfile.TemporaryDirectory(prefix="filterd-") as folder:
            # libmilter wants the family of the socket that it accepts from.
            libmilter.setconn(_THROW_AWAY.get(listener.family, f"unix:{Path(folder, 'throw-away')}"))
            libmilter.opensocket(False)
        self._descriptor = next(fd for fd in _sockets() - before if _listening(fd))
        self._nobody_knows = os.dup(self._descriptor)
        self._address = listener.getsockname()
        os.dup2(listener.fileno(), self._descriptor, inheritable=False)

    def run(self) -> None:
        """Serve until libmilter fails. Not in the main thread: libmilter blocks the signals of the one it runs in."""
        libmilter.main()

    def close(self) -> None:
        """Take no more connections: those that come wait in the real queue for another process."""
        os.dup2(self._nobody_knows, self._descriptor, inheritable=False)

    def connections(self) -> int:
        """How many connections that came through the door are open."""
        return sum(1 for fd in _sockets() if _local_address(fd) == self._address and not _listening(fd))


def _sockets() -> set[int]:
    found = set()
    for name in os.listdir("/dev/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                found.add(int(name))
        except OSError:
            continue  # closed since it was listed
    return found


def _listening(descriptor: int) -> bool:
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        return bool(copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _local_address(descriptor: int) -> object:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            return copy.getsockname()
    except OSError:
        return None  # closed since it was listed
