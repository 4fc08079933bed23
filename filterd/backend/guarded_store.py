"""A store that may be away, as the engine meets it: nobody waits for what did not answer a moment ago.

After a fault the store is left alone for a while that grows from one second to thirty; then one call, and only one,
tries it again. So it comes back without a restart, threads do not pile up before it, and the operator is told once that
it went and once that it is back.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from filterd.limits.greylist import Answer, Attempt
from filterd.limits.state import Store, StoreError
from filterd.limits.window import Bucket, Charge, Ending, Standing

_FIRST, _LONGEST = 1.0, 30.0

T = TypeVar("T")


class GuardedStore:
    """`store`, asked only when there is hope. `report` hears why it went, and None when it is back."""

    def __init__(
        self, store: Store, report: Callable[[str | None], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._report = report
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._fault: str | None = None
        self._again_at = self._pause = 0.0

    def reserve(self, charges: Sequence[Charge], now: int) -> tuple[Standing, ...]:
        return self._ask(lambda: self._store.reserve(charges, now))

    def settle(self, charges: Sequence[Charge], ending: Ending, now: int) -> None:
        self._ask(lambda: self._store.settle(charges, ending, now))

    def buckets(self) -> Iterator[tuple[str, Bucket]]:
        yield from self._ask(lambda: list(self._store.buckets()))

    def forget(self, names: Sequence[str]) -> int:
        return self._ask(lambda: self._store.forget(names))

    def attempt(self, asked: Attempt, now: int) -> Answer:
        return self._ask(lambda: self._store.attempt(asked, now))

    def delivered(self, attempts: Sequence[Attempt], now: int, *, proven: bool) -> None:
        self._ask(lambda: self._store.delivered(attempts, now, proven=proven))

    def close(self) -> None:
        self._store.close()

    def _ask(self, call: Callable[[], T]) -> T:
        with self._lock:
            if self._fault is not None:
                now = self._monotonic()
                if now < self._again_at:
                    raise StoreError(self._fault)
                # This call tries; whoever comes meanwhile is told what is known.
                self._again_at = now + self._pause
        try:
            done = call()
        except StoreError as error:
            self._failed(str(error))
            raise
        if self._fault is not None:
            self._back()
        return done

    def _failed(self, fault: str) -> None:
        with self._lock:
            first = self._fault is None
            self._pause = _FIRST if first else min(2 * self._pause, _LONGEST)
            self._fault, self._again_at = fault, self._monotonic() + self._pause
        if first:
            self._report(fault)

    def _back(self) -> None:
        with self._lock:
            back, self._fault = self._fault is not None, None
        if back:
            self._report(None)
