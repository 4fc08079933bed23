"""The sliding window, in slots: how much was counted in any span of time. Pure: the clock's value is an argument.

A span is cut into 60 slots, and one slot more than a span is looked at: so never more than `most` is admitted in any
span, wherever it begins, and at most one slot's time passes before room that should be there is. All times are whole
milliseconds since 1970, which every store's numbers hold exactly.

What a mail wants is held under the mail's name until its end, which counts or refunds it. To ask again for the same
mail raises what is held to the new total, so that two sides that see the same mail charge it once.

A clock that jumps does harm for one window at most: what was counted in the future is taken for counted now.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

SLOTS = 60
#: What is held longer than this has lapsed: the worker that held it was killed.
HELD_FOR = 3_600_000


@dataclass(frozen=True, slots=True)
class Held:
    """What one mail wants, or one of the different things that are counted, since `at`.

    `kept`: if nobody ends it, it is counted, not refunded.
    """

    at: int
    cost: int
    kept: bool


@dataclass(slots=True)
class Bucket:
    """What is known of one key: counts by the number of their slot, and what is held by its name."""

    counts: dict[int, int] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)

    @property
    def used(self) -> int:
        return sum(self.counts.values()) + sum(each.cost for each in self.held.values())

    def until(self, width: int) -> int:
        """From when on nothing in it counts any more."""
        latest = max([*self.counts, *(each.at // width for each in self.held.values())], default=0)
        return (latest + SLOTS + 1) * width


class Recorded(StrEnum):
    """When a charge leaves a trace."""

    ADMITTED = "admitted"  #: if the mail is let through
    ALWAYS = "always"  #: even if not; the time is renewed whenever the same comes again
    NEVER = "never"  #: it only asks


@dataclass(frozen=True, slots=True)
class Charge:
    """One question to one bucket: is there room for this?

    `cost` is all that the mail wants of this bucket so far, not only what is new. `member` names the mail, or the thing
    that counts once. Where one `binding` charge of several finds no room, none of them is recorded as admitted.
    """

    bucket: str
    most: int
    span: int
    cost: int
    member: str
    kept: bool = False
    binding: bool = True
    recorded: Recorded = Recorded.ADMITTED
    held_for: int = HELD_FOR

    @property
    def width(self) -> int:
        """A slot's length, rounded up, as a window may be longer than asked for, never shorter."""
        return -(-self.span // SLOTS)


@dataclass(frozen=True, slots=True)
class Standing:
    """What came of a charge: whether there was room, how much is used now, and when, in milliseconds, there is room."""

    fits: bool
    used: int
    retry_after: int = 0


class Ending(StrEnum):
    """What becomes of what is held."""

    COUNT = "count"  #: the mail was taken: what the charge says is counted
    REFUND = "refund"  #: it was not
    LEAVE = "leave"  #: who asks has heard the last of the mail: counted, unless another took it over


def reserve(buckets: MutableMapping[str, Bucket], charges: Sequence[Charge], now: int) -> tuple[Standing, ...]:
    """Charge all or nothing. `buckets` has those of the charges that exist, and has all of them, up to date, after."""
    room = []
    for charge in charges:
        bucket = buckets[charge.bucket] = current(buckets.get(charge.bucket, Bucket()), charge, now)
        room.append(bucket.used + _more(bucket, charge) <= charge.most)
    admitted = all(fits or not charge.binding for charge, fits in zip(charges, room, strict=True))
    standings = []
    for charge, fits in zip(charges, room, strict=True):
        bucket = buckets[charge.bucket]
        if charge.recorded is Recorded.ALWAYS or (charge.recorded is Recorded.ADMITTED and admitted and fits):
            _hold(bucket, charge, now)
        standings.append(Standing(fits, bucket.used, 0 if fits else _wait(bucket, charge, now)))
    return tuple(standings)


def settle(buckets: Mapping[str, Bucket], charges: Sequence[Charge], ending: Ending) -> None:
    """End what charges hold; what is not held any more is left alone."""
    for charge in charges:
        bucket = buckets.get(charge.bucket)
        held = bucket.held.get(charge.member) if bucket is not None else None
        if bucket is None or held is None or (ending is Ending.LEAVE and not held.kept):
            continue
        del bucket.held[charge.member]
        if ending is not Ending.REFUND:
            _add(bucket.counts, held.at // charge.width, charge.cost)


def current(bucket: Bucket, charge: Charge, now: int) -> Bucket:
    """The bucket as it is now: without what has left the window or lapsed."""
    width = charge.width
    slot = now // width
    first = slot - SLOTS
    counts: dict[int, int] = {}
    for number, count in bucket.counts.items():
        if number >= first:
            _add(counts, min(number, slot), count)
    held: dict[str, Held] = {}
    for member, each in bucket.held.items():
        at = min(each.at, now)
        if at // width < first:
            continue
        if now - at < charge.held_for:
            held[member] = Held(at, each.cost, each.kept)
        elif each.kept:
            _add(counts, at // width, each.cost)
    return Bucket(counts, held)


def _more(bucket: Bucket, charge: Charge) -> int:
    """What the charge wants above what is held for it."""
    held = bucket.held.get(charge.member)
    return max(0, charge.cost - held.cost) if held else charge.cost


def _hold(bucket: Bucket, charge: Charge, now: int) -> None:
    held = bucket.held.get(charge.member)
    if held is None:
        # What is recorded always is bounded all the same: one too many is enough to know.
        if bucket.used <= charge.most:
            bucket.held[charge.member] = Held(now, charge.cost, charge.kept)
        return
    renewed = charge.recorded is Recorded.ALWAYS or charge.cost > held.cost
    bucket.held[charge.member] = Held(
        now if renewed else held.at, max(charge.cost, held.cost), held.kept and charge.kept
    )


def _wait(bucket: Bucket, charge: Charge, now: int) -> int:
    """How long until enough has left the window; a whole span where that would never be enough."""
    width = charge.width
    leaving = [*bucket.counts.items(), *((each.at // width, each.cost) for each in bucket.held.values())]
    missing = bucket.used + _more(bucket, charge) - charge.most
    for number, count in sorted(leaving):
        missing -= count
        if missing <= 0:
            return (number + SLOTS + 1) * width - now
    return charge.span


def _add(counts: dict[int, int], slot: int, count: int) -> None:
    counts[slot] = counts.get(slot, 0) + count
