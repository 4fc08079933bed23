"""The processes that the master has started: how they are forked, looked after and let go, and what they leave behind.

Which of them there have to be is the master's to know.
"""

import os
import signal
import time
from collections.abc import Callable
from math import inf

from filterd.daemon import log
from filterd.daemon.places import Generation, Place, Worker, ended
from filterd.daemon.pulse import BEAT, resident
from filterd.daemon.signals import ALL
from filterd.daemon.status import Past
from filterd.daemon.worker import GO_WHEN_DONE
from filterd.policy.schema import Server

_RECYCLED = "filterd_workers_recycled"


class Crew:
    """All processes of one master. `past` takes what workers that ended had counted."""

    def __init__(self, server: Server, past: Past) -> None:
        #: every worker that lives, by process id
        self.living: dict[int, Worker] = {}
        #: those that were told to go
        self.leaving: set[int] = set()
        self._server = server
        self._past = past
        self._looked = time.monotonic()

    def fork(self, child: Callable[[], int]) -> int:
        """Start a process that does this, and ends with what it returns."""
        # Until the child has a pipe of its own, a signal to it would be told on ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = child()
            except BaseException as error:  # noqa: BLE001 - nothing of the master may run on in the child
                log.fault("worker", error)
            finally:
                os._exit(status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)
        return pid

    def ended(self, pid: int) -> str | None:
        """How a process ended; None where it goes on."""
        how = ended(pid)
        worker = self.living.pop(pid, None) if how else None
        if worker is not None:
            self._past.take(worker.tally)
            worker.pulse.close()
        return how

    def began(self, pid: int) -> None:
        """A worker serves."""
        worker, limit = self.living[pid], self._server.max_memory
        worker.first_size = resident(pid)
        if worker.first_size > limit:
            told = {"pid": pid, "memory": worker.first_size, "limit": limit}
            log.warning("workers begin with more memory than server.max_memory, which is not kept to", **told)

    def let_go(self, place: Place, how: signal.Signals) -> None:
        """Tell the process in a place to go; the place is empty then."""
        if place.pid is not None:
            os.kill(place.pid, how)
            self.leaving.add(place.pid)
            place.pid, place.ready = None, False

    def hurry(self, how: signal.Signals) -> None:
        """Tell it again to all that are to go."""
        for pid in self.leaving:
            os.kill(pid, how)

    def reap(self) -> None:
        """See who of those has gone."""
        self.leaving = {pid for pid in self.leaving if self.ended(pid) is None}

    def until(self) -> float:
        """When they are to be looked after, on time.monotonic()."""
        return self._looked + BEAT if self.living else inf

    def look_after(self, current: Generation) -> None:
        """Recycle who hangs, and who has grown too large."""
        now = time.monotonic()
        if now < self._looked + BEAT:
            return
        # A machine that slept, or had no time for us, had none for the workers either.
        passed, self._looked = min(now - self._looked, 2 * BEAT), now
        for pid, worker in self.living.items():
            silent = worker.pulse.silent(passed)
            if silent >= self._server.watchdog and not worker.given_up:
                worker.given_up = True
                log.error("worker hangs, it is killed", pid=pid, silent=f"{silent:.0f}s", generation=worker.generation)
                self._past.count((_RECYCLED, "hung"))
                os.kill(pid, signal.SIGKILL)
        # One after the other, so that there is always somebody.
        if current.ready:
            self._let_one_go_that_is_large(current)

    def _let_one_go_that_is_large(self, current: Generation) -> None:
        limit = self._server.max_memory
        for place in current.places:
            assert place.pid is not None, "a place that is ready is taken"
            worker, size = self.living[place.pid], resident(place.pid)
            if worker.first_size <= limit < size:
                told = {"pid": place.pid, "memory": size, "limit": limit}
                log.warning("worker has grown too large, another takes its place", **told)
                self._past.count((_RECYCLED, "memory"))
                self.let_go(place, GO_WHEN_DONE)
                return
