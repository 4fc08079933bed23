"""What a filter costs while mail goes through it: CPU time of all its processes, memory, and how long mail waits."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filters import Filter
from mails import CLIENT

_TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


class WrongError(Exception):
    """The filter did not do its work, so that figures of it would mean nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. `cpu` is in µs a mail, `generator` that of the load generator; `waits` in ms from a mail's end to the
    filter's answer: p50, p95, p99. `slots` are how many mails ended in each slot, if asked for."""

    cpu: float
    per_second: float
    waits: tuple[float, float, float]
    generator: float
    slots: tuple[int, ...] = ()


def run(
    loadgen: Path, filter_: Filter, mails: Sequence[Path], count: int, connections: int = 4, **more: object
) -> Sample:
    """Send `count` mails by turns; `more` is for the load generator.

    Raises WrongError where one came out without what the filter has to add.
    """
    before = cpu_time(filter_.pid)
    options = {"connections": connections, "messages": count, "ip": CLIENT, "want": filter_.wants, **more}
    done = subprocess.run(  # noqa: S603 # ours
        [loadgen, filter_.socket, *(f"{name}={value}" for name, value in options.items()), *mails],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = dict(pair.split("=", 1) for pair in done.stdout.split())
    if done.returncode:
        raise WrongError(f"{filter_.name}, {mails[0].name}: {done.stdout}{done.stderr}")
    return Sample(
        (cpu_time(filter_.pid) - before) / count,
        count / float(said["seconds"]),
        (float(said["p50"]), float(said["p95"]), float(said["p99"])),
        float(said["cpu"]) * 1e6 / count,
        tuple(map(int, said["slots"].split(","))) if "slots" in said else (),
    )


def processes(pid: int) -> list[int]:
    """The process and all that it has begun."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def memory(pid: int, field: str = "VmRSS") -> list[int]:
    """What each process holds (VmRSS), or held at most (VmHWM), in octets; what begun it comes first."""
    return [_size(Path(f"/proc/{each}/status"), field) for each in processes(pid)]


def proportional(pid: int) -> list[int]:
    """What each process holds, in octets, where what several share is divided among them (PSS)."""
    return [_size(Path(f"/proc/{each}/smaps_rollup"), "Pss") for each in processes(pid)]


def forget_peaks(pid: int) -> None:
    """What VmHWM says from now on is of what comes."""
    for each in processes(pid):
        Path(f"/proc/{each}/clear_refs").write_text("5")


def _size(file: Path, field: str) -> int:
    return next(int(line.split()[1]) * 1024 for line in file.read_text().splitlines() if line.startswith(f"{field}:"))


def cpu_time(pid: int) -> float:
    """µs of user and system time, of processes that have ended in between, too."""
    return sum(cpu_times(pid).values())


def cpu_times(pid: int) -> dict[int, float]:
    """The same by process, what each has waited for with it."""
    return {each: _cpu_time(each) for each in processes(pid)}


def _cpu_time(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) * _TICK_US
