"""What a limit counts, how much, and in what time; as a policy has it in words. Who is counted is not known here."""

from dataclasses import dataclass
from enum import StrEnum

TIMES = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}  # milliseconds
#: As the metric system and IEC 80000-13 have them.
SIZES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class Unit(StrEnum):
    """What is counted."""

    MESSAGES = "messages"
    RECIPIENTS = "recipients"
    BYTES = "bytes"
    FAILURES = "failures"  #: different recipients that a rule refused, or the MTA for good
    NETWORKS = "networks"  #: different networks that clients came from

    @property
    def distinct(self) -> bool:
        """Whether the same counts once, however often it is seen."""
        return self in (Unit.FAILURES, Unit.NETWORKS)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `most` of `unit` in any `span` of time, in milliseconds."""

    most: int
    unit: Unit
    span: int

    def smoothed(self, burst: int) -> "Rate":
        """The rate that keeps to the same pace, and lets no more than `burst` come at once."""
        return Rate(burst, self.unit, max(1000, self.span * burst // max(1, self.most)))

    def __str__(self) -> str:
        counted = size_text(self.most) if self.unit is Unit.BYTES else f"{self.most} {self.unit}"
        return f"{counted} per {duration_text(self.span / 1000)}"


def duration_text(seconds: float) -> str:
    """As a policy has it: `1h30m`, `500ms`."""
    left, text = round(seconds * 1000), ""
    # 30d says more than 4w2d.
    for unit, size in list(TIMES.items())[1:]:
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def size_text(size: int) -> str:
    """As a policy has it, exact: `512KiB`, `10MB`, `1000001B`."""
    for unit in ("GiB", "GB", "MiB", "MB", "KiB", "kB"):
        if size and size % SIZES[unit] == 0:
            return f"{size // SIZES[unit]}{unit}"
    return f"{size}B"
