"""What the workers have told already: whichever notices first tells, by memory that all of them share.

Knows no event, and writes nothing.
"""

import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

_HOUR = 3600.0
# What was told, as a hash; when, on time.monotonic(); by which process.
_ROW = struct.Struct("8sdq")
_ROWS = 1024


class Told:
    """Made before the first fork. Of two things that have the same row by chance, one may be told again."""

    def __init__(self) -> None:
        # A file, as the system takes the lock on it away from whoever dies.
        self._file = os.memfd_create("told")
        os.ftruncate(self._file, _ROWS * _ROW.size)
        self._memory = mmap.mmap(self._file, _ROWS * _ROW.size)
        self._lock = threading.Lock()

    def hourly(self, what: str) -> bool:
        """Whether it is to be told now: for an hour nobody has."""
        now = time.monotonic()
        with self._row(what) as (start, name, told, at, _):
            if told and now - at < _HOUR:
                return False
            _ROW.pack_into(self._memory, start, name, now, os.getpid())
            return True

    def begins(self, what: str) -> bool:
        """Whether it is to be told now that something has begun: nobody who lives has."""
        with self._row(what) as (start, name, told, _, pid):
            if told and _lives(pid):
                return False
            _ROW.pack_into(self._memory, start, name, time.monotonic(), os.getpid())
            return True

    def ends(self, what: str) -> bool:
        """Whether it is to be told now that this has ended: its beginning was, and its end was not."""
        with self._row(what) as (start, name, told, *_):
            if told:
                _ROW.pack_into(self._memory, start, bytes(len(name)), 0.0, 0)
            return told

    @contextmanager
    def _row(self, what: str) -> Iterator[tuple[int, bytes, bool, float, int]]:
        """Where it stands, its name, whether it was told, when and by whom; nobody else changes that meanwhile."""
        name = blake2b(what.encode("utf-8", "replace"), digest_size=8).digest()
        start = int.from_bytes(name) % _ROWS * _ROW.size
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                found, at, pid = _ROW.unpack_from(self._memory, start)
                yield start, name, found == name, at, pid
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
