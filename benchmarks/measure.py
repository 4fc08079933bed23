"""What a filter costs while mail goes through it: CPU time of all its processes, memory, and how long mail waits."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from filters import Filter
from mails import CLIENT

_TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


class WrongError(Exception):
    """The filter did not do its work, so that figures of it would mean nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. `cpu` is in µs a mail; `waits` in ms from a mail's end to the filter's answer: p50, p95, p99."""

    cpu: float
    per_second: float
    waits: tuple[float, float, float]


def run(
    loadgen: Path, filter_: Filter, mail: Path, count: int, connections: int = 4, per_connection: int = 1
) -> Sample:
    """Send a mail `count` times. Raises WrongError where one came out without what the filter has to add."""
    before = _cpu(filter_.pid)
    done = subprocess.run(  # noqa: S603 # ours
        [
            loadgen, filter_.socket, f"connections={connections}", f"messages={count}",
            f"per_connection={per_connection}", f"ip={CLIENT}", f"want={filter_.wants}", mail,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = dict(pair.split("=", 1) for pair in done.stdout.split())
    if done.returncode:
        raise WrongError(f"{filter_.name}, {mail.name}: {done.stdout}{done.stderr}")
    return Sample(
        (_cpu(filter_.pid) - before) / count,
        count / float(said["seconds"]),
        (float(said["p50"]), float(said["p95"]), float(said["p99"])),
    )


def processes(pid: int) -> list[int]:
    """The process and all that it has begun."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def memory(pid: int, field: str = "VmRSS") -> list[int]:
    """What each process holds (VmRSS), or held at most (VmHWM), in octets, the largest first."""
    sizes = [
        int(line.split()[1]) * 1024
        for each in processes(pid)
        for line in Path(f"/proc/{each}/status").read_text().splitlines()
        if line.startswith(f"{field}:")
    ]
    return sorted(sizes, reverse=True)


def _cpu(pid: int) -> float:
    """µs of user and system time, of processes that have ended in between, too."""
    total = 0
    for each in processes(pid):
        words = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, words[11:15]))
    return total * _TICK_US
