"""One SMTP connection as it is judged: the verbs that every front-end calls, in the order of SMTP.

Calls are serial. Every verb may block on DNS for as long as the policy's `dns.deadline`. Each returns the verdict of
its stage; whether the MTA waits for it is the front-end's to know (`Runtime.judges`).
"""

from collections.abc import Sequence

from filterd.engine.changes import Change
from filterd.engine.fallback import own_fault
from filterd.engine.finish import Finished
from filterd.engine.judgement import MailJudgement
from filterd.engine.networks import within
from filterd.engine.runtime import Runtime
from filterd.mail.header import Field, Header
from filterd.mail.transaction import Client, ForwardPath, ReversePath, Stage, Transaction
from filterd.policy.decide import decide
from filterd.policy.facts import Facts
from filterd.policy.results import Results
from filterd.policy.transcript import Judgement, Transcript
from filterd.policy.verdict import Disposition, Verdict

_CONTINUE = Verdict()


class MailSession:
    """The judgement of one connection and of the mails that come over it."""

    def __init__(self, runtime: Runtime, connection_id: str) -> None:
        self._runtime = runtime
        self._policy = runtime.policy
        self._count = 0
        self._connection = Facts(Transaction(connection_id, Client(None)))
        self._connection_judgements: list[Judgement] = []
        self._connection_fault: Exception | None = None
        self._connection_id = connection_id
        self._mail: MailJudgement | None = None

    def connect(self, client: Client, daemon: str | None) -> Verdict:
        """A client connects. `daemon` is the MTA's name for the port that it came to."""
        networks = self._policy.settings.networks
        transaction = Transaction(self._connection_id, client, daemon=daemon)
        self._connection = Facts(transaction, within(client.ip, networks.trusted), within(client.ip, networks.relays))
        self._connection_judgements, self._connection_fault = [], None
        return self._judge_connection(Stage.CONNECT)

    def helo(self, name: str, tls: str | None) -> Verdict:
        """The client names itself; again after STARTTLS."""
        before = self._connection.transaction
        transaction = Transaction(self._connection_id, before.client, name, daemon=before.daemon, tls=tls)
        self._connection = Facts(transaction, self._connection.client_trusted, self._connection.client_relay)
        self._connection_judgements = [each for each in self._connection_judgements if each.stage is Stage.CONNECT]
        return self._judge_connection(Stage.HELO)

    def mail(self, sender: ReversePath, user: str | None, queue_id: str | None) -> Verdict:
        """A mail begins. Whose it is is decided here, and what strangers' checks will ask first is fetched."""
        self.abort()
        self._count += 1
        connection = self._connection.transaction
        transaction = Transaction(
            f"{self._connection_id}.{self._count}",
            connection.client,
            connection.helo,
            user,
            sender,
            (),
            queue_id,
            connection.daemon,
            connection.tls,
        )
        facts = Facts(transaction, self._connection.client_trusted, self._connection.client_relay)
        self._mail = self._judgement(facts)
        return self._mail.begun()

    def rcpt(self, recipient: ForwardPath, queue_id: str | None) -> Verdict:
        """A recipient that the MTA would accept."""
        return self._mail.recipient(recipient, queue_id) if self._mail else _CONTINUE

    def refused(self, recipient: ForwardPath, queue_id: str | None) -> None:
        """A recipient that the MTA has refused."""
        if self._mail:
            self._mail.refused(recipient, queue_id)

    def data(self, queue_id: str | None, accepted: int | None = None) -> Verdict:
        """The recipients are complete: so many as `accepted` says, where the MTA counts and may not have named each."""
        return self._mail.data(queue_id, accepted) if self._mail else _CONTINUE

    def end_of_headers(self, fields: Sequence[Field], queue_id: str | None) -> Verdict:
        """The header section is complete."""
        return self._mail.content(Header.of(fields), queue_id) if self._mail else _CONTINUE

    def recorded_content(self, seen: Transcript, queue_id: str | None) -> Verdict:
        """In a replay: header section and body as far as a record has them."""
        return self._mail.recorded_content(seen, queue_id) if self._mail else _CONTINUE

    def body(self, chunk: bytes) -> None:
        """A part of the body, in order."""
        if self._mail:
            self._mail.body(chunk)

    def end_of_message(self, queue_id: str | None, lacks: frozenset[type[Change]] = frozenset()) -> Finished:
        """The mail is complete: the last verdict, and what to change.

        `lacks` are the changes that the MTA does not offer.
        """
        mail, self._mail = self._mail, None
        return mail.end(queue_id, lacks) if mail else Finished(_CONTINUE)

    def end_of_envelope(self, queue_id: str | None, size: int) -> Verdict:
        """The mail is complete, and was not shown: it has `size` octets."""
        mail, self._mail = self._mail, None
        return mail.end_unseen(queue_id, size) if mail else _CONTINUE

    def abort(self) -> None:
        """The mail is over before its end, or was refused; the connection goes on. May be called at any time."""
        mail, self._mail = self._mail, None
        if mail:
            mail.aborted()

    def close(self) -> None:
        """The connection is over."""
        self.abort()

    def _judge_connection(self, stage: Stage) -> Verdict:
        decided = any(each.verdict.disposition is not Disposition.CONTINUE for each in self._connection_judgements)
        if decided or not self._policy.judges(stage):
            return _CONTINUE
        try:
            verdict = decide(self._policy, stage, self._connection, Results())
        except Exception as error:  # noqa: BLE001 # our own fault: the policy has declared what becomes of the mail
            self._connection_fault = error
            verdict = own_fault(self._policy.settings)
        self._connection_judgements.append(Judgement(stage, verdict))
        if verdict.disposition.final:
            self._judgement(self._connection).aborted()
        return verdict

    def _judgement(self, facts: Facts) -> MailJudgement:
        return MailJudgement(self._runtime, facts, self._connection_judgements, self._connection_fault)
