"""One SMTP connection as it is judged: the verbs that every front-end calls, in the order of SMTP.

Calls are serial. Every verb may block on DNS for as long as the policy's `dns.deadline`. Each returns the verdict of
its stage; whether the MTA waits for it is the front-end's to know (`Runtime.judges`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from filterd.backend.recorded import RecordingResolver
from filterd.engine.fallback import HEADER_TOO_LARGE, NOT_SIGNED, not_judged, own_fault
from filterd.engine.finish import Finished, finish, strip_only
from filterd.engine.gather import Gather
from filterd.engine.runtime import Runtime
from filterd.engine.signing import Outbound, Signed
from filterd.lookup import Answer, Resolver
from filterd.mail.header import Field, Header
from filterd.mail.message import author_of
from filterd.mail.received import handover
from filterd.mail.transaction import Client, ForwardPath, IPAddress, ReversePath, Stage, Transaction
from filterd.policy.decide import decide, whose
from filterd.policy.facts import Check, Facts
from filterd.policy.results import Results
from filterd.policy.schema import Network
from filterd.policy.signers import may_write_as
from filterd.policy.transcript import Judgement, Transcript
from filterd.policy.verdict import AddAuthenticationResults, Disposition, Edit, Sign, Verdict

#: A header section with more is refused; Postfix by default lets 102,400 octets a field through.
MAX_FIELDS = 50_000
MAX_HEADER_OCTETS = 8 * 1024 * 1024

_CONTINUE = Verdict()
T = TypeVar("T")


class MailSession:
    """The judgement of one connection and of the mails that come over it."""

    def __init__(self, runtime: Runtime, connection_id: str) -> None:
        self._runtime = runtime
        self._policy = runtime.policy
        self._count = 0
        self._facts = Facts(Transaction(connection_id, Client(None)))
        self._connection = self._facts
        self._connection_judgements: list[Judgement] = []
        self._connection_id = connection_id
        self._mail: _Mail | None = None

    def connect(self, client: Client, daemon: str | None) -> Verdict:
        """A client connects. `daemon` is the MTA's name for the port that it came to."""
        networks = self._policy.settings.networks
        transaction = Transaction(self._connection_id, client, daemon=daemon)
        self._connection = Facts(transaction, _within(client.ip, networks.trusted), _within(client.ip, networks.relays))
        self._connection_judgements = []
        return self._judge_connection(Stage.CONNECT)

    def helo(self, name: str, tls: str | None) -> Verdict:
        """The client names itself; again after STARTTLS."""
        transaction = replace(self._connection.transaction, helo=name, tls=tls)
        self._connection = replace(self._connection, transaction=transaction)
        self._connection_judgements = [each for each in self._connection_judgements if each.stage is Stage.CONNECT]
        return self._judge_connection(Stage.HELO)

    def mail(self, sender: ReversePath, user: str | None, queue_id: str | None) -> Verdict:
        """A mail begins. Whose it is is decided here, and what strangers' checks will ask first is fetched."""
        self.abort()
        self._count += 1
        transaction = replace(
            self._connection.transaction,
            id=f"{self._connection_id}.{self._count}",
            sender=sender,
            user=user,
            queue_id=queue_id,
        )
        facts = replace(self._connection, transaction=transaction)
        facts = replace(facts, from_us=whose(self._policy, facts))
        self._mail = _Mail(self._runtime, facts, self._connection_judgements)
        return self._mail.begun()

    def rcpt(self, recipient: ForwardPath, queue_id: str | None) -> Verdict:
        """A recipient that the MTA would accept."""
        return self._mail.recipient(recipient, queue_id) if self._mail else _CONTINUE

    def data(self, queue_id: str | None) -> Verdict:
        """The recipients are complete."""
        return self._mail.stage(Stage.DATA, queue_id) if self._mail else _CONTINUE

    def end_of_headers(self, fields: Sequence[Field], queue_id: str | None) -> Verdict:
        """The header section is complete."""
        return self._mail.content(Header.of(fields), queue_id) if self._mail else _CONTINUE

    def body(self, chunk: bytes) -> None:
        """A part of the body, in order."""
        if self._mail:
            self._mail.body(chunk)

    def end_of_message(self, queue_id: str | None) -> Finished:
        """The mail is complete: the last verdict, and what to change."""
        mail, self._mail = self._mail, None
        return mail.end(queue_id) if mail else Finished(_CONTINUE)

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
        verdict = decide(self._policy, stage, self._connection, Results())
        self._connection_judgements.append(Judgement(stage, verdict))
        if verdict.disposition.final:
            _Mail(self._runtime, self._connection, self._connection_judgements).aborted()
        return verdict


class _Mail:
    """One mail, from MAIL to its end."""

    def __init__(self, runtime: Runtime, facts: Facts, before: Sequence[Judgement]) -> None:
        self._runtime = runtime
        self._policy = runtime.policy
        self._facts = facts
        self._results = Results()
        self._gather = Gather()
        self._judgements = list(before)
        self._recorders: list[RecordingResolver] = []
        self._outbound: Outbound | None = None
        self._signed = Signed()
        self._size = 0
        self._times: dict[str, float] = {}
        self._refused: Verdict | None = None
        # Whose address SPF judges: the client's, or the one that our outermost relay recorded.
        self._origin = None if facts.client_relay else facts.transaction
        self._at = runtime.clock.now()

    def begun(self) -> Verdict:
        if not self._facts.from_us:
            resolver = self._resolver()
            sender, helo = self._facts.transaction.sender, self._facts.transaction.helo
            if sender is not None and sender.mailbox is not None:
                resolver.prefetch(str(sender.mailbox.domain), "TXT")
            elif helo:
                resolver.prefetch(helo, "TXT")
        return self._judge(Stage.MAIL)

    def recipient(self, recipient: ForwardPath, queue_id: str | None) -> Verdict:
        self._adopt(queue_id)
        verdict = self._judge(Stage.RCPT, recipient)
        if verdict.disposition.final:
            return verdict
        transaction = self._facts.transaction
        transaction = replace(transaction, recipients=(*transaction.recipients, recipient))
        self._facts = replace(self._facts, transaction=transaction)
        # Only now: a client that offers no recipient we know costs no SPF.
        self._run(frozenset({Check.SPF}) & self._policy.checks)
        return verdict

    def stage(self, stage: Stage, queue_id: str | None) -> Verdict:
        self._adopt(queue_id)
        return self._judge(stage)

    def content(self, header: Header, queue_id: str | None) -> Verdict:
        self._adopt(queue_id)
        octets = sum(len(field.name) + len(field.value) + 3 for field in header)
        self._size = octets + 2
        if len(header) > MAX_FIELDS or octets > MAX_HEADER_OCTETS:
            self._refused = HEADER_TOO_LARGE
            return _CONTINUE
        author = author_of(header)
        allowed = may_write_as(self._policy.settings.senders, self._facts.transaction.user, author)
        self._facts = replace(self._facts, header=header, author=author, author_allowed=allowed)
        if self._facts.client_relay:
            self._origin = self._relayed(header)
        if self._facts.from_us:
            user = self._facts.transaction.user
            self._outbound = Outbound(self._policy, author, user, self._resolver())
        else:
            self._gather.begin_content(header, author, self._runtime.clock.now(), self._resolver())
        return self._judge(Stage.END_OF_HEADERS)

    def body(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._refused is not None:
            return
        if self._outbound is not None:
            self._outbound.body(chunk)
        else:
            self._gather.body(chunk)

    def end(self, queue_id: str | None) -> Finished:
        self._adopt(queue_id)
        began = self._runtime.clock.monotonic()
        if self._facts.header is None and self._refused is None:
            # An MTA that sends no end of headers: a message without header section.
            self.content(Header(), queue_id)
        header = self._facts.header or Header()
        self._facts = replace(self._facts, size=self._size)
        finished = self._finished(header)
        self._times["end_of_message"] = (self._runtime.clock.monotonic() - began) * 1000
        self._record(finished.verdict, completed=True)
        return finished

    def aborted(self) -> None:
        """Tell of a mail that did not reach its end only if a rule refused it: all others are the client's affair."""
        verdict = next((each.verdict for each in self._judgements if each.verdict.disposition.final), None)
        if verdict is not None:
            self._record(verdict, completed=False)

    def _finished(self, header: Header) -> Finished:
        authserv_id = self._runtime.authserv_id
        try:
            if self._refused is not None:
                return Finished(self._refused)
            self._judge(Stage.END_OF_MESSAGE, complete=True)
            verdict = self._conclusion()
            if self._outbound is not None and not verdict.disposition.final:
                self._signed = self._timed("sign", lambda: self._sign(header))
                verdict = replace(NOT_SIGNED, steps=verdict.steps) if self._signed.defer else verdict
            transaction, results = self._facts.transaction, self._results
            return finish(verdict, transaction, header, results, authserv_id, self._signed.fields)
        except Exception as error:  # noqa: BLE001 # our own fault: the policy has declared what becomes of the mail
            self._gather.fault("finish", error)
            return strip_only(own_fault(self._policy.settings), header, authserv_id)

    def _sign(self, header: Header) -> Signed:
        assert self._outbound is not None
        runtime = self._runtime
        signed = self._outbound.finish(header, int(runtime.clock.now()), runtime.publications, self._resolver())
        if signed.fault:
            self._gather.faults.append(signed.fault)
        return signed

    def _conclusion(self) -> Verdict:
        """One verdict of all stages: the first that decided, with the edits of all."""
        edits: list[Edit] = [edit for each in self._judgements for edit in each.verdict.edits if not each.recipient]
        whole = [each.verdict for each in self._judgements if not each.recipient]
        decided = next((each for each in whole if each.disposition is not Disposition.CONTINUE), None)
        decided = decided or not_judged(self._policy.settings, self._results) or _CONTINUE
        edits.append(Sign() if self._facts.from_us else AddAuthenticationResults())
        return replace(decided, edits=tuple(edits), steps=())

    def _judge(self, stage: Stage, recipient: ForwardPath | None = None, *, complete: bool = False) -> Verdict:
        self._run(self._policy.checks if complete else self._policy.needs_at(stage))
        if self._decided() or not self._policy.judges(stage):
            return _CONTINUE
        facts = self._facts.at_recipient(recipient) if recipient else self._facts
        try:
            verdict = decide(self._policy, stage, facts, self._results)
        except Exception as error:  # noqa: BLE001 # our own fault: the policy has declared what becomes of the mail
            self._gather.fault("decide", error)
            verdict = own_fault(self._policy.settings)
        self._judgements.append(Judgement(stage, verdict, recipient.text if recipient else None))
        return verdict

    def _relayed(self, header: Header) -> Transaction:
        """The transaction as our outermost relay saw it: the fields of our own relays stand on top, newest first."""
        networks = self._policy.settings.networks
        transaction = self._facts.transaction
        for field in header.all("Received"):
            found = handover(field)
            if found is None:
                break
            if not _within(found.ip, (*networks.relays, *networks.trusted)):
                return replace(transaction, client=Client(found.ip), helo=found.helo)
        return replace(transaction, client=Client(None), helo=None)

    def _decided(self) -> bool:
        return any(
            each.verdict.disposition is not Disposition.CONTINUE and not each.recipient for each in self._judgements
        )

    def _run(self, checks: frozenset[Check]) -> None:
        """Run what is needed and was not run yet. Mail from us is not judged as a stranger's."""
        if self._facts.from_us or not checks:
            return
        resolver = self._resolver()
        origin, found = self._origin, self._results
        if Check.SPF in checks and found.spf is None and origin is not None:
            found = replace(found, spf=self._timed("spf", lambda: self._gather.spf(origin, resolver)))
        if Check.SPF_HELO in checks and found.spf_helo is None and origin is not None:
            found = replace(found, spf_helo=self._timed("spf", lambda: self._gather.spf_helo(origin, resolver)))
        if Check.DKIM in checks and found.dkim is None:
            found = replace(found, dkim=self._timed("dkim", lambda: self._gather.dkim(resolver)))
        author = self._facts.author
        if Check.DMARC in checks and found.dmarc is None and author is not None:
            spf, dkim = found.spf, found.dkim or ()
            found = replace(found, dmarc=self._timed("dmarc", lambda: self._gather.dmarc(author, spf, dkim, resolver)))
        self._results = found

    def _timed(self, part: str, find: Callable[[], T]) -> T:
        began = self._runtime.clock.monotonic()
        found = find()
        self._times[part] = self._times.get(part, 0.0) + (self._runtime.clock.monotonic() - began) * 1000
        return found

    def _resolver(self) -> Resolver:
        """DNS for the stage that begins: the MTA waits from now on, so the deadline counts from now."""
        deadline = self._runtime.clock.monotonic() + self._policy.settings.dns.deadline
        recorder = RecordingResolver(self._runtime.resolver(deadline))
        self._recorders.append(recorder)
        return recorder

    def _adopt(self, queue_id: str | None) -> None:
        """Postfix gives the queue id with the first accepted recipient."""
        if queue_id and self._facts.transaction.queue_id != queue_id:
            self._facts = replace(self._facts, transaction=replace(self._facts.transaction, queue_id=queue_id))

    def _record(self, verdict: Verdict, *, completed: bool) -> None:
        answers: dict[tuple[str, str], Answer] = {}
        for recorder in self._recorders:
            answers.update({(answer.name, answer.rdtype): answer for answer in recorder.answers})
        self._times["total"] = (self._runtime.clock.now() - self._at) * 1000
        self._runtime.record(
            Transcript(
                transaction=self._facts.transaction,
                at=self._at,
                policy=self._policy.digest,
                authserv_id=self._runtime.authserv_id,
                from_us=self._facts.from_us,
                author=self._facts.author,
                size=self._facts.size,
                results=self._results,
                signed=self._signed.names,
                unsigned=self._signed.unsigned,
                judgements=tuple(self._judgements),
                verdict=verdict,
                answers=tuple(answers.values()),
                times=dict(self._times),
                completed=completed,
                fault="; ".join(self._gather.faults) or None,
            )
        )


def _within(ip: IPAddress | None, networks: Sequence[Network]) -> bool:
    mapped = getattr(ip, "ipv4_mapped", None)
    address = mapped or ip
    return address is not None and any(address in network for network in networks)
