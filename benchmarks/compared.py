"""The table: what a mail costs filterd, and the filters that do the same work by turns.

Every round gives each filter the same mails, one filter after the other, so that what else the machine does meets all
of them. CPU is user and system time of all processes of a filter, a mail; waits are from a mail's end to the filter's
answer; RSS is what the largest process held at most. Ratios are of CPU time, with the quartiles of the rounds.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

import anchors
import filters
from far_away import far_away
from filters import Filter, Job, Setting
from mails import Kind
from measure import Sample, memory, run
from report import HEAD, median, ratios, row
from stage import Stage

#: How long an answer takes that comes from far away, in seconds.
ROUND_TRIP = 0.05


class Dns(StrEnum):
    """How answers of DNS come: known to the filter; known to nobody, each mail of another domain; so and from afar."""

    WARM = "DNS warm"
    COLD = "DNS cold"
    FAR = "DNS cold and 50 ms away"


@dataclass(frozen=True, slots=True)
class Case:
    """A line of the table, in front of its figures."""

    job: Job
    kind: Kind
    dns: Dns = Dns.WARM
    always: bool = False

    def __str__(self) -> str:
        return f"{self.job} {self.kind}, {self.dns}" if self.job is Job.VERIFY else f"{self.job} {self.kind}"


_SIZES = (100_000, 1_000_000, 25_000_000)
_CASES = [
    Case(Job.VERIFY, Kind(5_000), always=True),
    Case(Job.VERIFY, Kind(100_000), always=True),
    *(Case(Job.VERIFY, Kind(size)) for size in _SIZES[1:]),
    Case(Job.VERIFY, Kind(5_000, signatures=5), always=True),
    Case(Job.VERIFY, Kind(100_000, signatures=5)),
    *(Case(Job.VERIFY, Kind(size, form="simple")) for size in (5_000, *_SIZES)),
    Case(Job.VERIFY, Kind(5_000), Dns.COLD, always=True),
    Case(Job.VERIFY, Kind(5_000), Dns.FAR),
    Case(Job.SIGN, Kind(5_000), always=True),
    *(Case(Job.SIGN, Kind(size)) for size in _SIZES),
]


def main(stage: Stage) -> None:
    """Print the table."""
    wanted = [case for case in _CASES if (case.always or stage.asked.full) and stage.asked.only in str(case)]
    # Filters that ask one name server run together, and are started once.
    for (job, away), cases in groupby(wanted, lambda case: (case.job, case.dns is Dns.FAR)):
        with ExitStack() as together:
            address = stage.resolver.address
            if away:
                address = together.enter_context(far_away(address, ROUND_TRIP)).address
            places = _compared(job, stage.setting(f"{job}{'-far' if away else ''}", address))
            running = [together.enter_context(each) for each in places]
            for case in cases:
                _show(case, _rounds(stage, case, running), running)


def _compared(job: Job, setting: Setting) -> list[AbstractContextManager[Filter]]:
    """Who does this job, ourselves first."""
    makers: Iterable[Callable[[Job, Setting], AbstractContextManager[Filter]]] = (
        filters.filterd, anchors.opendkim, anchors.dkimpy_milter, anchors.rspamd,
    )  # fmt: skip
    found = [make(job, setting) for make in makers]
    return [*found, anchors.opendmarc(setting)] if job is Job.VERIFY else found


def _takes(filter_: Filter, case: Case) -> bool:
    """Of 25 MB, dkimpy needs seconds and a gigabyte, and rspamd breaks some connections off."""
    return case.kind.size < 25_000_000 or filter_.name not in ("dkimpy-milter", "rspamd")


def _rounds(stage: Stage, case: Case, running: Sequence[Filter]) -> dict[str, list[Sample]]:
    """The samples of each filter; what a first round warms up is not among them."""
    asked, found = stage.asked, defaultdict[str, list[Sample]](list)
    whole = max(8, asked.count * 5_000 // max(5_000, case.kind.size // 4) // case.kind.signatures)
    mails = [stage.mails.signed(case.kind) if case.job is Job.VERIFY else stage.mails.unsigned(case.kind)]
    count, more = whole, dict[str, object]()
    for number in range(asked.rounds + 1):
        if case.dns is not Dns.WARM:
            mails, more["sender"] = stage.mails.by_strangers(number)
            count = len(mails)
        for each in running:
            if not _takes(each, case):
                continue
            if case.dns is not Dns.WARM:
                stage.resolver.forget()
            sample = run(asked.loadgen, each, mails, count if number else max(8, count // 10), **more)
            if number:
                found[each.name].append(sample)
    return found


def _show(case: Case, found: dict[str, list[Sample]], running: Sequence[Filter]) -> None:
    print(f"{case}\n{HEAD}")
    for each in running:
        if each.name in found:
            print(row(each.name, found[each.name], max(memory(each.pid, "VmHWM"))))
    ours = found["filterd"]
    beside = [["OpenDKIM", "OpenDMARC"]] if case.job is Job.VERIFY else [["OpenDKIM"]]
    for names in [*beside, ["dkimpy-milter"], ["rspamd"]]:
        if all(name in found for name in names):
            print(f"  filterd / {' + '.join(names):<24}{ratios(ours, *(found[name] for name in names))}")
    if case.dns is Dns.FAR:
        trips = (
            f"{name} {median(each, lambda one: one.waits[0]) / ROUND_TRIP / 1e3:.1f}" for name, each in found.items()
        )
        print(f"  a mail's end waits for round trips: {', '.join(trips)}")
    print(flush=True)
