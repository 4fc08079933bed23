"""What is written down while a mail is judged: who asked DNS what, how long it took, what is kept of the content.

Knows nothing of what a result means; `MailJudgement` makes the transcript of it.
"""

from collections.abc import Callable
from typing import TypeVar

from filterd.backend.recorded import RecordingResolver
from filterd.engine.runtime import Runtime
from filterd.lookup import Answer, Resolver
from filterd.mail.header import Header
from filterd.mail.indirect import indirect_marks
from filterd.mail.received import Handover
from filterd.policy.transcript import Content

# A larger body is not kept: a store is there to explain, not to archive.
_MAX_BODY = 1024 * 1024
T = TypeVar("T")


class Notes:
    """The notes of one mail. `times` are in milliseconds by part."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._deadline = runtime.policy.settings.dns.deadline
        settings = runtime.policy.settings.decisions
        self._keep = settings.keep if settings is not None else "none"
        self._part = ""
        self._recorders: list[RecordingResolver] = []
        self._body: list[bytes] = []
        self._body_size = 0
        self.times: dict[str, float] = {}
        self.handovers: list[Handover] = []
        self.sources: dict[str, tuple[str, ...]] = {}

    def resolver(self) -> Resolver:
        """DNS for the stage that begins: the MTA waits from now on, so the deadline counts from now."""
        deadline = self._runtime.clock.monotonic() + self._deadline
        recorder = RecordingResolver(self._runtime.resolver(deadline), self._part)
        self._recorders.append(recorder)
        return recorder

    def timed(self, part: str, find: Callable[[], T]) -> T:
        """Do a part of the work: what it asks and how long it takes are its own."""
        began = self._runtime.clock.monotonic()
        before, self._part = self._part, part
        if self._recorders:
            self._recorders[-1].part = part
        found = find()
        self._part = before
        self.times[part] = self.times.get(part, 0.0) + (self._runtime.clock.monotonic() - began) * 1000
        return found

    def header(self, header: Header) -> None:
        """From which fields the facts of the content come."""
        if not self._runtime.explains:
            return
        authors = header.all("From")
        if authors:
            self.sources["author"] = ("header From",) * len(authors)
        marks = indirect_marks(header)
        if marks:
            self.sources["message.indirect"] = tuple(f"header {name}" for name in marks)

    def body(self, chunk: bytes) -> None:
        """A part of the body, in order."""
        if self._keep == "message" and self._body_size <= _MAX_BODY:
            self._body_size += len(chunk)
            self._body.append(chunk)

    def content(self, header: Header | None) -> Content | None:
        """What the policy has kept of the mail."""
        if self._keep == "none" or header is None:
            return None
        whole = self._keep == "message" and self._body_size <= _MAX_BODY
        return Content(header, b"".join(self._body) if whole else None)

    def answers(self) -> tuple[Answer, ...]:
        """What DNS answered, each question once."""
        found: dict[tuple[str, str], Answer] = {}
        for recorder in self._recorders:
            found.update({(answer.name, answer.rdtype): answer for answer in recorder.answers})
        return tuple(found.values())

    def all_sources(self) -> dict[str, tuple[str, ...]]:
        """Where each part has its facts from: fields of the header, and questions to DNS."""
        if not self._runtime.explains:
            return {}
        sources = dict(self.sources)
        for recorder in self._recorders:
            for part, questions in recorder.sources.items():
                sources[part] = tuple(dict.fromkeys((*sources.get(part, ()), *questions)))
        return sources
