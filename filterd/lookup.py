"""What a DNS question can come to, and who may be asked.

Checks ask a `Resolver` that they are handed; where it gets its answers (the network, a zone file, a record of an
earlier judgement) is not theirs to know. The world's faults are answers, never exceptions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from filterd.mail.reason import Reason


class Outcome(StrEnum):
    """How a question ended."""

    FOUND = "found"  #: there are records of that type
    NODATA = "nodata"  #: the name exists, without records of that type
    NXDOMAIN = "nxdomain"  #: the name does not exist, nor anything below it (RFC 8020)
    TEMPFAIL = "tempfail"  #: nobody could say; `reason` tells why


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question.

    `name` is absolute, lower case, without the final dot. `values`: TXT records are bytes, each with its strings joined
    (RFC 7208 3.3, RFC 6376 3.6.2.2); addresses are text; names (PTR, CNAME, NS) are text without the final dot; MX is
    "PREFERENCE NAME". `ttl` is in seconds. `reason` is set where the outcome is TEMPFAIL, or the name could not be
    asked.
    """

    name: str
    rdtype: str
    outcome: Outcome
    values: tuple[bytes | str, ...] = ()
    ttl: int = 0
    reason: Reason | None = None

    @property
    def texts(self) -> tuple[bytes, ...]:
        """The values of a TXT answer."""
        return tuple(value for value in self.values if isinstance(value, bytes))

    @property
    def names(self) -> tuple[str, ...]:
        """The values of any other answer."""
        return tuple(value for value in self.values if isinstance(value, str))


class Resolver(Protocol):
    """Somebody who answers DNS questions within the time a message has left."""

    def lookup(self, name: str, rdtype: str) -> Answer:
        """Answer, at the latest when the deadline is reached. `name` is absolute, with or without the final dot."""
        ...

    def prefetch(self, name: str, rdtype: str) -> None:
        """Begin to find an answer that `lookup` will be asked for soon; never waits."""
        ...


class ZoneResolver:
    """Answers from a table: for tests, and for judging offline.

    What is not in the table is NODATA where the name or anything below it exists, else NXDOMAIN.
    """

    def __init__(self, answers: Mapping[tuple[str, str], Answer]) -> None:
        self._answers = dict(answers)
        self._names: set[str] = set()
        for name, _ in self._answers:
            labels = name.split(".")
            # RFC 8020: a name above an existing one exists too.
            self._names.update(".".join(labels[i:]) for i in range(len(labels)))

    def lookup(self, name: str, rdtype: str) -> Answer:
        name = name.lower().removesuffix(".")
        found = self._answers.get((name, rdtype))
        if found is not None:
            return found
        outcome = Outcome.NODATA if name in self._names else Outcome.NXDOMAIN
        return Answer(name, rdtype, outcome)

    def prefetch(self, name: str, rdtype: str) -> None:
        pass
