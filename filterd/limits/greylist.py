"""Greylisting (RFC 6647): what is new waits, and what comes again is let through. Pure: the clock is an argument.

A triplet is who sends, in whose name, to whom. Its first try begins a wait; a later try passes once the delay is over,
and begins anew once the retry window is. Who has passed often enough, or has proven once who wrote, waits no more.

A name in the store is a hash: no address is kept. All times are whole milliseconds. A clock that jumps back does no
more than begin a wait anew; one that jumps forward lets pass, or forget.
"""

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from filterd.limits.keys import short

#: So many names a store keeps of what waits, and as many of what is known, whoever sends how much: then those go that
#: would soonest run out. Each has its own room, or who is known would leave none to wait in, and nobody new came in.
MOST = 500_000


class Welcome(StrEnum):
    """How greylisting meets a mail."""

    FIRST = "first"  #: was never tried before, or too long ago
    EARLY = "early"  #: came again before its time
    PASSED = "passed"  #: came again in time
    KNOWN = "known"  #: this triplet has passed before, or this sender is known

    @property
    def waits(self) -> bool:
        """Whether the mail has to come again."""
        return self in (Welcome.FIRST, Welcome.EARLY)


@dataclass(frozen=True, slots=True)
class Terms:
    """How long, in milliseconds: until a retry passes, until it comes too late, until what is known is forgotten.

    `allow_after`: with so many mails delivered a client is known; 0 is never.
    """

    delay: int
    window: int
    expire: int
    allow_after: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try to send. `client` is who sends: a network, or a domain that SPF has verified; `sender` in whose name."""

    client: str
    sender: str
    recipient: str
    terms: Terms

    @property
    def triplet_name(self) -> str:
        """The name of the triplet in the store."""
        return f"t{short(f'{self.client} {self.sender} {self.recipient}')}"

    @property
    def client_name(self) -> str:
        """The name under which the client's deliveries are counted."""
        return f"c{short(self.client)}"

    @property
    def sender_name(self) -> str:
        """The name under which a sender is known who has proven who wrote."""
        return f"s{short(f'{self.client} {self.sender}')}"

    @property
    def names(self) -> tuple[str, str, str]:
        """All that is asked of the store, in this order."""
        return self.triplet_name, self.client_name, self.sender_name


@dataclass(frozen=True, slots=True)
class Record:
    """What is known under a name: `since` when, `until` when, and how many mails were delivered (of a triplet: 1)."""

    since: int
    until: int
    delivered: int = 0

    @property
    def waits(self) -> bool:
        """Whether nothing was delivered yet."""
        return self.delivered == 0


@dataclass(frozen=True, slots=True)
class Answer:
    """`waited` is how long ago the first try was, `retry_after` how long there is still to wait; both milliseconds."""

    welcome: Welcome
    waited: int = 0
    retry_after: int = 0


def attempt(records: MutableMapping[str, Record], asked: Attempt, now: int) -> Answer:
    """Answer a try. `records` has those of its names that exist, and what has to be kept of them after."""
    terms = asked.terms
    triplet, client, sender = (_current(records.get(name), now) for name in asked.names)
    known = (
        (sender is not None and asked.sender_name)
        or (client is not None and 0 < terms.allow_after <= client.delivered and asked.client_name)
        or (triplet is not None and triplet.delivered > 0 and asked.triplet_name)
    )
    if known:
        records[known] = _renewed(records[known], now, terms)
        return Answer(Welcome.KNOWN)
    if triplet is None:
        records[asked.triplet_name] = Record(now, now + terms.window)
        return Answer(Welcome.FIRST, 0, terms.delay)
    waited = max(0, now - triplet.since)
    if waited < terms.delay:
        # Before its own beginning stands only what a clock has set back: it waits no longer than anew.
        records[asked.triplet_name] = replace(triplet, since=min(triplet.since, now))
        return Answer(Welcome.EARLY, waited, terms.delay - waited)
    return Answer(Welcome.PASSED, waited)


def delivered(records: MutableMapping[str, Record], attempts: Sequence[Attempt], now: int, *, proven: bool) -> None:
    """A mail was taken; its attempts, which had passed, differ by their recipients alone. `proven`: DKIM or DMARC says
    who wrote it. A mail that is told of twice counts once.
    """
    if not attempts:
        return
    first, passed = attempts[0], False
    until = now + first.terms.expire
    for asked in attempts:
        triplet = _current(records.get(asked.triplet_name), now)
        if triplet is not None and triplet.delivered == 0:
            records[asked.triplet_name] = Record(min(triplet.since, now), until, 1)
            passed = True
    client, sender = (_current(records.get(name), now) for name in (first.client_name, first.sender_name))
    if passed:
        records[first.client_name] = Record(now, until, client.delivered + 1 if client is not None else 1)
    if proven:
        records[first.sender_name] = _renewed(sender or Record(now, 0, 1), now, first.terms)


def _current(record: Record | None, now: int) -> Record | None:
    return record if record is not None and now <= record.until else None


def _renewed(record: Record, now: int, terms: Terms) -> Record:
    """Known for the whole time again; not written anew for every mail."""
    return replace(record, until=now + terms.expire) if record.until < now + terms.expire * 9 // 10 else record
