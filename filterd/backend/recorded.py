"""Keeps what DNS answered while a mail was judged, so that the judgement can be repeated and explained."""

import threading
from collections.abc import Iterable

from filterd.lookup import Answer, Outcome, Resolver
from filterd.mail.reason import Reason


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


class RecordedResolver:
    """Answers as DNS did once, from a record. What was not asked then is nobody's to say now: see `unasked`."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        self._answers = {(answer.name, answer.rdtype): answer for answer in answers}
        self.unasked: list[str] = []

    def lookup(self, name: str, rdtype: str) -> Answer:
        name = name.lower().removesuffix(".")
        found = self._answers.get((name, rdtype))
        if found is not None:
            return found
        self.unasked.append(name)
        return Answer(name, rdtype, Outcome.TEMPFAIL, reason=Reason.DNS_NOT_ASKED)

    def prefetch(self, name: str, rdtype: str) -> None:
        pass
