"""The process that starts the others and sees no mail.

Keeps the workers of the current policy alive, starts those of a new one before the old ones go, and lets all go at the
end. Has no thread, so that it can fork at any time, and waits for nobody.
"""

import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any

from filterd.daemon import http, log
from filterd.daemon.control import Client, Control
from filterd.daemon.crew import Crew
from filterd.daemon.listen import Listener, Service
from filterd.daemon.notify import Watchdog, notify
from filterd.daemon.places import Generation, Place, Worker, WorkerPlace, ended, new_generation
from filterd.daemon.reload import Outcome, Reload, warnings
from filterd.daemon.signals import ALL, Signals
from filterd.daemon.status import Past, State, exposition, status
from filterd.daemon.upgrade import Predecessor, Upgrade
from filterd.daemon.worker import GO_SOON, GO_WHEN_DONE, Start, work
from filterd.limits.state import StoreError
from filterd.policy.errors import PolicyErrors
from filterd.policy.rules import Policy

# What a worker may take above its limit before it is killed.
_GRACE = 5.0
_LOGGED = {
    Outcome.RELOADED: "reloaded",
    Outcome.REFUSED: "reload refused, the old policy stays",
    Outcome.FAILED: "reload failed, the old policy stays",
    Outcome.OVERTAKEN: "reload overtaken by another",
    Outcome.STOPPED: "reload ended by stopping",
}


class Master:
    """Runs `workers` processes, each at all listeners. `limit` is how long, in seconds, mail may take to end at TERM.

    `control` and `web` are listeners for the operator and for HTTP, None where there are none. `predecessor` is the
    master that this one takes the place of.
    """

    def __init__(
        self,
        policy: Policy,
        load: Callable[[], Policy],
        start: Start,
        listeners: Sequence[Listener],
        workers: int,
        limit: float = 30.0,
        control: Listener | None = None,
        web: Listener | None = None,
        predecessor: Predecessor | None = None,
    ) -> None:
        self._load = load
        self._start = start
        self._listeners = listeners
        self._workers = workers
        self._limit = limit
        self._signals = Signals(
            {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD}
        )
        # Nobody writes to the first: it is readable in the workers when no master is left to hold its other end.
        self._alive_read, self._alive_write = os.pipe()
        self._ready_read, self._ready_write = os.pipe2(os.O_NONBLOCK)
        self._predecessor = predecessor
        self._upgrade: Upgrade | None = None
        # Until it goes, the predecessor answers.
        self._control = Control(None if predecessor else control)
        self._control_listener = control
        self._web = web
        self._web_place = Place()
        self._current = new_generation(1, policy, listeners, workers)
        self._last_number = 1
        self._announced = False
        self._next: Generation | None = None
        #: who asked for the reload that is under way
        self._asked: list[Client] = []
        self._warnings: list[str] = []
        self._past = Past()
        self._crew = Crew(policy.server, self._past)
        self._watchdog = Watchdog(os.environ)
        #: nothing is to be started any more: all is stopped, or another master's
        self._over = False
        self._kill_at = inf
        self._status = 0

    def run(self) -> int:
        """Run until told to stop; returns the exit status."""
        # What the children share stays shared: their collector does not write to it.
        gc.collect()
        gc.freeze()
        self._warn(self._current.policy)
        while not self._over or self._crew.leaving:
            self._fill()
            self._watchdog.beat()
            readers = [self._signals.fileno(), self._ready_read, *self._control.readers()]
            if self._upgrade is not None:
                readers.append(self._upgrade.fileno())
            ready, writable, _ = select.select(readers, self._control.writers(), [], self._patience())
            # Taken before looking: a child that ends behind the look wakes the next wait.
            told = self._signals.take()
            self._reap()
            self._hear()
            if signal.SIGUSR1 in told:
                log.toggle_debugging()
            if told & {signal.SIGTERM, signal.SIGINT}:
                self._stop()
            elif not self._over:
                if signal.SIGHUP in told:
                    self._reload(None)
                if signal.SIGUSR2 in told:
                    self._start_upgrade()
                if self._upgrade is not None and self._upgrade.fileno() in ready:
                    self._end_upgrade(self._upgrade)
            self._crew.look_after(self._current)
            self._control.serve((*ready, *writable), self._answer)
            if time.monotonic() > self._kill_at:
                self._kill_at = inf
                self._crew.hurry(signal.SIGKILL)
        log.info("stopped")
        return self._status

    def _places(self) -> list[tuple[Generation, WorkerPlace]]:
        generations = [self._current] if self._next is None else [self._current, self._next]
        return [(generation, place) for generation in generations for place in generation.places]

    def _fill(self) -> None:
        if self._over:
            return
        now = time.monotonic()
        for each, place in self._places():
            if place.vacant(now):
                worker = Worker(each.number, now)
                place.pid = self._crew.fork(partial(self._work, each, place, worker))
                place.ready, place.began = False, now
                self._crew.living[place.pid] = worker
        if self._web is not None and self._predecessor is None and self._web_place.vacant(now):
            ours, theirs = socket.socketpair()
            web = self._web.socket
            self._web_place.pid, self._web_place.began = (
                self._crew.fork(partial(self._serve_web, web, ours, theirs)),
                now,
            )
            theirs.close()
            self._control.adopt(ours)

    def _patience(self) -> float | None:
        """How long there is nothing to do unless something happens."""
        moments = [self._kill_at, self._control.until(), self._crew.until(), self._watchdog.until()]
        if not self._over:
            moments += [place.due for _, place in self._places() if place.pid is None]
            if self._web is not None and self._predecessor is None and self._web_place.pid is None:
                moments.append(self._web_place.due)
        moment = min(moments)
        return max(0.0, moment - time.monotonic()) if moment < inf else None

    def _forget(self) -> None:
        """In a child: give up what is the master's alone."""
        self._signals.close()
        self._control.close()
        if self._predecessor is not None:
            self._predecessor.close()
        if self._upgrade is not None:
            self._upgrade.close()
        os.close(self._alive_write)
        os.close(self._ready_read)

    def _work(self, generation: Generation, place: WorkerPlace, worker: Worker) -> int:
        """What runs in a worker."""
        if place.processor is not None:
            os.sched_setaffinity(0, {place.processor})
        self._forget()
        log.always(generation=generation.number)
        signals = Signals({GO_SOON, GO_WHEN_DONE})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)
        if self._web is not None:
            self._web.socket.close()
        at = list(zip(self._listeners, place.seats, strict=True))
        pipes = self._alive_read, self._ready_write
        return work(generation.policy, at, self._start, signals, worker.tally, worker.pulse, *pipes, self._limit)

    def _serve_web(self, listener: socket.socket, ours: socket.socket, theirs: socket.socket) -> int:
        """What runs in the process that serves HTTP."""
        self._forget()
        ours.close()
        for other in self._listeners:
            other.socket.close()
        os.close(self._ready_write)
        http.serve(listener, theirs, self._alive_read)
        return 0

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
                self._crew.began(place.pid)
        if self._next is not None and self._next.ready:
            old, self._current, self._next = self._current, self._next, None
            self._leave(old, GO_WHEN_DONE)
            self._reloaded(Outcome.RELOADED, warnings=self._warnings)
        if self._current.ready and not self._announced:
            self._announced = True
            if self._predecessor is not None:
                self._predecessor.tell()
                self._predecessor = None
                self._control.listener = self._control_listener
            addresses = {
                service.value: ",".join(each.address for each in self._listeners if each.service is service)
                for service in Service
                if any(each.service is service for each in self._listeners)
            }
            log.info("ready", **addresses, workers=len(self._current.places), policy=self._current.policy.digest)
            notify("READY=1")

    def _reap(self) -> None:
        for generation, place in self._places():
            how = None if place.pid is None else self._crew.ended(place.pid)
            if how is None:
                continue
            log.warning("worker ended", pid=place.pid, how=how, generation=generation.number)
            self._past.count(("filterd_worker_ends",))
            self._put_off(place)
            if self._predecessor is not None:
                log.error("the upgrade fails, the old daemon goes on")
                self._status = 1
                self._stop()
                break
            if generation is self._next:
                self._next = None
                self._leave(generation, GO_SOON)
                self._reloaded(Outcome.FAILED, [f"a worker ended before it was ready ({how}); the log has more"])
                break
        if self._web_place.pid is not None and (how := ended(self._web_place.pid)):
            log.warning("the process that serves HTTP ended", pid=self._web_place.pid, how=how)
            self._put_off(self._web_place)
        self._crew.reap()

    def _put_off(self, place: Place) -> None:
        delay = place.put_off()
        if delay is not None:
            log.error("workers die as soon as they start; see the lines above", next_attempt_in=f"{delay:.0f}s")

    def _answer(self, client: Client, request: Mapping[str, Any]) -> None:
        """Answer somebody at the control socket, or the process that serves HTTP."""
        match request.get("command"):
            case "status":
                self._control.answer(client, status(self._state()))
            case "metrics":
                self._control.answer(client, {"text": exposition(self._state())})
            case "reload" if not self._over:
                self._reload(client)
            case "reload":
                self._control.answer(client, {"error": "the daemon is stopping"})
            case _:
                self._control.answer(client, {"error": "there is no such command"})

    def _state(self) -> State:
        return State(self._current, self._next, self._crew.living, self._crew.leaving, self._past, self._over)

    def _reload(self, client: Client | None) -> None:
        if self._next is not None:
            self._leave(self._next, GO_SOON)
            self._next = None
            self._reloaded(Outcome.OVERTAKEN)
        self._asked = [client] if client is not None else []
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            policy = self._load()
        except PolicyErrors as errors:
            for each in errors.errors:
                log.error("policy", error=str(each))
            self._reloaded(Outcome.REFUSED, [str(each) for each in errors.errors])
            return
        except StoreError as error:
            log.error("policy", error=f"server.state: {error}")
            self._reloaded(Outcome.REFUSED, [f"server.state: {error}"])
            return
        except Exception as error:  # noqa: BLE001 - a fault in the new policy's loading must not cost the old one
            log.fault("reload", error)
            self._reloaded(Outcome.REFUSED, [f"{type(error).__name__}: {error}"])
            return
        self._warn(policy)
        self._last_number += 1
        self._next = new_generation(self._last_number, policy, self._listeners, self._workers)

    def _warn(self, policy: Policy) -> None:
        self._warnings = warnings(policy, self._current.policy.server)
        for each in self._warnings:
            log.warning("policy", warning=each)

    def _reloaded(self, outcome: Outcome, errors: Sequence[str] = (), warnings: Sequence[str] = ()) -> None:
        current = self._current
        tell = log.info if outcome is Outcome.RELOADED else log.warning
        tell(_LOGGED[outcome], generation=current.number, policy=current.policy.digest)
        done = Reload(time.time(), outcome, current.number, current.policy.digest, tuple(errors), tuple(warnings))
        self._past.reloaded(done)
        asked, self._asked = self._asked, []
        for client in asked:
            self._control.answer(client, done.to_mapping())
        if outcome is not Outcome.OVERTAKEN:
            notify("READY=1")

    def _leave(self, generation: Generation, how: signal.Signals) -> None:
        for place in generation.places:
            self._crew.let_go(place, how)

    def _start_upgrade(self) -> None:
        if self._upgrade is not None or self._predecessor is not None:
            log.warning("an upgrade is under way already")
            return
        log.info("upgrading")
        self._upgrade = Upgrade(self._crew.fork, self._sockets())

    def _end_upgrade(self, upgrade: Upgrade) -> None:
        self._upgrade = None
        succeeded = upgrade.succeeds()
        upgrade.close()
        if not succeeded:
            log.error("the upgrade failed, this daemon goes on; see the lines above", pid=upgrade.pid)
            self._crew.leaving.add(upgrade.pid)
            return
        log.info("upgraded, another daemon has taken over", pid=upgrade.pid)
        # From here on systemd listens to the new one.
        notify(f"MAINPID={upgrade.pid}")
        self._end(GO_WHEN_DONE)
        for listener in self._sockets():
            listener.socket.close()

    def _stop(self) -> None:
        """Let all that there is come to its end, in time."""
        if self._kill_at < inf:
            return
        self._kill_at = time.monotonic() + self._limit + _GRACE
        if self._over:
            self._crew.hurry(GO_SOON)
            return
        log.info("stopping")
        if self._predecessor is None:
            notify("STOPPING=1")
        if self._upgrade is not None:
            os.kill(self._upgrade.pid, signal.SIGTERM)
            self._crew.leaving.add(self._upgrade.pid)
        self._crew.hurry(GO_SOON)
        self._end(GO_SOON)
        # The addresses are free at once: the MTA need not wait to learn that nobody is there.
        for listener in self._sockets():
            if self._predecessor is None:
                listener.close()
            else:
                listener.socket.close()

    def _sockets(self) -> list[Listener]:
        return [each for each in (*self._listeners, self._control_listener, self._web) if each is not None]

    def _end(self, how: signal.Signals) -> None:
        """Nothing is ours any more but those who are to go."""
        self._over = True
        for each in (self._current, self._next):
            if each is not None:
                self._leave(each, how)
        if self._asked:
            self._reloaded(Outcome.STOPPED)
        self._crew.let_go(self._web_place, signal.SIGTERM)
        self._control.close()
