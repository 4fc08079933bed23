"""One thing after the other, on whichever thread of a pool is free.

A connection's events must reach the engine in order, and libmilter's threads must not run the engine. So each
connection has a strand: a queue that at most one thread of the pool works on. What is not waited for keeps its order
all the same, and a connection that waits for nothing holds no thread.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor


class Strand:
    """A serial queue of calls. `bound` is how much weight may wait before `put` does; `patience` is in seconds."""

    def __init__(self, pool: Executor, bound: int, patience: float) -> None:
        self._pool = pool
        self._bound = bound
        self._patience = patience
        self._changed = threading.Condition()
        self._calls: deque[tuple[Callable[[], object], int]] = deque()
        self._weight = 0
        self._running = False

    def put(self, call: Callable[[], object], weight: int) -> None:
        """Run the call after all that was put before. It must not raise.

        Waits while the strand is full, unless the call weighs nothing. Raises TimeoutError when it stays full.
        """
        with self._changed:
            if weight and not self._changed.wait_for(lambda: self._weight < self._bound, self._patience):
                raise TimeoutError("the engine does not keep up with the MTA")
            self._calls.append((call, weight))
            self._weight += weight
            if self._running:
                return
            self._running = True
        self._pool.submit(self._run)

    def _run(self) -> None:
        done = 0
        while True:
            with self._changed:
                if done:
                    self._weight -= done
                    self._changed.notify_all()
                if not self._calls:
                    self._running = False
                    return
                call, done = self._calls.popleft()
            call()
