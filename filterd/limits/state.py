"""What a store of shared state can do for limits and greylisting: the same for every kind of store."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from filterd.limits.greylist import Answer, Attempt
from filterd.limits.window import Bucket, Charge, Ending, Standing


class StoreError(Exception):
    """The store does not answer, or not in time; the message says why, and has no secrets."""


class Store(Protocol):
    """Buckets, and what greylisting knows, that all who judge mail share.

    Every call is atomic, waits for a bounded time, and raises StoreError. `now` is in milliseconds since 1970; a store
    for several machines goes by its own clock. May be called by several threads at once.
    """

    def reserve(self, charges: Sequence[Charge], now: int) -> tuple[Standing, ...]:
        """Charge all or nothing, as `window.reserve` does. No two charges are to the same bucket."""

    def settle(self, charges: Sequence[Charge], ending: Ending, now: int) -> None:
        """End what was held, as `window.settle` does."""

    def buckets(self) -> Iterator[tuple[str, Bucket]]:
        """All buckets by name, those included that have run out and were not yet cleared away."""

    def forget(self, names: Sequence[str]) -> int:
        """Drop buckets; returns how many there were."""

    def attempt(self, asked: Attempt, now: int) -> Answer:
        """Answer a try to send, as `greylist.attempt` does."""

    def delivered(self, attempts: Sequence[Attempt], now: int, *, proven: bool) -> None:
        """A mail was taken, as `greylist.delivered` has it."""

    def close(self) -> None:
        """Free what the store holds; it is not used after."""
