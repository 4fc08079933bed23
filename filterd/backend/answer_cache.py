"""Answers kept for as long as their TTL says, within bounds: the memory of a process for DNS.

Knows nothing of how answers are had. Times are passed in, in seconds of the monotonic clock.
"""

import threading

from filterd.lookup import Answer, Outcome

_ENTRY_OCTETS = 512  # what an entry costs beside its values, about

Question = tuple[str, str]  #: name as Answer has it, and type


class AnswerCache:
    """A table of answers that many threads read at once.

    An answer is kept for its TTL, but at least `min_ttl` and at most `max_ttl` seconds; one that denies, at most
    `max_negative_ttl`; a failure for `failure_ttl` (RFC 2308 7.1). Past `max_octets` the oldest entries go first.
    """

    def __init__(
        self,
        max_octets: int = 32 * 1024 * 1024,
        min_ttl: float = 5,
        max_ttl: float = 3_600,
        max_negative_ttl: float = 900,
        failure_ttl: float = 5,
    ) -> None:
        self._max_octets = max_octets
        self._min_ttl = min_ttl
        self._max_ttl = max_ttl
        self._max_negative_ttl = max_negative_ttl
        self._failure_ttl = failure_ttl
        self._entries: dict[Question, tuple[float, Answer]] = {}  # in the order of their coming
        self._octets = 0
        self._lock = threading.Lock()

    def get(self, question: Question, now: float) -> Answer | None:
        """The answer, unless its time is over. Takes no lock: a dictionary's `get` is one step."""
        entry = self._entries.get(question)
        return entry[1] if entry is not None and now < entry[0] else None

    def put(self, question: Question, answer: Answer, now: float) -> None:
        """Keep an answer in the place of an older one."""
        with self._lock:
            self._drop(question)
            self._entries[question] = (now + self._lifetime(answer), answer)
            self._octets += _octets(answer)
            while self._octets > self._max_octets:
                self._drop(next(iter(self._entries)))

    def __len__(self) -> int:
        return len(self._entries)

    def _drop(self, question: Question) -> None:
        entry = self._entries.pop(question, None)
        if entry is not None:
            self._octets -= _octets(entry[1])

    def _lifetime(self, answer: Answer) -> float:
        if answer.outcome is Outcome.TEMPFAIL:
            return self._failure_ttl
        longest = self._max_ttl if answer.outcome is Outcome.FOUND else self._max_negative_ttl
        return max(self._min_ttl, min(answer.ttl, longest))


def _octets(answer: Answer) -> int:
    return _ENTRY_OCTETS + sum(map(len, answer.values))
