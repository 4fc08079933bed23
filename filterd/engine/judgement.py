"""One mail as it is judged, from MAIL to its end: what is judged when, and what all stages together come to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from filterd.authres.result import AuthenticationResults
from filterd.authres.trusted import topmost
from filterd.engine.changes import Change
from filterd.engine.checks import Checks
from filterd.engine.conclusion import conclusion, decisive
from filterd.engine.fallback import HEADER_TOO_LARGE, own_fault
from filterd.engine.finish import Finished
from filterd.engine.greylisting import Greylisting
from filterd.engine.limiting import Limiting
from filterd.engine.making import Making
from filterd.engine.networks import ours
from filterd.engine.notes import Notes
from filterd.engine.runtime import Runtime
from filterd.engine.scanning import Scanning
from filterd.engine.shadow import judge_in_shadow
from filterd.engine.signing import Outbound
from filterd.mail.header import Header
from filterd.mail.message import Author, author_of
from filterd.mail.received import added_inside, handover
from filterd.mail.transaction import ForwardPath, Stage, Transaction
from filterd.policy.decide import decide, whose
from filterd.policy.facts import Facts, content_facts
from filterd.policy.reputation import found_summands
from filterd.policy.shadow import Divergence, Shadow
from filterd.policy.signers import may_write_as
from filterd.policy.transcript import Judgement, Transcript
from filterd.policy.verdict import (
    AddAuthenticationResults,
    Disposition,
    Edit,
    Scanned,
    Seal,
    Sign,
    StepOutcome,
    Verdict,
)

#: A header section with more is refused. Honest mail has some hundreds at most; tiny ones cost more than their octets.
MAX_FIELDS = 5_000
MAX_HEADER_OCTETS = 8 * 1024 * 1024

_CONTINUE = Verdict()


class MailJudgement:
    """The judgement of one mail. `before` is what was judged of its connection, `fault` what kept us from that."""

    def __init__(
        self, runtime: Runtime, connection: Facts, before: Sequence[Judgement], fault: Exception | None = None
    ) -> None:
        self._runtime = runtime
        self._policy = runtime.policy
        self._connection = connection
        self._transaction = connection.transaction
        self._from_us: bool | None = None
        self._recipients: list[ForwardPath] = []
        self._offered: list[ForwardPath] = []
        self._stage = before[-1].stage if before else Stage.CONNECT
        self._header: Header | None = None
        self._author: Author | None = None
        self._author_allowed: bool | None = None
        self._trusted: AuthenticationResults | None = None
        self._size = 0
        self._gather = runtime.gather(runtime.policy)
        if fault is not None:
            self._gather.fault("connection", fault)
        self._judgements = list(before)
        self._told = 0
        self._notes = Notes(runtime)
        self._checks = Checks(runtime.policy, connection, self._gather, self._notes)
        self._limiting = Limiting(runtime, shared=runtime.policy.envelope_only)
        self._greylisting = Greylisting(runtime, shared=runtime.policy.envelope_only)
        self._outbound: Outbound | None = None
        self._scanning: Scanning | None = None
        self._found: Mapping[str, object] = {}
        self._refused: Verdict | None = None
        # Other servers of ours can only have seen what comes from our networks.
        inside = connection.client_relay or connection.client_trusted
        self._seen_by = runtime.other_ids if inside else frozenset()
        self._made = Making(runtime, self._checks, self._gather, self._notes, self._seen_by)
        self._at, self._began = runtime.clock.now(), runtime.clock.monotonic()

    def begun(self) -> Verdict:
        """MAIL: whose mail it is is decided, and what strangers' checks will ask first is fetched."""
        return self._guarded(Stage.MAIL, self._begun)

    def _begun(self) -> Verdict:
        self._from_us = self._checks.from_us = whose(self._policy, self._connection)
        self._checks.prefetch()
        return self._judge(Stage.MAIL)

    def recipient(self, recipient: ForwardPath, queue_id: str | None) -> Verdict:
        """RCPT: this recipient alone is judged."""
        self._adopt(queue_id)
        self._offered.append(recipient)
        verdict = self._guarded(Stage.RCPT, lambda: self._recipient(recipient))
        if not verdict.disposition.final:
            self._recipients.append(recipient)
        return verdict

    def _recipient(self, recipient: ForwardPath) -> Verdict:
        verdict = self._judge(Stage.RCPT, recipient)
        if not verdict.disposition.final:
            self._checks.has_recipient()
        return verdict

    def refused(self, recipient: ForwardPath, queue_id: str | None) -> None:
        """The MTA has refused this recipient: it is none of the mail's, and nothing is judged."""
        self._adopt(queue_id)
        if not self._policy.failure_limits:
            return
        try:
            self._limiting.refused(self._facts(Stage.RCPT, recipient), self._checks.results)
        except Exception as error:  # noqa: BLE001 # our own fault, of which only the count of failures suffers
            self._gather.fault("limits", error)

    def data(self, queue_id: str | None, accepted: int | None = None) -> Verdict:
        """DATA: the recipients are complete; `accepted` is how many, where they were not all named."""
        self._adopt(queue_id)
        if accepted is not None:
            self._transaction = replace(self._transaction, accepted=accepted)
        return self._guarded(Stage.DATA, lambda: self._judge(Stage.DATA))

    def content(self, header: Header, queue_id: str | None) -> Verdict:
        """The header section is complete."""
        self._adopt(queue_id)
        self._header = header
        return self._guarded(Stage.END_OF_HEADERS, lambda: self._content(header))

    def _content(self, header: Header) -> Verdict:
        octets = sum(len(field.name) + len(field.value) + 3 for field in header)
        self._size = octets + 2
        if len(header) > MAX_FIELDS or octets > MAX_HEADER_OCTETS:
            self._refused = HEADER_TOO_LARGE
            return _CONTINUE
        user, author = self._transaction.user, author_of(header)
        self._author = author
        self._author_allowed = may_write_as(self._policy.settings.senders, user, author)
        self._notes.header(header)
        if self._connection.client_relay:
            self._checks.relayed(map(handover, header.all("Received")))
        if self._seen_by and self._policy.names("trusted"):
            self._trusted = topmost(added_inside(header, partial(ours, self._policy.settings.networks)), self._seen_by)
            self._notes.sources["trusted"] = seen_by_words(self._seen_by)
        spamd, scanner = self._policy.settings.spamd, self._runtime.scanner
        if spamd is not None and scanner is not None and (spamd.ours or not self._from_us):
            self._scanning = Scanning(spamd, scanner)
        if self._from_us:
            self._outbound = Outbound(self._policy, author, user, self._notes.resolver())
        else:
            self._checks.prefetch_lists(author)
            self._gather.begin_content(
                header, author, self._checks.results.spf, self._runtime.clock.now(), self._notes.resolver()
            )
        return self._judge(Stage.END_OF_HEADERS)

    def recorded_content(self, seen: Transcript, queue_id: str | None) -> Verdict:
        """The content of a mail that is judged again by its record: as much of it as was kept."""
        self._adopt(queue_id)
        self._header = seen.content.header if seen.content else None
        return self._guarded(Stage.END_OF_HEADERS, lambda: self._recorded(seen))

    def _recorded(self, seen: Transcript) -> Verdict:
        self._checks.results = replace(self._checks.results, spam=seen.results.spam)
        if seen.content is not None:
            verdict = self._content(seen.content.header)
            self.body(seen.content.body or b"")
            self._size = seen.size or 0
            return verdict
        if seen.author is None:
            # The header section was refused unread.
            self._refused = seen.verdict
            return _CONTINUE
        self._author, self._found, self._size = seen.author, seen.found, seen.size or 0
        self._author_allowed = may_write_as(self._policy.settings.senders, self._transaction.user, seen.author)
        if self._connection.client_relay:
            self._checks.relayed(seen.handovers)
        if self._seen_by and self._policy.names("trusted"):
            if seen.sources.get("trusted") == seen_by_words(self._seen_by):
                self._trusted = seen.trusted
            else:
                self._gather.not_known("trusted.", "what other servers of ours found is not in the record")
        if self._from_us:
            self._outbound = Outbound(self._policy, seen.author, self._transaction.user, self._notes.resolver())
        return self._judge(Stage.END_OF_HEADERS)

    def body(self, chunk: bytes) -> None:
        """A part of the body, in order."""
        self._size += len(chunk)
        self._notes.body(chunk)
        if self._refused is not None:
            return
        if self._scanning is not None:
            self._scanning.body(chunk)
        if self._outbound is not None:
            self._outbound.body(chunk)
        else:
            self._gather.body(chunk)

    def end(self, queue_id: str | None, lacks: frozenset[type[Change]] = frozenset()) -> Finished:
        """The mail is complete. `lacks` are the changes that the MTA does not offer."""
        self._adopt(queue_id)
        began = self._runtime.clock.monotonic()
        if self._author is None and self._refused is None:
            # An MTA that sends no end of headers: a message without header section.
            self.content(Header(), queue_id)
        finished = self._finished(lacks)
        self._limiting.finished(finished.verdict)
        self._greylisting.finished(finished.verdict, self._checks.results)
        self._notes.times["end_of_message"] = (self._runtime.clock.monotonic() - began) * 1000
        self._record(finished.verdict, completed=True)
        return finished

    def end_unseen(self, queue_id: str | None, size: int) -> Verdict:
        """The mail is complete, and was not shown: it has `size` octets."""
        self._adopt(queue_id)
        self._size = size
        for stage in (Stage.END_OF_HEADERS, Stage.END_OF_MESSAGE):
            self._guarded(stage, partial(self._judge, stage))
        verdict = conclusion(self._judgements, self._policy.settings, self._checks.results)
        self._limiting.finished(verdict)
        self._greylisting.finished(verdict, self._checks.results)
        self._record(verdict, completed=True)
        return verdict

    def aborted(self) -> None:
        """Tell of a mail that did not reach its end only if a rule refused it: all others are the client's affair."""
        self._limiting.given_up()
        self._greylisting.given_up()
        untold = self._judgements[self._told :]
        verdict = next((each.verdict for each in untold if each.verdict.disposition.final), None)
        if verdict is not None:
            self._record(verdict, completed=False)

    def _finished(self, lacks: frozenset[type[Change]]) -> Finished:
        header = self._header or Header()
        try:
            if self._refused is not None:
                return self._made.unjudged(self._refused, header, self._from_us)
            if self._scanning is not None and not self._decided():
                transaction = replace(
                    self._whole_transaction(), client=(self._checks.origin or self._transaction).client
                )
                self._scanning.begin(transaction, self._runtime.authserv_id, self._at, header)
            self._judge(Stage.END_OF_MESSAGE)
            verdict, recipients = self._conclusion(), [each.text for each in self._recipients]
            return self._made.of(verdict, header, recipients, self._outbound, lacks, whole=self._header is not None)
        except Exception as error:  # noqa: BLE001 # our own fault: the policy has declared what becomes of the mail
            self._gather.fault("finish", error)
            return self._made.unjudged(own_fault(self._policy.settings), header, self._from_us)

    def _conclusion(self) -> Verdict:
        intentions: list[Edit] = []
        if self._scanning is not None:
            intentions.append(
                Scanned(self._checks.results.spam.fields if self._checks.results.spam is not None else ())
            )
        intentions.append(Sign() if self._from_us else AddAuthenticationResults())
        if self._policy.sealer and not self._from_us:
            intentions.append(Seal())
        return conclusion(self._judgements, self._policy.settings, self._checks.results, intentions)

    def _whole(self) -> list[Judgement]:
        """The judgements of the whole mail, not of one recipient."""
        return [each for each in self._judgements if each.recipient is None]

    def _judge(self, stage: Stage, recipient: ForwardPath | None = None) -> Verdict:
        self._stage = stage
        needed = self._policy.checks if stage is Stage.END_OF_MESSAGE else self._policy.needs_at(stage)
        self._checks.run(needed, self._author, self._scanning)
        decided = self._decided()
        # Who is let off by a rule is counted all the same.
        over = decided is not None and (decided.final or not self._policy.limits[stage])
        if over or not self._policy.judges(stage):
            return _CONTINUE
        try:
            facts = self._facts(stage, recipient)
            verdict = decide(self._policy, stage, facts, self._checks.results) if decided is None else _CONTINUE
            before = verdict
            if decided is None:
                verdict = self._greylisting.judge(stage, facts, self._checks.results, verdict)
            # Who is to come again has done nothing wrong, and is charged for nothing.
            if before.disposition.final or not verdict.disposition.final:
                verdict = self._limiting.judge(stage, facts, self._checks.results, verdict)
        except Exception as error:  # noqa: BLE001 # our own fault: the policy has declared what becomes of the mail
            self._gather.fault("decide", error)
            verdict = own_fault(self._policy.settings)
        self._judgements.append(Judgement(stage, verdict, recipient.text if recipient is not None else None))
        if self._policy.envelope_only and stage < Stage.END_OF_HEADERS:
            self._tell(verdict, recipient)
        return verdict

    def _tell(self, verdict: Verdict, recipient: ForwardPath | None) -> None:
        """Where the end of a mail is often not asked about, what is done to it is told of at once."""
        observed = any(step.outcome is StepOutcome.OBSERVED for step in verdict.steps)
        if observed or verdict.edits or verdict.disposition.final or verdict.disposition is Disposition.HOLD:
            self._record(verdict, completed=False)
            if recipient is not None:
                self._judgements.pop()
            self._told = len(self._judgements)

    def _guarded(self, stage: Stage, judge: Callable[[], Verdict]) -> Verdict:
        """A fault of our own settles the mail, as the policy has declared: nothing else of it is judged."""
        if self._refused is not None:
            return self._refused
        try:
            return judge()
        except Exception as error:  # noqa: BLE001 # our own fault, as above
            self._gather.fault(stage.word, error)
            self._refused = own_fault(self._policy.settings)
            self._judgements.append(Judgement(stage, self._refused))
            return self._refused

    def _facts(self, stage: Stage, recipient: ForwardPath | None) -> Facts:
        return Facts(
            self._whole_transaction(),
            self._connection.client_trusted,
            self._connection.client_relay,
            self._from_us,
            recipient,
            self._header,
            self._author,
            self._author_allowed,
            self._size if stage is Stage.END_OF_MESSAGE else None,
            self._trusted,
            self._found,
            self._gather.unknown,
            (
                *found_summands(self._policy.settings.dnsbl, self._checks.results),
                *(each for judgement in self._whole() for each in judgement.verdict.summands),
            ),
        )

    def _whole_transaction(self) -> Transaction:
        """The transaction with the recipients so far: made on need, as most stages judge nothing."""
        if len(self._transaction.recipients) != len(self._recipients):
            self._transaction = self._transaction.addressed(tuple(self._recipients))
        return self._transaction

    def _decided(self) -> Disposition | None:
        """What is decided of the whole mail."""
        verdicts = [each.verdict for each in self._whole()]
        found = decisive(verdicts) if verdicts else None
        return found.disposition if found is not None else None

    def _adopt(self, queue_id: str | None) -> None:
        """Postfix gives the queue id with the first accepted recipient."""
        if queue_id and self._transaction.queue_id != queue_id:
            self._transaction = replace(self._transaction, queue_id=queue_id)

    def _record(self, verdict: Verdict, *, completed: bool) -> None:
        notes, shadow = self._notes, self._shadow()
        notes.times["total"] = (self._runtime.clock.monotonic() - self._began) * 1000
        self._runtime.record(
            Transcript(
                transaction=self._whole_transaction(),
                at=self._at,
                policy=self._policy.digest,
                authserv_id=self._runtime.authserv_id,
                from_us=self._from_us,
                author=self._author,
                size=self._size if completed else None,
                results=self._checks.results,
                signed=self._made.signed.names,
                unsigned=self._made.signed.unsigned,
                sealed=self._made.sealed.name,
                unsealed=self._made.sealed.unsealed,
                judgements=tuple(self._judgements),
                verdict=verdict,
                answers=notes.answers(),
                times={part: round(spent, 3) for part, spent in notes.times.items()},
                completed=completed,
                fault="; ".join(self._gather.faults) or None,
                handovers=tuple(notes.handovers),
                trusted=self._trusted,
                found=self._found or self._content_facts(),
                sources=notes.all_sources(),
                content=notes.content(self._header),
                shadow=shadow,
            )
        )

    def _content_facts(self) -> Mapping[str, object]:
        if not self._runtime.explains:
            return {}
        return content_facts(Facts(self._transaction, header=self._header))

    def _shadow(self) -> Shadow | None:
        """What the policy in shadow says of the mail that is over: whatever comes of that, it changes nothing."""
        candidate = self._policy.shadow.policy if self._policy.shadow else None
        if candidate is None or self._policy.envelope_only or self._refused is not None or self._gather.faults:
            return None
        try:
            facts = self._facts(self._stage, None)
            seen = self._policy, self._stage, facts, self._offered, self._judgements, self._checks.results
            return self._notes.timed("shadow", lambda: judge_in_shadow(candidate, *seen))
        except Exception as error:  # noqa: BLE001 # our own fault, and nobody's mail
            self._gather.fault("shadow", error)
            return Shadow(candidate.digest, Divergence.FAILED)


def seen_by_words(authserv_ids: frozenset[str]) -> tuple[str, ...]:
    """Whose results were looked for, as a transcript's sources say it."""
    return tuple(f"authserv-id {each}" for each in sorted(authserv_ids))
