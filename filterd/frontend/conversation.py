"""One connection of the MTA, message after message, whatever engine speaks its protocol.

Takes what the MTA says, has the session judge it on threads that are ours, and says what to answer. Faults of our own
end here: they are reported once, and become the declared fallback. Knows nothing of libmilter.
"""

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from filterd.engine.changes import NEEDED, Change, DeleteField, InsertField
from filterd.engine.fallback import own_fault
from filterd.engine.finish import Finished, strip_only
from filterd.engine.judgement import MAX_FIELDS, MAX_HEADER_OCTETS
from filterd.engine.runtime import Runtime
from filterd.engine.session import MailSession
from filterd.frontend.pool import Pool
from filterd.frontend.strand import Direct, Strand
from filterd.mail.header import Field, Header
from filterd.mail.transaction import Client, ForwardPath, ReversePath, Stage
from filterd.policy.verdict import Verdict

_CONTINUE = Verdict()
# What an event weighs that carries little; bodies weigh their bytes.
_EVENT = 1024
# Where the engine begins to ask DNS while the MTA goes on. What it asks at the end of the header it cannot be told much
# earlier than the end of a small message; a large body does not wait for that.
_ASKS_DNS = frozenset({Stage.MAIL, Stage.RCPT})


class Session(Protocol):
    """The engine's side of a connection: `MailSession`, or what a test puts there."""

    def connect(self, client: Client, daemon: str | None) -> Verdict: ...
    def helo(self, name: str, tls: str | None) -> Verdict: ...
    def mail(self, sender: ReversePath, user: str | None, queue_id: str | None) -> Verdict: ...
    def rcpt(self, recipient: ForwardPath, queue_id: str | None) -> Verdict: ...
    def refused(self, recipient: ForwardPath, queue_id: str | None) -> None: ...
    def data(self, queue_id: str | None, accepted: int | None = None) -> Verdict: ...
    def end_of_headers(self, fields: Sequence[Field], queue_id: str | None) -> Verdict: ...
    def body(self, chunk: bytes) -> None: ...
    def end_of_message(self, queue_id: str | None, lacks: frozenset[type[Change]]) -> Finished: ...
    def end_of_envelope(self, queue_id: str | None, size: int) -> Verdict: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much, and how long, before a conversation gives up on the engine.

    Times are in seconds, and below Postfix's milter_command_timeout (30 s) and milter_content_timeout (300 s).
    """

    command: float = 25.0
    content: float = 280.0
    pending: int = 1 << 20  #: bytes that wait for the engine, a connection
    threads: int = 128  #: most of them wait for DNS


class Reception:
    """What the conversations of a process share: the runtime, the threads, the count.

    `report` hears of every fault of our own: where, what, and in which conversation (None before there is one).
    """

    def __init__(
        self,
        runtime: Runtime,
        report: Callable[[str, BaseException, str | None], None],
        bounds: Bounds | None = None,
        open_session: Callable[[Runtime, str], Session] = MailSession,
    ) -> None:
        self.bounds = bounds or Bounds()
        self.pool = Pool(self.bounds.threads)
        self._runtime = runtime
        self._report = report
        self._open_session = open_session
        self._judged = frozenset(stage for stage in Stage if runtime.judges(stage))
        self._fallback = own_fault(runtime.policy.settings)
        asked = (NEEDED[edit] for edit in runtime.policy.edits)
        #: The changes that mails may need.
        self.changes = frozenset({InsertField, DeleteField}).union(*asked)
        #: Whether to hear of recipients that the MTA refuses.
        self.counts_refused = bool(runtime.policy.failure_limits)
        self._count = threading.Lock()
        self._live = 0

    @property
    def live(self) -> int:
        """How many conversations are going on, those included whose end the engine has yet to see."""
        return self._live

    def judges(self, stage: Stage) -> bool:
        """Whether the MTA must wait for an answer at that stage."""
        return stage in self._judged

    def open(self, *, direct: bool = False) -> "Conversation":
        """Begin a conversation; if `direct`, the engine runs on the threads that call it.

        Raises what the engine raises.
        """
        name = secrets.token_hex(6)
        strand = Direct() if direct else Strand(self.pool, self.bounds.pending, self.bounds.command)
        conversation = Conversation(self, self._open_session(self._runtime, name), name, strand)
        self._counted(1)
        return conversation

    def closed(self) -> None:
        """A conversation has ended, and the engine knows."""
        self._counted(-1)

    def fault(self, where: str, error: BaseException, conversation: str | None = None) -> Verdict:
        """Report a fault of our own; returns what the policy declares for it."""
        self._report(where, error, conversation)
        return self._fallback

    def unjudged(self, verdict: Verdict, fields: Sequence[Field]) -> Finished:
        """The end of a mail that the engine does not judge: if it is delivered, nobody's word in it passes for ours."""
        return strip_only(verdict, Header.of(fields), self._runtime.other_ids | {self._runtime.authserv_id})

    def _counted(self, change: int) -> None:
        with self._count:
            self._live += change


class Conversation:
    """One connection. The methods are called by one thread at a time, in the MTA's order; they wait, but do no work.

    A message can be settled before its end: by a fault, or by a verdict that came when the MTA did not wait for one.
    The engine then hears no more of it, and whatever is asked about it gets that answer. What is settled before MAIL
    holds for all messages of the connection.
    """

    def __init__(self, reception: Reception, session: Session, name: str, strand: Strand | Direct) -> None:
        self._reception = reception
        self._name = name
        self._session = session
        self._strand = strand
        self._in_message = False
        self._header: list[Field] = []
        self._header_size = 0
        self._header_ended = False
        #: The changes that this MTA does not offer.
        self.lacks: frozenset[type[Change]] = frozenset()
        # Two, as each belongs to one side: what never reached the strand, and what came to be on it.
        self._lost: Verdict | None = None
        self._settled: Verdict | None = None
        self._lost_for_good = self._settled_for_good = False

    def connect(self, client: Client, daemon: str | None) -> Verdict:
        return self._ask(Stage.CONNECT, lambda: self._session.connect(client, daemon))

    def helo(self, name: str, tls: str | None) -> Verdict:
        return self._ask(Stage.HELO, lambda: self._session.helo(name, tls))

    def unanswered_helo(self, name: str, tls: str | None) -> None:
        """HELO where the MTA cannot be given the answer: a refusal is given to what comes next."""
        self._tell(Stage.HELO, lambda: self._session.helo(name, tls))

    def mail(self, sender: ReversePath, user: str | None, queue_id: str | None) -> Verdict:
        self._forget_message()
        self._in_message = True
        verdict = self._ask(Stage.MAIL, lambda: self._session.mail(sender, user, queue_id))
        self._in_message = not verdict.disposition.final
        return verdict

    def rcpt(self, recipient: ForwardPath, queue_id: str | None) -> Verdict:
        return self._ask(Stage.RCPT, lambda: self._session.rcpt(recipient, queue_id))

    def refused(self, recipient: ForwardPath, queue_id: str | None) -> None:
        """A recipient that the MTA has refused, whatever is answered."""
        if self._lost is None:
            self._strand.put(lambda: self._refused(recipient, queue_id), _EVENT, soon=False)

    def data(self, queue_id: str | None, accepted: int | None = None) -> Verdict:
        return self._ask(Stage.DATA, lambda: self._session.data(queue_id, accepted))

    def fields(self, fields: Sequence[Field]) -> bool:
        """The next header fields. Whether more need be told."""
        if self._header_size <= MAX_HEADER_OCTETS:
            # One more than the engine takes, so that it can refuse it.
            taken = fields[: MAX_FIELDS + 1 - len(self._header)]
            self._header += taken
            self._header_size += sum([len(each.name) + len(each.value) for each in taken])
        return len(self._header) <= MAX_FIELDS and self._header_size <= MAX_HEADER_OCTETS

    def end_of_headers(self, queue_id: str | None) -> Verdict:
        return self._ask(Stage.END_OF_HEADERS, self._whole_header(queue_id))

    def body(self, chunk: bytes, queue_id: str | None) -> None:
        """A part of the body; waits while more of it is pending than the bound allows."""
        self._ensure_header(queue_id)
        if self._lost is None:
            self._strand.put(partial(self._body, chunk), len(chunk), soon=False)

    def end_of_message(self, queue_id: str | None) -> Finished:
        """The message is whole. What comes next belongs to another."""
        self._ensure_header(queue_id)
        fields = tuple(self._header)
        if self._lost is None:
            limit = self._reception.bounds.content
            try:
                finished = self._strand.ask(lambda: self._finish(fields, queue_id), _EVENT, limit)
            except TimeoutError as error:
                finished = self._reception.unjudged(self.fail("end_of_message", error), fields)
        else:
            finished = self._reception.unjudged(self._lost, fields)
            self._strand.put(self._abort, 0)
        self._forget_message()
        return finished

    def end_of_envelope(self, queue_id: str | None, size: int) -> Verdict:
        """The message is whole, and only its size is known. What comes next belongs to another."""
        verdict = self._ask(Stage.END_OF_MESSAGE, lambda: self._session.end_of_envelope(queue_id, size))
        self._forget_message()
        return verdict

    def abort(self) -> None:
        """The message is over, if there is one; the connection goes on."""
        self._forget_message()
        self._strand.put(self._abort, 0)

    def close(self) -> None:
        """The connection is over."""
        self._strand.put(self._close, 0)

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._in_message

    def fail(self, where: str, error: BaseException, *, for_good: bool = False) -> Verdict:
        """Something did not reach the engine, or not in time: that settles the message, or all of the connection."""
        self._lost = self._fault(where, error)
        self._lost_for_good |= for_good
        return self._lost

    @property
    def waits(self) -> bool:
        """Whether the engine is at work on the thread that called it."""
        return isinstance(self._strand, Direct) and self._strand.running

    def abandon(self) -> bool:
        """Go on without the engine, which does not come back to the thread that called it; False when it just did.

        That thread gets Abandoned, if ever, and has lost the conversation to the one that calls this, who is to `fail`.
        """
        return isinstance(self._strand, Direct) and self._strand.abandon()

    def _ask(self, stage: Stage, call: Callable[[], Verdict]) -> Verdict:
        if not self._reception.judges(stage):
            self._tell(stage, call)
            return _CONTINUE
        if self._lost is not None:
            return self._lost
        return self._strand.ask(lambda: self._step(stage, call, heard=True), _EVENT, self._reception.bounds.command)

    def _tell(self, stage: Stage, call: Callable[[], Verdict]) -> None:
        if self._lost is None:
            self._strand.put(lambda: self._step(stage, call, heard=False), _EVENT, soon=stage in _ASKS_DNS)

    def _ensure_header(self, queue_id: str | None) -> None:
        # The protocol lets a message go from RCPT to its body or end; the engine is told in full all the same.
        if not self._header_ended:
            self._tell(Stage.END_OF_HEADERS, self._whole_header(queue_id))

    def _whole_header(self, queue_id: str | None) -> Callable[[], Verdict]:
        fields = tuple(self._header)
        self._header_ended = True
        return lambda: self._session.end_of_headers(fields, queue_id)

    def _forget_message(self) -> None:
        self._in_message = False
        self._header.clear()
        self._header_size = 0
        self._header_ended = False
        if not self._lost_for_good:
            self._lost = None

    def _fault(self, where: str, error: BaseException) -> Verdict:
        return self._reception.fault(where, error, self._name)

    # What follows runs on the strand, and never raises.

    def _begin(self) -> None:
        if not self._settled_for_good:
            self._settled = None

    def _step(self, stage: Stage, call: Callable[[], Verdict], *, heard: bool) -> Verdict:
        if stage is Stage.MAIL:
            self._begin()
        if self._settled is not None:
            return self._settled
        try:
            verdict = call()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the mail gets the declared answer
            verdict = self._settled = self._fault(stage.word, error)
        else:
            if verdict.disposition.final and not heard:
                self._settled = verdict
        self._settled_for_good |= self._settled is not None and stage < Stage.MAIL
        return verdict

    def _refused(self, recipient: ForwardPath, queue_id: str | None) -> None:
        if self._settled is None:
            self._quietly("refused", lambda: self._session.refused(recipient, queue_id))

    def _body(self, chunk: bytes) -> None:
        if self._settled is None:
            try:
                self._session.body(chunk)
            except BaseException as error:  # noqa: BLE001 - as above
                self._settled = self._fault("body", error)

    def _finish(self, fields: Sequence[Field], queue_id: str | None) -> Finished:
        if self._settled is None:
            try:
                return self._session.end_of_message(queue_id, self.lacks)
            except BaseException as error:  # noqa: BLE001 - as above
                self._settled = self._fault("end_of_message", error)
        self._quietly("abort", self._session.abort)
        return self._reception.unjudged(self._settled, fields)

    def _abort(self) -> None:
        self._begin()
        self._quietly("abort", self._session.abort)

    def _close(self) -> None:
        self._quietly("close", self._session.close)
        self._reception.closed()

    def _quietly(self, where: str, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - as above
            self._fault(where, error)
