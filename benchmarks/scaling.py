"""How filterd grows: with workers, and what a mail costs by its size, fields, signatures and recipients.

The load generator and all else on the machine take processor time that a worker could have had: throughput is also
given by CPU time, of which a worker has a second a second at most. A mail's cost is CPU time alone.
"""

import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from filters import Filter, Job, filterd
from mails import Kind
from measure import cpu_times, run
from report import spread
from stage import Stage

_SIZES = (5_000, 20_000, 100_000, 500_000, 2_000_000)
_FIELDS = (0, 50, 200, 800)
_SIGNATURES = (1, 2, 3, 5)
_RECIPIENTS = (1, 10, 50, 250)
_COMPUTING = """
import time
words, done = b"lorem ipsum " * 500, 0
while time.process_time() < 1:
    done += len(dict(enumerate(words.split(b" "))))
print(done)
"""


def workers(stage: Stage) -> None:
    """Two workers beside one: mails a second as seen, and as the busiest worker's CPU time would allow."""
    mail, asked = stage.mails.signed(Kind(5_000)), stage.asked
    seen: list[float] = []
    alone: list[float] = []
    machine: list[float] = []
    print(f"2 workers beside 1, {os.cpu_count()} processors, the load generator on them, too")
    with ExitStack() as together:
        one, two = (
            together.enter_context(filterd(Job.VERIFY, stage.setting(f"workers-{number}"), workers=number))
            for number in (1, 2)
        )
        for number in range(asked.rounds + 1):
            of_one, of_two = (_throughput(stage, each, mail) for each in (one, two))
            if number:
                seen.append(of_two.seen / of_one.seen)
                alone.append(of_two.alone / of_one.alone)
                machine.append(_computed(2) / _computed(1))
                for words, rate in (("1 worker ", of_one), ("2 workers", of_two)):
                    figures = f"{rate.seen:>6,.0f} mails/s, {rate.alone:>6,.0f} by CPU"
                    print(f"  {words}  {figures}; loadgen {rate.generator:,.0f} µs")
    print(f"  2 / 1, mails a second as seen                   {spread(seen)}")
    print(f"  2 / 1, mails a CPU second of the busiest worker {spread(alone)}, at least 1.80")
    print(f"  2 / 1, processes that only compute              {spread(machine)}\n", flush=True)


@dataclass(frozen=True, slots=True)
class _Throughput:
    """Mails a second: as seen, and `alone` where each worker has a processor that nobody else wants.

    `generator` is the load generator's CPU time in µs a mail."""

    seen: float
    alone: float
    generator: float


def _throughput(stage: Stage, daemon: Filter, mail: Path) -> _Throughput:
    before = cpu_times(daemon.pid)
    sample = run(stage.asked.loadgen, daemon, [mail], stage.asked.count, connections=8)
    busiest = max(spent - before.get(pid, 0.0) for pid, spent in cpu_times(daemon.pid).items())
    return _Throughput(sample.per_second, stage.asked.count * 1e6 / busiest, sample.generator)


def _computed(processes: int) -> int:
    """How much so many processes get done together, in a second of CPU time each: what the machine itself allows."""
    program = [sys.executable, "-c", _COMPUTING]
    with ExitStack() as stack:
        running = [
            stack.enter_context(subprocess.Popen(program, stdout=subprocess.PIPE))  # noqa: S603 # ours
            for _ in range(processes)
        ]
        return sum(int(each.communicate()[0]) for each in running)


def growth(stage: Stage) -> None:
    """What a mail costs by its size, fields, signatures and recipients, and the exponent of each."""
    ways: dict[str, list[tuple[int, Kind, dict[str, object]]]] = {
        "octets": [(size, Kind(size), {}) for size in _SIZES],
        "fields": [(10 + fields, Kind(5_000, fields=fields), {}) for fields in _FIELDS],
        "signatures": [(number, Kind(5_000, signatures=number), {}) for number in _SIGNATURES],
        "recipients": [(number, Kind(5_000), {"recipients": number}) for number in _RECIPIENTS],
    }
    with filterd(Job.VERIFY, stage.setting("growth")) as daemon:
        for name, points in ways.items():
            costs: list[list[float]] = [[] for _ in points]
            for number in range(stage.asked.rounds + 1):
                for cost, (_, kind, more) in zip(costs, points, strict=True):
                    count = max(20, stage.asked.count * 5_000 // max(5_000, kind.size // 4))
                    sample = run(stage.asked.loadgen, daemon, [stage.mails.signed(kind)], count, **more)
                    if number:
                        cost.append(sample.cpu)
            middle = [statistics.median(cost) for cost in costs]
            at = [amount for amount, _, _ in points]
            print(
                "  " + ", ".join(f"{amount:,} {name}: {cost:,.0f} µs" for amount, cost in zip(at, middle, strict=True))
            )
            each, power = fitted(at, middle)
            print(f"    at most {each:.3g} µs more for each; exponent {power:.2f}", flush=True)
    print()


def fitted(amounts: Sequence[int], costs: Sequence[float]) -> tuple[float, float]:
    """What one more costs at most, between neighbours; and the exponent, of what is above the first's cost, by least
    squares of logarithms: 1 where it is linear. Of amounts that cost no more, the exponent is 0."""
    pairs = list(zip(amounts, costs, strict=True))
    slopes = [(high[1] - low[1]) / (high[0] - low[0]) for low, high in pairwise(pairs)]
    above = [
        (math.log(amount - amounts[0]), math.log(cost - costs[0])) for amount, cost in pairs[1:] if cost > costs[0]
    ]
    if len(above) < 2:
        return max(slopes), 0.0
    return max(slopes), statistics.linear_regression(*zip(*above, strict=True)).slope
