"""How the daemon goes: what the master knows of its processes, and what all workers have counted since it began."""

import os
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from filterd.daemon import metrics
from filterd.daemon.places import Generation, Worker
from filterd.daemon.reload import Outcome, Reload
from filterd.daemon.tally import Key, Tally

# How many faults are shown.
_FAULTS = 20


@dataclass(slots=True)
class Past:
    """What is over: the numbers of workers that ended, reloads, faults. `since` is in seconds since 1970."""

    since: float = field(default_factory=time.time)
    numbers: Counter[Key] = field(default_factory=Counter)
    faults: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=_FAULTS))
    reload: Reload | None = None

    def count(self, key: Key) -> None:
        """Add one."""
        self.numbers[key] += 1

    def take(self, tally: Tally) -> None:
        """Keep what a worker that ended had counted."""
        self.numbers.update(tally.read())
        self.faults.extend(tally.notes())
        tally.close()

    def reloaded(self, reload: Reload) -> None:
        """The policy was loaded anew, or was not."""
        self.count(("filterd_reloads", reload.outcome.value))
        if reload.outcome is not Outcome.OVERTAKEN:
            self.reload = reload


@dataclass(frozen=True, slots=True)
class State:
    """What the master knows at a moment. `living` are all workers by process id, `leaving` those told to go."""

    current: Generation
    next: Generation | None
    living: Mapping[int, Worker]
    leaving: Collection[int]
    past: Past
    stopping: bool

    @property
    def ready(self) -> bool:
        """Whether mail is judged: by one worker at least."""
        return not self.stopping and any(place.ready for place in self.current.places)

    def numbers(self) -> Counter[Key]:
        """All that was counted."""
        found = self.past.numbers.copy()
        for worker in self.living.values():
            found.update(worker.tally.read())
        return found

    def faults(self) -> list[tuple[float, str]]:
        """The latest faults, the oldest first."""
        found = [*self.past.faults, *(note for worker in self.living.values() for note in worker.tally.notes())]
        return sorted(found)[-_FAULTS:]

    def workers(self) -> list[dict[str, Any]]:
        """Each worker: its process id, generation, age in seconds, and whether it is starting, ready or leaving."""
        serving = {place.pid for each in (self.current, self.next) if each for place in each.places if place.ready}
        now = time.monotonic()
        return [
            {
                "pid": pid,
                "generation": worker.generation,
                "state": "leaving" if pid in self.leaving else "ready" if pid in serving else "starting",
                "age": round(now - worker.began, 1),
            }
            for pid, worker in self.living.items()
        ]


def status(state: State) -> dict[str, Any]:
    """The state as plain data for JSON. Times are in seconds since 1970."""
    numbers, reload = state.numbers(), state.past.reload
    candidate = state.current.policy.shadow
    return {
        "version": 1,
        "ready": state.ready,
        "stopping": state.stopping,
        "pid": os.getpid(),
        "since": state.past.since,
        "now": time.time(),
        "generation": state.current.number,
        "policy": state.current.policy.digest,
        "workers": state.workers(),
        "reload": reload.to_mapping() if reload else None,
        "mails": _table(numbers, metrics.MAILS, "verdict", "rule"),
        "envelopes": _table(numbers, metrics.ENVELOPES, "verdict", "rule"),
        "unsigned": _table(numbers, metrics.UNSIGNED, "reason"),
        "signed": round(numbers[metrics.SIGNED]),
        "results": _table(numbers, metrics.RESULTS, "method", "result"),
        "shadow": {
            "file": candidate.file if candidate else None,
            "policy": candidate.policy.digest if candidate and candidate.policy else None,
            "errors": [str(error) for error in candidate.errors] if candidate else [],
            "mails": _table(numbers, metrics.SHADOW, "divergence", "live_verdict", "live_rule", "verdict", "rule"),
        },
        "faults": {"count": round(sum(row["count"] for row in _table(numbers, metrics.FAULTS, "part"))),
                   "latest": [{"at": at, "text": text} for at, text in state.faults()]},
    }  # fmt: skip


def _table(numbers: Counter[Key], name: str, *labels: str) -> list[dict[str, Any]]:
    """The rows of a metric, the largest number first."""
    found = [(key[1:], number) for key, number in numbers.items() if key[0] == name and len(key) == len(labels) + 1]
    found.sort(key=lambda row: (-row[1], row[0]))
    return [{**dict(zip(labels, values, strict=True)), "count": round(number)} for values, number in found]


def exposition(state: State) -> str:
    """The same for Prometheus."""
    found = [row["state"] for row in state.workers()]
    states: dict[Key, float] = {("state", word): found.count(word) for word in ("starting", "ready", "leaving")}
    gauges: list[tuple[str, str, Mapping[Key, float]]] = [
        ("filterd_workers", "Workers by state.", states),
        ("filterd_policy_generation", "The generation of the policy in force.", {(): state.current.number}),
        ("filterd_policy_info", "The policy in force.", {("digest", state.current.policy.digest): 1}),
        ("filterd_start_time_seconds", "When the daemon began, in seconds since 1970.", {(): state.past.since}),
    ]
    return metrics.exposition(state.numbers(), gauges)
