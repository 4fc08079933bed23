"""Figures as a table: medians, how far the middle half of the rounds lies apart, and ratios."""

import statistics
from collections.abc import Callable, Sequence

from measure import Sample


def median(samples: Sequence[Sample], what: Callable[[Sample], float]) -> float:
    return statistics.median(map(what, samples))


def spread(values: Sequence[float]) -> str:
    """The median and the quartiles: 0.58 (0.56 to 0.61)."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def row(name: str, samples: Sequence[Sample], peak: int) -> str:
    """A filter's line."""
    cpu, rate = median(samples, lambda each: each.cpu), median(samples, lambda each: each.per_second)
    waits = (median(samples, lambda each, at=at: each.waits[at]) for at in range(3))  # type: ignore[misc]
    return f"  {name:<24}{cpu:>10,.0f}{rate:>9,.0f}{''.join(f'{wait:>9.2f}' for wait in waits)}{peak / 1e6:>9.0f}"


HEAD = f"  {'':<24}{'CPU µs':>10}{'mails/s':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'RSS MB':>9}"


def ratios(ours: Sequence[Sample], *theirs: Sequence[Sample]) -> str:
    """Our CPU time as a multiple of theirs together, round by round."""
    together = [sum(each.cpu for each in those) for those in zip(*theirs, strict=True)]
    return spread([mine.cpu / other for mine, other in zip(ours, together, strict=True)])
