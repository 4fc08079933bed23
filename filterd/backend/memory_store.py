"""State in this process's memory: for one worker, for policies' own tests, and where no other store is written."""

import threading
from collections.abc import Iterator, Sequence

from filterd.limits import greylist, window
from filterd.limits.greylist import Answer, Attempt, Record
from filterd.limits.window import Bucket, Charge, Ending, Standing

# How many charges come between two looks for what has run out.
_LOOK_AFTER = 1000
#: So many names of greylisting that wait, and as many that are known: about 40 MB.
MOST = 50_000


class MemoryStore:
    """A store that ends with the process and is shared with nobody. Never raises StoreError."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}
        self._until: dict[str, int] = {}
        self._charged = 0
        self._greylist: dict[str, Record] = {}

    def reserve(self, charges: Sequence[Charge], now: int) -> tuple[Standing, ...]:
        with self._lock:
            standings = window.reserve(self._buckets, charges, now)
            for charge in charges:
                self._until[charge.bucket] = self._buckets[charge.bucket].until(charge.width)
            self._charged += 1
            if self._charged % _LOOK_AFTER == 0:
                self._drop([name for name, until in self._until.items() if until <= now])
        return standings

    def settle(self, charges: Sequence[Charge], ending: Ending, now: int) -> None:
        with self._lock:
            window.settle(self._buckets, charges, ending)

    def buckets(self) -> Iterator[tuple[str, Bucket]]:
        with self._lock:
            found = [(name, Bucket(dict(each.counts), dict(each.held))) for name, each in self._buckets.items()]
        yield from found

    def forget(self, names: Sequence[str]) -> int:
        with self._lock:
            return self._drop(names)

    def attempt(self, asked: Attempt, now: int) -> Answer:
        with self._lock:
            answer = greylist.attempt(self._greylist, asked, now)
            if len(self._greylist) > 2 * self._most:
                self._make_room(now)
        return answer

    def delivered(self, attempts: Sequence[Attempt], now: int, *, proven: bool) -> None:
        with self._lock:
            greylist.delivered(self._greylist, attempts, now, proven=proven)

    def close(self) -> None:
        """Nothing is held that the process would not free."""

    def _make_room(self, now: int) -> None:
        """A tenth more than there must be, so that it is seldom done."""
        lasting = sorted(self._greylist.items(), key=lambda named: named[1].until, reverse=True)
        kept: list[tuple[str, Record]] = []
        for waits in (True, False):
            kind = [named for named in lasting if named[1].waits == waits and named[1].until >= now]
            kept += kind[: self._most * 9 // 10]
        self._greylist = dict(kept)

    def _drop(self, names: Sequence[str]) -> int:
        for name in names:
            self._until.pop(name, None)
        return sum(self._buckets.pop(name, None) is not None for name in names)
