"""What became of an attempt to load the policy anew."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from filterd.policy.rules import Policy
from filterd.policy.schema import Server


class Outcome(StrEnum):
    """How it ended."""

    RELOADED = "reloaded"  #: all workers judge by the new policy; mail in flight ends under the old one
    REFUSED = "refused"  #: the policy has errors; the old one stays
    FAILED = "failed"  #: workers could not begin under it; the old one stays
    OVERTAKEN = "overtaken"  #: it was loaded anew once more before the workers were ready
    STOPPED = "stopped"  #: the daemon was told to stop meanwhile


@dataclass(frozen=True, slots=True)
class Reload:
    """One attempt, and the policy in force after it. `at` is in seconds since 1970.

    `errors` have their places in the file; `warnings` are of a policy that is used all the same.
    """

    at: float
    outcome: Outcome
    generation: int
    policy: str
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_mapping(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def warnings(policy: Policy, running: Server) -> list[str]:
    """What the operator should know of a policy that can be used; `running` is the server section in force."""
    found = ["the server section has changed, which takes a restart"] if policy.server != running else []
    return found + [f"shadow: {error}" for error in (policy.shadow.errors if policy.shadow else ())]
