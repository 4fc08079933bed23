"""State that was there before a test's mail came: what limits have counted, and greylisting remembers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from filterd.backend.memory_store import MemoryStore
from filterd.limits.greylist import Answer, Attempt, Record
from filterd.limits.keys import BucketName
from filterd.limits.window import Charge, Recorded, Standing
from filterd.policy.policy_tests import GivenGreylist, Used


class StateBefore(MemoryStore):
    """A test's own store. `used` is what each limit has counted, by its name, of whatever key it is asked for;
    `greylist` is what was seen of whatever sender it is asked for."""

    def __init__(self, used: Mapping[str, Sequence[Used]], greylist: GivenGreylist) -> None:
        super().__init__()
        self._given = greylist
        self._used = used
        self._filled: set[str] = set()

    def reserve(self, charges: Sequence[Charge], now: int) -> tuple[Standing, ...]:
        for charge in charges:
            name = BucketName.parse(charge.bucket)
            if name is not None and charge.bucket not in self._filled:
                self._filled.add(charge.bucket)
                said = (each.count for each in self._used.get(name.limit, ()) if each.unit in (None, name.unit))
                self._fill(charge, sum(said), now, distinct=name.unit.distinct)
        return super().reserve(charges, now)

    def attempt(self, asked: Attempt, now: int) -> Answer:
        given, terms = self._given, asked.terms
        if given.tried is not None:
            first = now - round(given.tried * 1000)
            self._greylist.setdefault(asked.triplet_name, Record(first, first + terms.window))
        if given.delivered:
            self._greylist.setdefault(asked.client_name, Record(now, now + terms.expire, given.delivered))
        return super().attempt(asked, now)

    def _fill(self, charge: Charge, used: int, now: int, *, distinct: bool) -> None:
        # Of different things, one more than there is room for is enough to be over.
        costs = [1] * min(used, charge.most + 1) if distinct else [used] if used else []
        for number, cost in enumerate(costs):
            before = replace(charge, most=used, cost=cost, member=f"before {number}", recorded=Recorded.ALWAYS)
            super().reserve([replace(before, kept=True)], now)
