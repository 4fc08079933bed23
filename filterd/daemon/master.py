"""The process that starts the others and sees no mail.

Keeps the workers of the current policy alive, starts those of a new one before the old ones go, and lets all go at the
end. Has no thread, so that it can fork at any time.
"""

import gc
import os
import pwd
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from filterd.daemon import log
from filterd.daemon.listen import Listener, Service
from filterd.daemon.notify import notify
from filterd.daemon.signals import ALL, Signals
from filterd.daemon.worker import GO_SOON, GO_WHEN_DONE, Start, work
from filterd.frontend.seats import Seat, seats
from filterd.policy.errors import PolicyErrors
from filterd.policy.rules import Policy

# A worker that lived so long did not die of how it began.
_SETTLED = 10.0
# How long a place stays empty after so many workers died early, one after the other.
_DELAYS = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_ALARMING = 4
# What a worker may take above its limit before it is killed.
_GRACE = 5.0


class BecomeError(Exception):
    """The process cannot become the user; the message says why."""


@dataclass(slots=True)
class _Place:
    """A place for one worker. `due` is when it may be filled again, on time.monotonic()."""

    listener: Listener
    seat: Seat
    processor: int | None
    pid: int | None = None
    ready: bool = False
    began: float = 0.0
    due: float = 0.0
    failures: int = 0


@dataclass(slots=True)
class _Generation:
    """The workers of one policy."""

    number: int
    policy: Policy
    places: list[_Place]

    @property
    def ready(self) -> bool:
        return all(place.ready for place in self.places)


class Master:
    """Runs `workers` processes at each listener. `limit` is how long, in seconds, mail may take to end at TERM."""

    def __init__(
        self,
        policy: Policy,
        load: Callable[[], Policy],
        start: Start,
        listeners: Sequence[Listener],
        workers: int,
        limit: float = 30.0,
    ) -> None:
        self._load = load
        self._start = start
        self._listeners = listeners
        self._workers = workers
        self._limit = limit
        self._signals = Signals({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
        # Nobody writes to the first: it is readable in the workers when no master is left to hold its other end.
        self._alive_read, self._alive_write = os.pipe()
        self._ready_read, self._ready_write = os.pipe2(os.O_NONBLOCK)
        self._current = self._generation(1, policy)
        self._announced = False
        self._next: _Generation | None = None
        self._leaving: set[int] = set()
        self._kill_at: float | None = None

    def run(self) -> int:
        """Run until told to stop; returns the exit status."""
        # What the children share stays shared: their collector does not write to it.
        gc.collect()
        gc.freeze()
        while self._kill_at is None or self._leaving:
            self._fill()
            select.select([self._signals.fileno(), self._ready_read], [], [], self._patience())
            # Taken before looking: a child that ends behind the look wakes the next wait.
            told = self._signals.take()
            self._reap()
            self._hear()
            if told & {signal.SIGTERM, signal.SIGINT}:
                self._stop()
            elif signal.SIGHUP in told and self._kill_at is None:
                self._reload()
            if self._kill_at is not None and time.monotonic() > self._kill_at:
                self._kill_at = inf
                for pid in self._leaving:
                    os.kill(pid, signal.SIGKILL)
        log.info("stopped")
        return 0

    def _generation(self, number: int, policy: Policy) -> _Generation:
        processors = self._processors(policy)
        places = [
            _Place(listener, seat, processor)
            for listener in self._listeners
            for seat, processor in zip(seats(self._workers), processors, strict=True)
        ]
        return _Generation(number, policy, places)

    def _processors(self, policy: Policy) -> Sequence[int | None]:
        """Where each worker of a listener is to run.

        The threads of one Python process take turns; handing over across processors costs a third more time (measured).
        So each worker stays on its own, as long as they can be spread evenly. The native engine hardly ever hands over.
        """
        if policy.server.engine == "native" or not hasattr(os, "sched_getaffinity"):
            return [None] * self._workers
        ours = sorted(os.sched_getaffinity(0))
        return ours * (self._workers // len(ours)) if self._workers % len(ours) == 0 else [None] * self._workers

    def _places(self) -> list[tuple[_Generation, _Place]]:
        generations = [self._current] if self._next is None else [self._current, self._next]
        return [(generation, place) for generation in generations for place in generation.places]

    def _fill(self) -> None:
        if self._kill_at is not None:
            return
        now = time.monotonic()
        for generation, place in self._places():
            if place.pid is None and place.due <= now:
                place.pid, place.ready, place.began = self._fork(generation.policy, place), False, now

    def _patience(self) -> float | None:
        """How long there is nothing to do unless something happens."""
        moments = [place.due for _, place in self._places() if place.pid is None]
        if self._kill_at is not None:
            moments = [self._kill_at] if self._kill_at < inf else []
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _fork(self, policy: Policy, place: _Place) -> int:
        # Until the child has a pipe of its own, a signal to it would be told on ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = self._work(policy, place)
            except BaseException as error:  # noqa: BLE001 - nothing of the master may run on in the child
                log.fault("worker", error)
            finally:
                os._exit(status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)
        return pid

    def _work(self, policy: Policy, place: _Place) -> int:
        """What runs in the child."""
        if place.processor is not None:
            os.sched_setaffinity(0, {place.processor})
        self._signals.close()
        os.close(self._alive_write)
        os.close(self._ready_read)
        signals = Signals({GO_SOON, GO_WHEN_DONE})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)
        for other in self._listeners:
            if other is not place.listener:
                other.socket.close()
        pipes = self._alive_read, self._ready_write
        return work(policy, place.listener, place.seat, self._start, signals, *pipes, self._limit)

    def _hear(self) -> None:
        """Learn who serves now, and act when a generation is whole."""
        try:
            told = os.read(self._ready_read, 4096)
        except BlockingIOError:
            return
        pids = {int.from_bytes(told[start : start + 4], "big") for start in range(0, len(told), 4)}
        for _, place in self._places():
            if place.pid in pids:
                place.ready = True
        if self._next is not None and self._next.ready:
            old, self._current, self._next = self._current, self._next, None
            self._leave(old, GO_WHEN_DONE)
            self._reloaded("reloaded")
        if self._current.ready and not self._announced:
            self._announced = True
            addresses = {
                service.value: ",".join(each.address for each in self._listeners if each.service is service)
                for service in Service
                if any(each.service is service for each in self._listeners)
            }
            log.info("ready", **addresses, workers=len(self._current.places), policy=self._current.policy.digest)
            notify("READY=1")

    def _reap(self) -> None:
        for generation, place in self._places():
            how = None if place.pid is None else _ended(place.pid)
            if how is None:
                continue
            log.warning("worker ended", pid=place.pid, how=how, generation=generation.number)
            place.pid, place.ready = None, False
            if generation is not self._next:
                self._put_off(place)
                continue
            self._next = None
            self._leave(generation, GO_SOON)
            self._reloaded("reload failed, the old policy stays")
            break
        self._leaving = {pid for pid in self._leaving if _ended(pid) is None}

    def _put_off(self, place: _Place) -> None:
        """Decide when a worker that died is replaced: at once, unless it dies again and again."""
        now = time.monotonic()
        place.failures = place.failures + 1 if now - place.began < _SETTLED else 0
        delay = _DELAYS[min(place.failures, len(_DELAYS) - 1)]
        place.due = now + delay
        if place.failures >= _ALARMING:
            log.error("workers die as soon as they start; see the lines above", next_attempt_in=f"{delay:.0f}s")

    def _reload(self) -> None:
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            policy = self._load()
        except PolicyErrors as errors:
            for each in errors.errors:
                log.error("policy", error=str(each))
            self._reloaded("reload refused, the old policy stays")
            return
        except Exception as error:  # noqa: BLE001 - a fault in the new policy's loading must not cost the old one
            log.fault("reload", error)
            self._reloaded("reload refused, the old policy stays")
            return
        if policy.server != self._current.policy.server:
            log.warning("the server section has changed, which takes a restart")
        if self._next is not None:
            self._leave(self._next, GO_SOON)
        self._next = self._generation(self._current.number + 1, policy)

    def _reloaded(self, how: str) -> None:
        tell = log.info if how == "reloaded" else log.warning
        tell(how, generation=self._current.number, policy=self._current.policy.digest)
        notify("READY=1")

    def _leave(self, generation: _Generation, how: signal.Signals) -> None:
        for place in generation.places:
            if place.pid is not None:
                os.kill(place.pid, how)
                self._leaving.add(place.pid)
                place.pid = None

    def _stop(self) -> None:
        if self._kill_at is not None:
            return
        notify("STOPPING=1")
        log.info("stopping")
        for pid in self._leaving:
            os.kill(pid, GO_SOON)
        for generation in (self._current, self._next):
            if generation is not None:
                self._leave(generation, GO_SOON)
        # The addresses are free at once: the MTA need not wait to learn that nobody is there.
        for listener in self._listeners:
            listener.close()
        self._kill_at = time.monotonic() + self._limit + _GRACE


def become(user: str | None) -> None:
    """Give up root for the user. Raises BecomeError; does nothing where the process is not root's."""
    if user is None or os.geteuid() != 0:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise BecomeError(f"there is no user {user} (server.user)") from None
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def default_workers() -> int:
    """One for each processor that we may use, and two at least, so that one that dies is missed by nobody."""
    return max(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _ended(pid: int) -> str | None:
    """How a child ended; None where it goes on."""
    found, status = os.waitpid(pid, os.WNOHANG)
    if found == 0:
        return None
    code = os.waitstatus_to_exitcode(status)
    return f"status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
