"""A listener, and the threads that serve the connections which come through it.

One thread at a time has the turn: it waits for whoever says something, and has the engine judge it on the spot. Most
mail never leaves that thread, as handing over to another costs as much as judging a stage. But when the engine is about
to wait for the world, or takes long for whatever reason, the turn goes to another thread, and the first one is alone
with its connection until that is answered. So a connection at rest costs no thread, and one that waits holds up no
other. Of several processes at a listener, the one that has fewest connections takes whoever comes.
"""

import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator

from filterd.backend.waiting import tell_of_waits
from filterd.frontend.connection import Connection, Talk
from filterd.frontend.conversation import Reception
from filterd.frontend.native_milter import NativeMilter
from filterd.frontend.seats import Seat, seats

# How long, in seconds, an MTA may be silent: libmilter's own limit. And how often that is looked after.
_SILENCE = 7210.0
_LOOK_AFTER = 60.0
# After how long, in seconds, a thread that serves one connection has to leave the others to another.
_LONG = 0.1
# How often, every `_LONG` seconds, no thread may be free for a turn before the process is given up.
_HOPE = 50
# How long, in seconds, whoever comes is left to a process that has fewer connections.
_LEAVE = 0.002


class NativeDoor:
    """The door that MTAs come through. At once, at most `most` connections are open, and `threads` wait.

    `talk` speaks with who comes. `stays` is whether a connection at rest outlives the door's closing.
    """

    def __init__(
        self,
        listener: socket.socket,
        reception: Reception,
        seat: Seat | None = None,
        most: int = 500,
        threads: int = 128,
        talk: Callable[[Reception], Talk] = NativeMilter,
        *,
        stays: bool = True,
        full: Callable[[], None] | None = None,
    ) -> None:
        """Open the door. `listener` must not block: a process that loses the race for a connection goes on.

        `full` is called, once, when no more connections are taken.
        """
        self._reception = reception
        self._seat = seat or seats(1)[0]
        self._most = most
        self._most_threads = threads
        self._talk = talk
        self._stays = stays
        self._full = full or _nothing
        self._selector = selectors.DefaultSelector()
        self._listener = listener.dup()
        self._at_listener = threading.Lock()
        self._closed = self._attending = self._told = False
        self._open: set[Connection] = set()
        # Who has the turn holds this lock, and changes what follows.
        self._turn = threading.Lock()
        self._server: _Server | None = None
        self._servers = 0
        self._stuck: set[Connection] = set()
        self._hopeless = 0
        self._away: set[Connection] = set()
        self._leaves_until: float | None = None
        self._failed = threading.Event()
        self._error: BaseException | None = None
        self._attend(True)

    def run(self) -> None:
        """Serve, until that fails: raises what it failed with."""
        self._grow()
        look_after = time.monotonic() + _LOOK_AFTER
        while not self._failed.wait(_LONG):
            self._attend(self._leaves_until is None)
            if self._server is not None:
                self._server.hurry()
            self._give_up_waiting()
            if time.monotonic() > look_after:
                look_after, self._told = look_after + _LOOK_AFTER, False
                self._end_silence()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Take no more connections: those that come wait in the listener's queue for another process."""
        self._closed = True
        self._attend(False)
        self._listener.close()
        if not self._stays:
            for connection in list(self._open):
                connection.end_at_rest()

    def connections(self) -> int:
        """How many connections that came through the door are open."""
        return len(self._open)

    def _give_up_waiting(self) -> None:
        """Answer for the engine where it does not come back."""
        now = time.monotonic()
        for connection in list(self._open):
            if not connection.overdue(now):
                continue
            if connection not in self._away:
                # Its thread has the turn, and no other is free to take it: it will be soon, or all are stuck.
                self._hopeless += 1
                if self._hopeless > _HOPE:
                    self.fail(RuntimeError("all threads wait for an engine that does not come back"))
                continue
            self._hopeless = 0
            self._stuck.add(connection)
            goes_on = connection.give_up()
            if goes_on is None:
                self._stuck.discard(connection)
            else:
                self.served(connection, goes_on=goes_on)

    # What follows is for the servers.

    def take_turn(self, server: "_Server") -> None:
        """Wait for the turn."""
        self._turn.acquire()
        self._server = server

    def pass_turn(self, connection: Connection) -> bool:
        """Leave all but this connection to another server. False when there is none."""
        if self._servers == len(self._away) + len(self._stuck) + 1 and not self._grow():
            return False
        self._selector.unregister(connection.socket)
        self._away.add(connection)
        self._server = None
        self._turn.release()
        return True

    def wait(self) -> Iterator[Connection]:
        """Wait until somebody says something; who that is."""
        ready = self._selector.select(None if self._leaves_until is None else _LEAVE)
        if self._leaves_until is not None and time.monotonic() > self._leaves_until:
            # Nobody may have taken it, for reasons of their own.
            self._leaves_until = None
            self._attend(True)
            self._accept()
        for key, _ in ready:
            if key.data is not None:
                yield key.data
            elif self._seat.roomiest():
                self._accept()
            else:
                # Who is at work already would win every race for more of it.
                self._leaves_until = time.monotonic() + _LEAVE
                self._attend(False)

    def served(self, connection: Connection, *, goes_on: bool) -> None:
        """The connection was answered; `goes_on` where more may come."""
        away = connection in self._away
        if not goes_on:
            if not away:
                self._selector.unregister(connection.socket)
            connection.close()
            self._open.discard(connection)
            self._attend(self._leaves_until is None)
        self._away.discard(connection)
        if goes_on and away:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def back(self, connection: Connection) -> None:
        """A server is back whose connection had been given to another."""
        self._stuck.discard(connection)

    def fail(self, error: BaseException) -> None:
        """A server ends that should not, and nobody knows what it leaves behind."""
        self._error = error
        self._failed.set()

    def _grow(self) -> bool:
        if self._servers == self._most_threads:
            return False
        self._servers += 1  # before it starts, as it counts on that
        try:
            threading.Thread(target=_Server(self).run, name=f"milter-{self._servers}", daemon=True).start()
        except RuntimeError:
            self._servers -= 1  # the system has no more
            return False
        return True

    def _accept(self) -> None:
        if not self._attending:
            return
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # another process was faster, or the MTA has gone
        except OSError as error:
            # No descriptor is left, say: whoever comes can wait until there is one. Or the door was closed just now.
            self._attend(False)
            if not (self._closed or self._told):
                self._told = True
                self._reception.fault("accept", error)
            return
        try:
            connection = Connection(accepted, self._reception, self._talk(self._reception))
        except BaseException as error:  # noqa: BLE001 - it costs this connection and no other
            self._reception.fault("connection", error)
            accepted.close()
            return
        self._open.add(connection)
        if self._closed and not self._stays:
            connection.end_at_rest()
        self._selector.register(accepted, selectors.EVENT_READ, connection)
        self._attend(True)

    def _attend(self, wanted: bool) -> None:
        """Look at the listener, if there is room for who comes, or do not."""
        with self._at_listener:
            if self._closed and not self._attending:
                return  # the seat may be another process's by now
            if len(self._open) >= self._most:
                wanted = False
                self._full, full = _nothing, self._full
                full()
            wanted = wanted and not self._closed
            if wanted and not self._attending:
                self._selector.register(self._listener, selectors.EVENT_READ)
            elif self._attending and not wanted:
                self._selector.unregister(self._listener)
            self._attending = wanted
            self._seat.tell(len(self._open) if wanted else None)

    def _end_silence(self) -> None:
        now = time.monotonic()
        for connection in list(self._open):
            if now - connection.heard_at > _SILENCE:
                connection.hang_up()


def _nothing() -> None:
    pass


class _Server:
    """A thread that serves when it has the turn."""

    def __init__(self, door: NativeDoor) -> None:
        self._door = door
        # Between this thread and the one that sees to it that it hurries.
        self._lock = threading.Lock()
        self._has_turn = False
        self._serves: Connection | None = None
        self._number = self._number_seen = 0

    def run(self) -> None:
        """The thread."""
        tell_of_waits(self._pass_turn)
        try:
            while True:
                self._door.take_turn(self)
                self._has_turn = True
                while self._has_turn:
                    self._serve_some()
        except BaseException as error:  # noqa: BLE001 - whatever it was, the door is told
            self._door.fail(error)

    def hurry(self) -> None:
        """To be called now and then by another thread: what takes from one call to the next holds up nobody else."""
        seen, self._number_seen = self._number_seen, self._number
        if seen == self._number:
            self._pass_turn()

    def _serve_some(self) -> None:
        for connection in self._door.wait():
            with self._lock:
                self._serves = connection
                self._number += 1
            goes_on = connection.serve()
            with self._lock:
                self._serves = None
            if goes_on is None:
                self._door.back(connection)
            else:
                self._door.served(connection, goes_on=goes_on)
            if not self._has_turn:
                return

    def _pass_turn(self) -> None:
        with self._lock:
            if self._has_turn and self._serves is not None:
                self._has_turn = not self._door.pass_turn(self._serves)
