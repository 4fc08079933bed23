"""Keeps what DNS answered while a mail was judged, so that the judgement can be repeated and explained."""

import threading

from filterd.lookup import Answer, Resolver


class RecordingResolver:
    """A Resolver that hands every question on, and remembers each answer that was used, once.

    `part` is who asks from now on.
    """

    def __init__(self, inner: Resolver, part: str = "") -> None:
        self.part = part
        self._inner = inner
        self._answers: dict[tuple[str, str], Answer] = {}
        self._asked: dict[str, dict[tuple[str, str], None]] = {}
        self._lock = threading.Lock()

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The answers in the order of their first use; of one question the first answer."""
        with self._lock:
            return tuple(self._answers.values())

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """The questions that each part asked, as `TXT bank.example`."""
        with self._lock:
            return {part: tuple(f"{rdtype} {name}" for name, rdtype in asked) for part, asked in self._asked.items()}

    def lookup(self, name: str, rdtype: str) -> Answer:
        answer = self._inner.lookup(name, rdtype)
        question = (answer.name, answer.rdtype)
        with self._lock:
            self._asked.setdefault(self.part, {})[question] = None
            return self._answers.setdefault(question, answer)

    def prefetch(self, name: str, rdtype: str) -> None:
        self._inner.prefetch(name, rdtype)
