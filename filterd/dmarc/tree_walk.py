"""The DNS tree walk: which DMARC records stand at a name and above it (RFC 9989 4.10).

At most eight questions whatever the name, all asked at once. What the records mean for the name is not asked here.
"""

from dataclasses import dataclass

from filterd.dmarc.record import PublicSuffix, Record, parse
from filterd.lookup import Outcome, Resolver
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason

_MAX_LABELS_ABOVE = 7


@dataclass(frozen=True, slots=True)
class Found:
    """A record, and the domain that publishes it."""

    domain: Domain
    record: Record


@dataclass(frozen=True, slots=True)
class Walk:
    """The records from `start` upwards, longest name first.

    `failure` tells why DNS could not say whether there are more: what stands higher is then unknown.
    """

    start: Domain
    found: tuple[Found, ...] = ()
    failure: Reason | None = None


def query_name(domain: Domain) -> str:
    """Where a domain publishes its record."""
    return f"_dmarc.{domain.name}"


def query_names(start: Domain) -> tuple[str, ...]:
    """The names whose TXT records a walk may need, in its order."""
    return tuple(query_name(domain) for domain in _domains(start))


def prefetch(start: Domain, resolver: Resolver) -> None:
    """Have all of a walk's questions asked at once."""
    for name in query_names(start):
        resolver.prefetch(name, "TXT")


def tree_walk(start: Domain, resolver: Resolver) -> Walk:
    """Walk from `start` to the top-level domain, or to the first record that says where the organization ends."""
    prefetch(start, resolver)
    found: list[Found] = []
    for domain in _domains(start):
        answer = resolver.lookup(query_name(domain), "TXT")
        if answer.outcome is Outcome.TEMPFAIL:
            return Walk(start, tuple(found), answer.reason or Reason.DNS_SERVFAIL)
        records = [record for text in answer.texts if (record := parse(text))]
        # RFC 9989 4.10, steps 2 and 6: several records at one name are all discarded.
        if len(records) == 1:
            found.append(Found(domain, records[0]))
            if records[0].psd is not PublicSuffix.UNKNOWN:
                break
    return Walk(start, tuple(found))


def _domains(start: Domain) -> tuple[Domain, ...]:
    # RFC 9989 4.10, step 4: from eight labels and more the walk jumps to seven.
    labels = start.labels
    above = min(_MAX_LABELS_ABOVE, len(labels) - 1)
    return (start, *(Domain(".".join(labels[-count:])) for count in range(above, 0, -1)))
