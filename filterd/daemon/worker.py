"""One process that judges mail, from fork to exit.

The main thread waits, for signals and for the master's death; each listener is served by threads of its own. Told to
go, a worker lets the connections that it has come to their end, while new ones wait in the listener's queue for another
worker.
"""

import os
import select
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Protocol

from filterd.backend.decisions import DecisionWriter
from filterd.backend.guarded_store import GuardedStore
from filterd.backend.open_store import open_store
from filterd.backend.resolver import DnsResolver
from filterd.backend.spamd import Spamd, SpamdAddress
from filterd.daemon import log, metrics
from filterd.daemon.listen import Listener, Service
from filterd.daemon.pulse import BEAT, Pulse
from filterd.daemon.signals import Signals
from filterd.daemon.tally import Count, Tally
from filterd.engine.runtime import Runtime, authserv_id
from filterd.engine.signing import PublicationMemory
from filterd.frontend.access_policy import AccessPolicy, envelope_runtime
from filterd.frontend.conversation import Reception
from filterd.frontend.native_listener import NativeDoor
from filterd.frontend.seats import Seat
from filterd.policy.rules import Policy
from filterd.policy.transcript import Transcript
from filterd.wire.access_policy import AccessPolicyError
from filterd.wire.milter_codec import ProtocolError

if TYPE_CHECKING:
    from filterd.frontend.milter import MilterFrontend
    from filterd.frontend.milter_listener import Door as LibmilterDoor

#: Go, at the latest after the time that the master gives.
GO_SOON = signal.SIGTERM
#: Go when the last connection has ended; who holds one for an hour is not waited for.
GO_WHEN_DONE = signal.SIGUSR2
_LONGEST = 3600.0

_TICK = 0.05

Record = Callable[[Transcript], None]


class Door(Protocol):
    """Whom MTAs at a listener meet, whatever engine it is."""

    def run(self) -> None: ...
    def close(self) -> None: ...
    def connections(self) -> int: ...


#: Makes a worker's runtime from a policy, and ends it.
Start = Callable[[Policy, Record], AbstractContextManager[Runtime]]


@contextmanager
def live(policy: Policy, record: Record) -> Iterator[Runtime]:
    """A runtime that asks the network."""
    dns = policy.settings.dns
    resolver = DnsResolver(dns.servers, dns.timeout, report=_dns_changed)
    resolver.start()
    store = GuardedStore(open_store(policy.server.state, policy.server.state_password), _state_changed)
    try:
        with _kept(policy, record) as both, _scanner(policy) as scanner:
            explains = policy.settings.decisions is not None
            yield Runtime(
                policy,
                authserv_id(policy),
                resolver.view,
                both,
                publications=PublicationMemory(log.unpublished),
                store=store,
                scanner=scanner,
                explains=explains,
            )
    finally:
        store.close()
        resolver.close()


def _dns_changed(away: bool) -> None:
    if away:
        log.away("dns", "no DNS server answers; mail does as dns.on_error says")
    else:
        log.back("dns", "DNS servers answer again")


def _state_changed(fault: str | None) -> None:
    if fault is not None:
        log.away("state", "the state store is away; limits do as their on_error says", error=fault)
    else:
        log.back("state", "the state store is back")


def _spamd_changed(away: bool, about: str) -> None:
    if away:
        log.away("spamd", "no spamd can say what it thinks", about=about)
    else:
        log.back("spamd", "spamd is back", about=about)


@contextmanager
def _scanner(policy: Policy) -> Iterator[Spamd | None]:
    settings = policy.settings.spamd
    if settings is None:
        yield None
        return
    tls = ssl.create_default_context() if settings.tls else None
    addresses = [SpamdAddress(each.path, each.host, each.port, tls) for each in settings.address]
    scanner = Spamd(addresses, settings.timeout, _spamd_changed)
    scanner.start()
    try:
        yield scanner
    finally:
        scanner.close()


@contextmanager
def _kept(policy: Policy, record: Record) -> Iterator[Record]:
    """Where decisions are told, and kept if the policy says where."""
    settings = policy.settings.decisions
    if settings is None:
        yield record
        return
    writer = DecisionWriter(settings, log.decisions_dropped)

    def both(transcript: Transcript) -> None:
        record(transcript)
        writer.put(transcript)

    try:
        yield both
    finally:
        writer.close()


def work(
    policy: Policy,
    listeners: Sequence[tuple[Listener, Seat]],
    start: Start,
    signals: Signals,
    tally: Tally,
    pulse: Pulse,
    master: int,
    ready: int,
    limit: float,
) -> int:
    """Judge mail until told to go; returns the exit status.

    `tally` takes what is counted, `pulse` the signs of life. `master` is the end of a pipe that becomes readable when
    the master is gone, `ready` one to write the process id to when connections are served. `limit` is how long, in
    seconds, connections may take to end after `GO_SOON`.
    """

    def record(transcript: Transcript) -> None:
        log.judged(transcript)
        if transcript.fault:
            tally.note(transcript.at, f"{transcript.transaction.queue_id or '-'}: {transcript.fault}")

    with start(policy, record) as runtime:
        served = {
            Service.MILTER: _counting(runtime, tally, metrics.counts),
            Service.POLICY: _counting(envelope_runtime(runtime), tally, metrics.envelope_counts),
        }
        doors = []
        for listener, seat in listeners:
            reception = Reception(served[listener.service], partial(_report, tally))
            doors.append((open_door(policy, listener, seat, reception), reception))
            # Only the door holds it now, so that it is closed when the door is.
            listener.socket.close()
        stopped = threading.Event()
        for door, _ in doors:
            threading.Thread(target=_serve, args=(door, signals, stopped), name="door", daemon=True).start()
        os.write(ready, os.getpid().to_bytes(4, "big"))
        return _watch(doors, stopped, signals, pulse, master, limit)


def _counting(runtime: Runtime, tally: Tally, counts: Callable[[Transcript], Iterator[Count]]) -> Runtime:
    """The runtime, whose mails are counted as well."""
    told = runtime.record

    def record(transcript: Transcript) -> None:
        told(transcript)
        tally.add(counts(transcript))

    return replace(runtime, record=record)


def open_door(policy: Policy, listener: Listener, seat: Seat, reception: Reception) -> Door:
    """Whom MTAs at the listener meet: once in a process."""
    most = policy.server.max_connections
    if listener.service is Service.POLICY:
        # Postfix keeps connections for minutes after its last question; to end one at rest costs it nothing.
        full = partial(_full, most)
        return NativeDoor(listener.socket, reception, seat, most, talk=AccessPolicy, full=full, stays=False)
    if policy.server.engine == "native":
        return NativeDoor(listener.socket, reception, seat, most, full=partial(_full, most))
    frontend, door = libmilter()
    frontend(reception).register()
    return door(listener.socket)


def libmilter() -> "tuple[type[MilterFrontend], type[LibmilterDoor]]":
    """libmilter's front-end, loaded on need: its C library is for those who ask for it.

    Whoever gives up root calls this before: the new user may not be let into the folder of Python's packages.
    """
    from filterd.frontend.milter import MilterFrontend
    from filterd.frontend.milter_listener import Door as LibmilterDoor

    return MilterFrontend, LibmilterDoor


def _full(most: int) -> None:
    log.warning("no room for more connections, who comes waits: see server.max_connections", connections=most)


def _report(tally: Tally, where: str, error: BaseException, conversation: str | None) -> None:
    if isinstance(error, ProtocolError | AccessPolicyError):
        log.warning("connection closed", error=str(error), session=conversation or "-")
        tally.add([metrics.PROTOCOL_ERROR])
    else:
        log.fault(where, error, session=conversation or "-")
        tally.add([metrics.fault(where)])
        tally.note(time.time(), f"{where}: {type(error).__name__}: {error}")


def _serve(door: Door, signals: Signals, stopped: threading.Event) -> None:
    try:
        door.run()
    except BaseException as error:  # noqa: BLE001 - the main thread must be woken whatever it was
        log.fault("milter", error)
    stopped.set()
    signals.wake()


def _watch(
    doors: Sequence[tuple[Door, Reception]],
    stopped: threading.Event,
    signals: Signals,
    pulse: Pulse,
    master: int,
    limit: float,
) -> int:
    watched = [signals.fileno(), master]
    going, until = False, inf
    while True:
        woken, _, _ = select.select(watched, [], [], _TICK if going else BEAT)
        pulse.beat()
        # Taken before looking: what happens behind the look wakes the next wait.
        told = signals.take()
        # Looked at a tick after the door was closed: a connection may have been half through it.
        busy = not going or any(reception.live or door.connections() for door, reception in doors)
        if not busy or time.monotonic() > until:
            return 0
        if stopped.is_set():
            log.error("the milter engine stopped")
            return 1
        if master in woken:
            watched.remove(master)
            told |= {GO_SOON}
        if GO_SOON in told:
            until = min(until, time.monotonic() + limit)
        if not going and told & {GO_SOON, GO_WHEN_DONE}:
            going, until = True, min(until, time.monotonic() + _LONGEST)
            for door, _ in doors:
                door.close()
