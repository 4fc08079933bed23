"""filterd's side of one connection of Postfix's policy client: octets in, octets out.

A question has all that Postfix knows, and may be the only one about its mail: so each is answered by all rules up to
its stage that were not judged yet. It is called on a thread that may block, as the engine runs in the call. It reads
and writes nothing itself (`connection`), and does not know how requests are written (`wire.access_policy`).
"""

from dataclasses import replace

from filterd.engine.runtime import Runtime
from filterd.frontend import milter_facts as facts
from filterd.frontend.access_reply import DUNNO, LAST_STAGE, hold, prepend, refusal
from filterd.frontend.conversation import Conversation, Reception
from filterd.mail.transaction import Client, ForwardPath, ReversePath, Stage
from filterd.policy.envelope import envelope_part
from filterd.policy.verdict import AddField, Disposition, Verdict
from filterd.wire.access_policy import AccessPolicyError, Answer, Request, RequestReader, encode_answer


def envelope_runtime(runtime: Runtime) -> Runtime:
    """The runtime for those who never see content."""
    return replace(runtime, policy=envelope_part(runtime.policy))


class AccessPolicy:
    """One connection. Called by one thread at a time."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self._reader = RequestReader()
        self._mail: _Mail | None = None
        #: Whether there is nothing more to say.
        self.over = False
        #: All that comes is looked at.
        self.bored = False

    def hear(self, octets: bytes) -> bytes:
        """Take what Postfix sent; returns what it is to be sent."""
        answers: list[bytes] = []
        try:
            for request in self._reader.feed(octets):
                answer = self._answer(request)
                if answer is None:
                    self.over = True
                    break
                answers.append(encode_answer(answer))
        except AccessPolicyError as error:
            self._reception.fault("policy_service", error)
            self.over = True
        return b"".join(answers)

    def overdue(self, seconds: float) -> bool:
        """Never: Postfix itself defers what is not answered in time."""
        return False

    def give_up(self) -> bytes | None:
        """The engine is always waited for."""
        return None

    def close(self) -> None:
        """The connection is over, for whatever reason."""
        if self._mail is not None:
            self._mail.close()

    def _answer(self, request: Request) -> Answer | None:
        if self._mail is None or not self._mail.goes_on(request):
            self.close()
            self._mail = _Mail(self._reception.open(direct=True), request)
        return self._mail.answer(request)


class _Mail:
    """What is asked about one mail, or about a client that has not sent any yet. `first` is the first request."""

    def __init__(self, conversation: Conversation, first: Request) -> None:
        self._conversation = conversation
        self._last = first
        self._judged: Stage | None = None
        # What was decided about all of it. What was said of that, and what there is to be said.
        self._refused: Verdict | None = None
        self._held: Verdict | None = None
        self._fields: list[AddField] = []
        # What was decided about the last request alone.
        self._refused_recipient: Verdict | None = None

    def goes_on(self, request: Request) -> bool:
        """Whether the request is about the same mail."""
        last = self._last
        if last.instance:
            return last.instance == request.instance
        # Postfix names the instance when MAIL is through: until then a client is who it was, and SMTP goes forward.
        # A client that begins anew is judged anew.
        same = (last.client_address, last.client_port) == (request.client_address, request.client_port)
        begun = LAST_STAGE[last.protocol_state] >= Stage.MAIL
        forward = LAST_STAGE[last.protocol_state] < LAST_STAGE[request.protocol_state]
        return same and (forward or request == last) and (last.sender == request.sender or not begun)

    def answer(self, request: Request) -> Answer | None:
        """The answer; None where the connection is to end without one."""
        state, stage = request.protocol_state, LAST_STAGE[request.protocol_state]
        again = (state, request.recipient) == (self._last.protocol_state, self._last.recipient)
        if self._refused is None and not (again and self._judged is not None):
            self._refused_recipient = None
            self._judge(request, stage)
        self._last = request
        refused = self._refused or self._refused_recipient
        if refused is not None:
            return refusal(refused, state)
        if stage < Stage.MAIL:
            # A client's mail cannot be held or marked before it sends any.
            return DUNNO
        if self._held is not None:
            answer, self._held = hold(self._held), None
            return answer
        # Several fields need several questions, as an answer has one; Postfix adds none once the mail is complete.
        return prepend(self._fields.pop(0)) if self._fields and stage < Stage.END_OF_MESSAGE else DUNNO

    def close(self) -> None:
        self._conversation.close()

    def _judge(self, request: Request, until: Stage) -> None:
        """Judge by all rules up to the stage that were not judged yet."""
        talk, queue_id = self._conversation, request.queue_id or None
        if self._is_due(Stage.CONNECT, until):
            self._note(talk.connect(_client(request), None))
        # The name is judged where there is one; it may not have been known at first.
        if request.helo_name and self._is_due(Stage.HELO, until):
            self._note(talk.helo(request.helo_name, request.encryption_protocol or None))
        if self._is_due(Stage.MAIL, until):
            sender = ReversePath(*facts.path(_octets(request.sender)))
            self._note(talk.mail(sender, request.sasl_username or None, queue_id))
        # Where recipients were not asked about, the only one of a mail is, later.
        if request.recipient and (until is Stage.RCPT or self._is_due(Stage.RCPT, until)):
            self._recipient(request, queue_id)
        if self._is_due(Stage.DATA, until):
            self._note(talk.data(queue_id, request.recipient_count))
        if self._is_due(Stage.END_OF_MESSAGE, until):
            self._note(talk.end_of_envelope(queue_id, request.size))
        self._judged = until if self._judged is None else max(self._judged, until)

    def _is_due(self, stage: Stage, until: Stage) -> bool:
        return stage <= until and self._refused is None and (self._judged is None or self._judged < stage)

    def _recipient(self, request: Request, queue_id: str | None) -> None:
        if self._refused is not None:
            return
        verdict = self._conversation.rcpt(ForwardPath(*facts.path(_octets(request.recipient))), queue_id)
        if verdict.disposition.final:
            self._refused_recipient = verdict
        else:
            self._note(verdict)

    def _note(self, verdict: Verdict) -> None:
        """Remember what a stage came to."""
        if verdict.disposition.final:
            self._refused = verdict
        elif verdict.disposition is Disposition.HOLD:
            self._held = verdict
        self._fields += [edit for edit in verdict.edits if isinstance(edit, AddField)]


def _client(request: Request) -> Client:
    address = None if request.client_address in ("", "unknown") else request.client_address
    try:
        return facts.client(request.client_name or None, address, request.client_port, None, None)
    except ValueError:
        raise AccessPolicyError("client_address is no address") from None


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
