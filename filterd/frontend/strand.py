"""One thing after the other, on whichever thread of a pool is free.

A connection's events must reach the engine in order, and libmilter's threads must not run the engine. So each
connection has a strand: a queue that at most one thread of the pool works on. What is not waited for keeps its order
all the same, and a connection that waits for nothing holds no thread.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from filterd.backend.waiting import about_to_wait
from filterd.frontend.pool import Pool

T = TypeVar("T")

# Going over to another thread costs as much as many small calls, so those that can wait are taken along by others, up
# to this weight.
_BATCH = 32_768


class Strand:
    """A serial queue of calls. `bound` is how much weight may wait before `put` does; `patience` is in seconds."""

    def __init__(self, pool: Pool, bound: int, patience: float) -> None:
        self._pool = pool
        self._bound = bound
        self._patience = patience
        self._changed = threading.Condition(threading.Lock())
        self._full = False
        self._calls: deque[tuple[Callable[[], object], int]] = deque()
        self._weight = 0
        self._running = False

    def put(self, call: Callable[[], object], weight: int, *, soon: bool = True) -> None:
        """Run the call after all that was put before; it must not raise. Without `soon`, when others are run.

        Waits while the strand is full, unless the call weighs nothing. Raises TimeoutError when it stays full.
        """
        with self._changed:
            if weight and self._weight >= self._bound:
                self._await_room()
            self._calls.append((call, weight))
            self._weight += weight
            if self._running or not (soon or self._weight >= _BATCH):
                return
            self._running = True
        self._pool.submit(self._run)

    def ask(self, call: Callable[[], T], weight: int, patience: float) -> T:
        """Run the call as `put` does, and wait for what it gives. Raises what it raises, and TimeoutError."""
        answer: _Answer[T] = _Answer(call)
        self.put(answer.find, weight)
        return answer.get(patience)

    def _await_room(self) -> None:
        self._full = True
        if not self._changed.wait_for(lambda: self._weight < self._bound, self._patience):
            raise TimeoutError("the engine does not keep up with the MTA")
        self._full = False

    def _run(self) -> None:
        done = 0
        while True:
            with self._changed:
                self._weight -= done
                if self._full:
                    self._changed.notify_all()
                if not self._calls:
                    self._running = False
                    return
                call, done = self._calls.popleft()
            call()


class Abandoned(BaseException):
    """The call has ended at last, but another thread goes on in its place."""


class Direct:
    """A strand for front-ends whose threads are ours: every call is run at once, where it is made.

    A call that does not come back can be abandoned. Until it does, its thread is the one that runs what comes behind.
    """

    def __init__(self) -> None:
        self._turning = threading.Lock()
        self._running = False
        self._behind: list[Callable[[], object]] | None = None

    @property
    def running(self) -> bool:
        """Whether a call is being run, and was not abandoned."""
        return self._running and self._behind is None

    def put(self, call: Callable[[], object], weight: int, *, soon: bool = True) -> None:
        """Run the call, which must not raise. Raises Abandoned."""
        if self._behind is None or not self._left(call):
            self._run(call)

    def ask(self, call: Callable[[], T], weight: int, patience: float) -> T:
        """Run the call; returns what it gives. Raises what it raises, Abandoned, and TimeoutError behind another."""
        if self._behind is not None:
            answer: _Answer[T] = _Answer(call)
            if self._left(answer.find):
                about_to_wait()
                return answer.get(patience)
        return self._run(call)

    def abandon(self) -> bool:
        """Go on without the call that is being run; False when there is none (any more)."""
        with self._turning:
            if not self.running:
                return False
            self._behind = []
            return True

    def _left(self, call: Callable[[], object]) -> bool:
        """Leave the call to the thread that another is run by, if it still is."""
        with self._turning:
            if self._behind is not None:
                self._behind.append(call)
            return self._behind is not None

    def _run(self, call: Callable[[], T]) -> T:
        self._running = True
        try:
            found = call()
        finally:
            with self._turning:
                self._running = False
                abandoned = self._behind is not None
        if abandoned:
            self._catch_up()
            raise Abandoned
        return found

    def _catch_up(self) -> None:
        while True:
            with self._turning:
                calls, self._behind = self._behind, []
                if not calls:
                    self._behind = None
                    return
            for call in calls:
                call()


class _Answer(Generic[T]):
    """What a call gives, for another thread."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._given = threading.Lock()
        self._given.acquire()
        self._error: BaseException | None = None

    def find(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._error = error
        self._given.release()

    def get(self, patience: float) -> T:
        if not self._given.acquire(timeout=patience):
            raise TimeoutError("the engine took too long")
        if self._error is not None:
            raise self._error
        return self._value
