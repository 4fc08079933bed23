"""A sign of life that a worker gives and the master sees, and how much memory a process has.

A worker that is stopped, or whose threads cannot run, gives none. Decides nothing.
"""

import mmap
import resource
from pathlib import Path

#: How often, in seconds, a worker gives a sign, and how often the master looks.
BEAT = 1.0


class Pulse:
    """The sign of one worker, in memory that it shares with the master. Made before it is forked."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)
        self._beats = memoryview(self._memory).cast("Q")
        self._seen = 0
        self._silent = 0.0

    def beat(self) -> None:
        """The worker lives."""
        self._beats[0] += 1

    def silent(self, passed: float) -> float:
        """For the master: for how long, in seconds, there was no sign, if `passed` is the time since it last looked."""
        beats = self._beats[0]
        self._silent = 0.0 if beats != self._seen else self._silent + passed
        self._seen = beats
        return self._silent

    def close(self) -> None:
        """Give the memory back, as far as this process goes."""
        self._beats.release()
        self._memory.close()


def resident(pid: int) -> int:
    """How much memory a process has, in octets, with what it shares; 0 where the system does not say."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_bytes().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * resource.getpagesize()
