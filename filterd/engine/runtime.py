"""What judging needs besides the mail: one policy, its backends, a clock, and somebody to tell."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from filterd.backend.memory_store import MemoryStore
from filterd.engine.gather import Gather
from filterd.engine.signing import PublicationMemory
from filterd.limits.state import Store
from filterd.lookup import Resolver
from filterd.mail.domain import Domain, DomainError
from filterd.mail.transaction import Stage
from filterd.policy.rules import Policy
from filterd.policy.transcript import Transcript
from filterd.spam import Scanner


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` is in seconds since 1970, `monotonic` in seconds that never jump."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Runtime:
    """A policy snapshot with its backends; shared by all sessions that began under it.

    `resolver` gives a view of DNS that answers before a deadline (in the clock's monotonic seconds). `record` takes the
    transcript of every mail; it must not block for long and must not raise. `gather` makes what runs the checks of a
    mail; in a replay they are not run again. `scanner` is shown the content where the policy wants that.
    `explains` is whether transcripts have facts of the content and where facts come from: the log needs neither.
    """

    policy: Policy
    authserv_id: str
    resolver: Callable[[float], Resolver]
    record: Callable[[Transcript], None]
    clock: Clock = Clock()
    publications: PublicationMemory = field(default_factory=PublicationMemory)
    store: Store = field(default_factory=MemoryStore)
    gather: Callable[[Policy], Gather] = Gather
    scanner: Scanner | None = None
    explains: bool = True

    @property
    def other_ids(self) -> frozenset[str]:
        """Under which names other servers of ours give results."""
        return frozenset(self.policy.settings.identity.trusted_authserv_ids)

    def judges(self, stage: Stage) -> bool:
        """Whether any rule can decide at that stage: if not, the MTA need not wait for an answer."""
        return stage is Stage.END_OF_MESSAGE or self.policy.judges(stage)


def authserv_id(policy: Policy) -> str:
    """Under which name results are given (RFC 8601 2.5): the policy's, else this host's."""
    named = policy.settings.identity.authserv_id
    if named is not None:
        return named
    try:
        return Domain.parse(socket.gethostname()).name
    except DomainError:
        return "localhost"
