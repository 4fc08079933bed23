"""Our threads: as many as are busy, up to a bound, and started when they are first missed."""

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Pool:
    """Runs calls on at most `most` threads; what finds none free waits its turn.

    Leaner than concurrent.futures, whose futures nobody here would look at. The threads end with the process.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._counted = threading.Lock()
        self._free = 0
        self._started = 0

    def submit(self, call: Callable[[], object]) -> None:
        """Run the call soon. It must not raise."""
        with self._counted:
            # Those that are promised to a call count as busy from here on.
            self._free -= 1
            missed = self._free < 0 and self._started < self._most
            if missed:
                self._started += 1
                self._free += 1
        if missed:
            threading.Thread(target=self._work, name=f"judge-{self._started}", daemon=True).start()
        self._calls.put(call)

    def _work(self) -> None:
        while True:
            self._calls.get()()
            with self._counted:
                self._free += 1
