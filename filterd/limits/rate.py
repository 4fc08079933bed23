"""Rates as they are written in a policy: `200 recipients per 1h`. Knows nothing of who is counted."""

import re
from dataclasses import dataclass
from enum import StrEnum

_RATE = re.compile(
    r"(?P<most>\d{1,12})\s*(?P<unit>[A-Za-z]+)?\s+per\s+(?P<count>\d{1,6})\s*(?P<time>s|m|h|d)", re.IGNORECASE
)
_TIMES = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZES = {"bytes": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_LONGEST = 31 * _TIMES["d"]
# Each of them is remembered by name.
_MOST_DISTINCT = 1000


class Unit(StrEnum):
    """What is counted."""

    MESSAGES = "messages"
    RECIPIENTS = "recipients"
    BYTES = "bytes"
    FAILURES = "failures"  #: different recipients that were refused
    NETWORKS = "networks"  #: different networks that clients came from

    @property
    def distinct(self) -> bool:
        """Whether the same counts once, however often it is seen."""
        return self in (Unit.FAILURES, Unit.NETWORKS)


class RateError(ValueError):
    """The text is no rate; the message says what would be."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `most` of `unit` in any `span` of time, in milliseconds."""

    most: int
    unit: Unit
    span: int

    @classmethod
    def parse(cls, text: str, unit: Unit | None = None) -> "Rate":
        """Read `200 recipients per 1h` or `50 MB per 1d`; without a word for what is counted, `unit` is. Raises
        RateError."""
        found = _RATE.fullmatch(text.strip())
        if found is None:
            raise RateError('a rate reads like "200 recipients per 1h", "20 messages per 10m" or "50 MB per 1d"')
        most, span = int(found["most"]), int(found["count"]) * _TIMES[found["time"].lower()]
        if not 1000 <= span <= _LONGEST:
            raise RateError("the time of a rate is from 1s to 31d")
        word = (found["unit"] or "").lower()
        if word in _SIZES or f"{word}s" in _SIZES:
            return cls(most * _SIZES.get(word, 1), Unit.BYTES, span)
        counted = next((each for each in Unit if word in (each.value, each.value[:-1])), None) if word else unit
        if counted is None:
            what = f"{found['unit']} cannot be counted" if word else "it does not say what is counted"
            raise RateError(f"{what}; what can be is {', '.join(Unit)}, or KB, MB and GB")
        if counted.distinct and most > _MOST_DISTINCT:
            raise RateError(f"different {counted} are counted up to {_MOST_DISTINCT}")
        return cls(most, counted, span)

    def smoothed(self, burst: int) -> "Rate":
        """The rate that keeps to the same pace, and lets no more than `burst` come at once."""
        return Rate(burst, self.unit, max(1000, self.span * burst // max(1, self.most)))

    def __str__(self) -> str:
        name = next((name for name, length in reversed(_TIMES.items()) if self.span % length == 0), "s")
        return f"{self.most} {self.unit} per {self.span / _TIMES[name]:g}{name}"
