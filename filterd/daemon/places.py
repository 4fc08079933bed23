"""Places for processes: who is in each, and when an empty one is filled again."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from filterd.daemon.listen import Listener
from filterd.daemon.pulse import Pulse
from filterd.daemon.tally import Tally
from filterd.frontend.seats import Seat, seats
from filterd.policy.rules import Policy

# A process that lived so long did not die of how it began.
_SETTLED = 10.0
# How long a place stays empty after so many died early, one after the other.
_DELAYS = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_ALARMING = 4


@dataclass(slots=True, kw_only=True)
class Place:
    """A place for one process. `began` and `due`, when it may be filled, are on time.monotonic()."""

    pid: int | None = None
    ready: bool = False
    began: float = 0.0
    due: float = 0.0
    failures: int = 0

    def vacant(self, now: float) -> bool:
        """Whether it is to be filled."""
        return self.pid is None and self.due <= now

    def put_off(self) -> float | None:
        """Its process died: decide when it is replaced, at once unless they die again and again.

        Returns the delay in seconds where that has become alarming.
        """
        now = time.monotonic()
        self.failures = self.failures + 1 if now - self.began < _SETTLED else 0
        delay = _DELAYS[min(self.failures, len(_DELAYS) - 1)]
        self.pid, self.ready, self.due = None, False, now + delay
        return delay if self.failures >= _ALARMING else None


@dataclass(slots=True, kw_only=True)
class WorkerPlace(Place):
    """A place for a worker, with a seat at each listener."""

    seats: Sequence[Seat]
    processor: int | None


@dataclass(slots=True)
class Generation:
    """The workers of one policy."""

    number: int
    policy: Policy
    places: list[WorkerPlace]

    @property
    def ready(self) -> bool:
        return all(place.ready for place in self.places)


@dataclass(slots=True)
class Worker:
    """A worker that lives. `began` is on time.monotonic(); `first_size` is what memory it had when it was ready."""

    generation: int
    began: float
    tally: Tally = field(default_factory=Tally)
    pulse: Pulse = field(default_factory=Pulse)
    first_size: int = 0
    given_up: bool = False


def new_generation(number: int, policy: Policy, listeners: Sequence[Listener], workers: int) -> Generation:
    """So many empty places."""
    at_each = zip(*(seats(workers) for _ in listeners), strict=True)
    places = [
        WorkerPlace(seats=each, processor=processor)
        for each, processor in zip(at_each, _processors(policy, workers), strict=True)
    ]
    return Generation(number, policy, places)


def _processors(policy: Policy, workers: int) -> Sequence[int | None]:
    """Where each worker is to run.

    The threads of one Python process take turns; handing over across processors costs a third more time (measured).
    So each worker stays on its own, as long as they can be spread evenly. The native engine hardly ever hands over.
    """
    if policy.server.engine == "native" or not hasattr(os, "sched_getaffinity"):
        return [None] * workers
    available = sorted(os.sched_getaffinity(0))
    return available * (workers // len(available)) if workers % len(available) == 0 else [None] * workers


def ended(pid: int) -> str | None:
    """How a child ended; None where it goes on."""
    found, status = os.waitpid(pid, os.WNOHANG)
    if found == 0:
        return None
    code = os.waitstatus_to_exitcode(status)
    return f"status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
