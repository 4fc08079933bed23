"""Numbers that one worker counts and the master reads, in memory that both share.

Whatever ends the worker, the master still has all that it counted. Knows no metric's name: `metrics` does.
"""

import mmap
import struct
import threading
from collections.abc import Iterable

#: What is counted: the name of a metric, and the values of its labels.
Key = tuple[str, ...]
#: How much is added to what.
Count = tuple[Key, float]

#: What could not be counted, as there was no room for another key.
OVERFLOW: Key = ("filterd_uncounted",)

_BETWEEN = "\x1f"
# A row is a number and its key; the longest key names two rules of 64 characters, and a few words.
_ROW, _NUMBER = 256, 8
_NOTE, _NOTES = 512, 8
_START = _NOTE * _NOTES


class Tally:
    """The numbers of one process, which alone may add to them. The system provides pages as rows are used."""

    def __init__(self, rows: int = 4096) -> None:
        self._memory = mmap.mmap(-1, _START + rows * _ROW)
        self._numbers = memoryview(self._memory).cast("d")
        self._rows = rows
        self._places: dict[Key, int] = {}
        self._noted = 0
        self._lock = threading.Lock()
        self._place(OVERFLOW)

    def add(self, counts: Iterable[Count]) -> None:
        """Count; from any thread of the process."""
        with self._lock:
            for key, amount in counts:
                place = self._places.get(key)
                self._numbers[self._place(key) if place is None else place] += amount

    def note(self, at: float, text: str) -> None:
        """Keep a text, in the place of the oldest of a few. `at` is in seconds since 1970."""
        octets = text.encode("utf-8", "replace")[: _NOTE - _NUMBER].ljust(_NOTE - _NUMBER, b"\0")
        with self._lock:
            start = self._noted % _NOTES * _NOTE
            self._memory[start : start + _NOTE] = struct.pack("d", at) + octets
            self._noted += 1

    def read(self) -> dict[Key, float]:
        """The numbers as they are now; for another process, too."""
        found: dict[Key, float] = {}
        for row in range(self._rows):
            start = _START + row * _ROW
            if not self._memory[start + _NUMBER]:
                break
            key = self._memory[start + _NUMBER : start + _ROW].rstrip(b"\0").decode("utf-8", "replace")
            found[tuple(key.split(_BETWEEN))] = self._numbers[start // _NUMBER]
        return found

    def notes(self) -> list[tuple[float, str]]:
        """What was noted last, the oldest first."""
        found: list[tuple[float, str]] = []
        for start in range(0, _START, _NOTE):
            (at,) = struct.unpack_from("d", self._memory, start)
            text = self._memory[start + _NUMBER : start + _NOTE].rstrip(b"\0").decode("utf-8", "replace")
            if at:
                found.append((at, text))
        return sorted(found)

    def close(self) -> None:
        """Give the memory back, as far as this process goes."""
        self._numbers.release()
        self._memory.close()

    def _place(self, key: Key) -> int:
        """Where the number of a new key is."""
        octets = _BETWEEN.join(key).encode("utf-8", "replace")
        if len(self._places) == self._rows or len(octets) > _ROW - _NUMBER:
            return self._places[OVERFLOW]
        start = _START + len(self._places) * _ROW
        self._memory[start + _NUMBER : start + _NUMBER + len(octets)] = octets
        self._places[key] = start // _NUMBER
        return self._places[key]
