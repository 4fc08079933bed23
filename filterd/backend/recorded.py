"""Keeps what DNS answered while a mail was judged, so that the judgement can be repeated and explained."""

import threading

from filterd.lookup import Answer, Resolver


class RecordingResolver:
    """A Resolver that hands every question on, and remembers each answer that was used, once."""

    def __init__(self, inner: Resolver) -> None:
        self._inner = inner
        self._answers: dict[tuple[str, str], Answer] = {}
        self._lock = threading.Lock()

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The answers in the order of their first use; of one question the first answer."""
        with self._lock:
            return tuple(self._answers.values())

    def lookup(self, name: str, rdtype: str) -> Answer:
        answer = self._inner.lookup(name, rdtype)
        with self._lock:
            return self._answers.setdefault((answer.name, answer.rdtype), answer)

    def prefetch(self, name: str, rdtype: str) -> None:
        self._inner.prefetch(name, rdtype)
