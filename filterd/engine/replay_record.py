"""Judge a mail again by the record of its first judgement: another policy, the same mail, the same DNS, the same clock.

Nothing is guessed. A check that the record has is not run again; one that it lacks is run where the record has all that
it needs, else its facts are unknown, and a rule for which that matters cannot be told.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from filterd.arc.sets import bears_sets
from filterd.arc.verify import ArcCode, ArcResult, Hop
from filterd.backend.memory_store import MemoryStore
from filterd.backend.recorded import RecordedResolver
from filterd.dkim.verify import DkimResult
from filterd.dmarc.evaluate import DmarcResult
from filterd.dnsbl import DnsList, ListResult
from filterd.engine.gather import Gather
from filterd.engine.runtime import Clock, Runtime
from filterd.engine.sealing import Sealed
from filterd.engine.session import MailSession
from filterd.helo import HeloResult
from filterd.iprev import IprevResult
from filterd.limits.greylist import Answer, Attempt
from filterd.lookup import Resolver
from filterd.mail.address import AddressError, parse_path
from filterd.mail.header import Header
from filterd.mail.message import Author
from filterd.mail.reason import Reason
from filterd.mail.transaction import ForwardPath, IPAddress, Stage, Transaction
from filterd.policy.facts import SCORE, Check
from filterd.policy.greylist import GREYLIST, seen_before
from filterd.policy.rules import Mode, Policy
from filterd.policy.transcript import Transcript
from filterd.policy.verdict import StepOutcome, Verdict
from filterd.spf.check import SpfResult

T = TypeVar("T")
_NO_KEYS = Sealed()


@dataclass(frozen=True, slots=True)
class Rejudged:
    """How a mail ends under another policy. `unknown` says why that cannot be told; empty where it can.

    `transcript` is None where the record ends too early for any verdict.
    """

    transcript: Transcript | None
    unknown: tuple[str, ...] = ()


def rejudge(policy: Policy, authserv_id: str, seen: Transcript) -> Rejudged:
    """Judge by the record."""
    if not seen.personal:
        return Rejudged(None, ("addresses were not kept (decisions.personal is false)",))
    asked = RecordedResolver(seen.answers)
    taken: list[Transcript] = []
    gathers: list[RecordedGather] = []

    def gather(policy: Policy) -> Gather:
        gathers.append(RecordedGather(policy, seen, asked))
        return gathers[-1]

    clock = Clock(now=lambda: seen.at, monotonic=lambda: 0.0)
    uncharged = replace(policy.offline(), greylist=policy.greylist)
    store = SeenGreylist(seen)
    runtime = Runtime(uncharged, authserv_id, lambda _: asked, taken.append, clock, store=store, gather=gather)
    session = MailSession(runtime, seen.transaction.id)
    ended = _dialogue(session, seen)
    session.close()
    if not taken:
        stage = ended.word if ended else "its end"
        return Rejudged(None, (f"the mail was not seen beyond {stage}",))
    # The session counts anew; the mail is the one that it was.
    transaction = replace(taken[-1].transaction, id=seen.transaction.id)
    transcript = replace(taken[-1], transaction=transaction)
    noticed = [name for each in gathers for name in each.noticed]
    unasked = [name for name in asked.unasked if name not in noticed]
    why = unknown(policy, transcript) + tuple(f"dns for {name} was not asked" for name in unasked)
    return Rejudged(transcript, why + _limited(seen))


def _limited(seen: Transcript) -> tuple[str, ...]:
    """The mail was not seen as it would have been, where a limit has ended it; and limits are not asked again."""
    steps = (step for judgement in seen.judgements for step in judgement.verdict.steps)
    limits = {step.rule for step in steps if any(name == "limit.key" for name, _ in step.facts)}
    decided = {judgement.verdict.rule for judgement in seen.judgements} & limits
    return tuple(f"limits are not asked again, and {name} had decided" for name in sorted(filter(None, decided)))


def unknown(policy: Policy, transcript: Transcript) -> tuple[str, ...]:
    """Why it is not known how this mail ends: what the rules that are carried out would have to know."""
    modes = {rule.name: rule.mode for rules in policy.rules.values() for rule in rules}
    if policy.greylist is not None:
        modes[GREYLIST] = policy.greylist.rule.mode
    steps = (step for judgement in transcript.judgements for step in judgement.verdict.steps)
    why = [
        step.note or "a fact is not known"
        for step in steps
        if step.outcome is StepOutcome.CANNOT_TELL and modes.get(step.rule) is Mode.ENFORCE
    ]
    if any(SCORE in names for names in policy.facts.values()):
        why += [f"{check} was not run, and would count" for check in _not_scored(policy, transcript)]
    undecided = transcript.verdict.rule is None and not transcript.from_us
    if undecided and transcript.results.dmarc is None and policy.settings.dns.on_error != "skip":
        why.append("dmarc was not run")
    return tuple(dict.fromkeys(why))


def _not_scored(policy: Policy, transcript: Transcript) -> tuple[Check, ...]:
    """The checks that add to the score, and have no result."""
    results, spamd = transcript.results, policy.settings.spamd
    found = {Check.DNSBL: results.dnsbl, Check.DNSBL_AUTHOR: results.dnsbl_author, Check.SPAM: results.spam}
    if transcript.from_us:
        found = {Check.SPAM: results.spam} if spamd is not None and spamd.ours else {}
    return tuple(check for check, result in found.items() if check in policy.checks and result is None)


def _dialogue(session: MailSession, seen: Transcript) -> Stage | None:
    """Tell the session what was seen; the last stage of it, where the mail was cut short there."""
    transaction = seen.transaction
    last = None if seen.completed else max((each.stage for each in seen.judgements), default=Stage.CONNECT)

    def beyond(stage: Stage) -> bool:
        return last is not None and stage > last

    if _final(session.connect(transaction.client, transaction.daemon)) or beyond(Stage.HELO):
        return last
    if transaction.helo is not None and _final(session.helo(transaction.helo, transaction.tls)):
        return last
    if beyond(Stage.MAIL) or transaction.sender is None:
        return last
    queue_id = transaction.queue_id
    if _final(session.mail(transaction.sender, transaction.user, queue_id)) or beyond(Stage.RCPT):
        return last
    recipients = _recipients(seen)
    refused = [_final(session.rcpt(each, queue_id)) for each in recipients]
    if (recipients and all(refused)) or beyond(Stage.DATA):
        return last
    if _final(session.data(queue_id, transaction.accepted)) or beyond(Stage.END_OF_HEADERS):
        return last
    if _final(session.recorded_content(seen, queue_id)) or beyond(Stage.END_OF_MESSAGE):
        return last
    session.end_of_message(queue_id)
    return None


def _final(verdict: Verdict) -> bool:
    return verdict.disposition.final


def _recipients(seen: Transcript) -> tuple[ForwardPath, ...]:
    """Those whom the mail was for, with those who were refused."""
    known = {each.text: each for each in seen.transaction.recipients}
    judged = [each.recipient for each in seen.judgements if each.recipient is not None]
    named = {text: known.get(text) or _forward(text) for text in judged}
    return tuple((named | known).values())


def _forward(text: str) -> ForwardPath:
    try:
        return ForwardPath(text, parse_path(text))
    except AddressError:
        return ForwardPath(text, None)


class SeenGreylist(MemoryStore):
    """What greylisting was answered then is answered again, by the delay of today; nothing else is known."""

    def __init__(self, seen: Transcript) -> None:
        super().__init__()
        self._ask = seen_before(seen.judgements, [each.text for each in seen.transaction.recipients])

    def attempt(self, asked: Attempt, now: int) -> Answer:
        return self._ask(asked)


class RecordedGather(Gather):
    """The checks, as far as a record has their results. `noticed` are the names that were not asked, and told of.

    `unknown` says of facts why the record has them not, where it is another server's word.
    """

    def __init__(
        self, policy: Policy, seen: Transcript, asked: RecordedResolver, unknown: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(policy)
        self._seen, self._asked = seen, asked
        self.unknown.update(unknown or {})
        # Results that somebody else told are taken at their word, as what they were found by is not there.
        self._told = unknown is not None
        self._header: Header | None = None
        self.noticed: set[str] = set()

    def begin_content(
        self, header: Header, author: Author, spf: SpfResult | None, now: float, resolver: Resolver
    ) -> None:
        self._header = header
        super().begin_content(header, author, spf, now, resolver)

    def spf(self, transaction: Transaction, resolver: Resolver) -> SpfResult | None:
        known = self._seen.results.spf
        if known is not None and self._judged(transaction):
            return known
        return self._asking(Check.SPF, lambda: super(RecordedGather, self).spf(transaction, resolver), transaction)

    def spf_helo(self, transaction: Transaction, resolver: Resolver) -> SpfResult | None:
        known = self._seen.results.spf_helo
        if known is not None and self._judged(transaction):
            return known
        return self._asking(
            Check.SPF_HELO, lambda: super(RecordedGather, self).spf_helo(transaction, resolver), transaction
        )

    def iprev(self, transaction: Transaction, resolver: Resolver) -> IprevResult | None:
        known = self._seen.results.iprev
        if known is not None and self._judged(transaction):
            return known
        return self._asking(Check.IPREV, lambda: super(RecordedGather, self).iprev(transaction, resolver), transaction)

    def helo(self, transaction: Transaction, resolver: Resolver) -> HeloResult | None:
        known = self._seen.results.helo
        if known is not None and self._judged(transaction):
            return known
        return self._asking(Check.HELO, lambda: super(RecordedGather, self).helo(transaction, resolver), transaction)

    def dnsbl(
        self, lists: tuple[DnsList, ...], transaction: Transaction, author: Author | None, resolver: Resolver
    ) -> tuple[ListResult, ...] | None:
        check = Check.DNSBL if author is None else Check.DNSBL_AUTHOR
        run = super().dnsbl
        client = transaction if author is None else None
        return self._asking(check, lambda: run(lists, transaction, author, resolver), client)

    def dkim(self, resolver: Resolver) -> tuple[DkimResult, ...] | None:
        if self._seen.results.dkim is not None:
            return self._seen.results.dkim
        if self._header is not None and not self._header.has("DKIM-Signature"):
            return ()
        if self._seen.content is None or self._seen.content.body is None:
            self._unknown(Check.DKIM, "dkim was not run")
            return None
        return self._asking(Check.DKIM, lambda: super(RecordedGather, self).dkim(resolver))

    def arc(self, resolver: Resolver) -> tuple[ArcResult | None, Hop | None]:
        known = self._seen.results.arc
        if known is None and self._header is not None and not bears_sets(self._header):
            known = ArcResult(ArcCode.NONE)
        if known is not None:
            return known, known.first_trusted(self._trusted_sealers)
        if self._seen.content is None or self._seen.content.body is None:
            self._unknown(Check.ARC, "arc was not run")
            return None, None
        found = self._asking(Check.ARC, lambda: super(RecordedGather, self).arc(resolver))
        return found or (None, None)

    def dmarc(
        self,
        author: Author,
        spf: SpfResult | None,
        dkim: tuple[DkimResult, ...],
        arc: ArcResult | None,
        resolver: Resolver,
    ) -> tuple[DmarcResult | None, DmarcResult | None]:
        """DMARC by the recorded answers, as the policies may differ in `dmarc.organizational_domain`."""
        known = self._seen.results.dmarc
        if known is not None and (self._told or known.reason is Reason.CHECK_FAILED):
            return known, self._seen.results.dmarc_psl
        for check in (Check.SPF, Check.DKIM):
            if check in self.unknown:
                self._unknown(Check.DMARC, self.unknown[check])
                return None, None
        found = self._asking(Check.DMARC, lambda: super(RecordedGather, self).dmarc(author, spf, dkim, arc, resolver))
        return found or (None, None)

    def seal(self, *_: object) -> Sealed:
        """Nothing leaves here, so nothing is sealed."""
        return _NO_KEYS

    def _judged(self, transaction: Transaction) -> bool:
        """Whether the recorded results are of this client and HELO name: a relay's, or the one that it recorded."""
        was = self._seen.transaction
        client: tuple[IPAddress | None, str | None] = (was.client.ip, was.helo)
        if self._seen.handovers:
            client = (self._seen.handovers[-1].ip, self._seen.handovers[-1].helo)
        now = (transaction.client.ip, transaction.helo)
        # Where no relay's field named a client, both have none.
        spf = self._seen.results.spf
        nobody = spf is not None and spf.reason is Reason.SPF_NO_CLIENT
        return now == client or (now == (None, None) and nobody)

    def _asking(self, check: Check, run: Callable[[], T], transaction: Transaction | None = None) -> T | None:
        """Run a check on the recorded answers: without one of them it has no result."""
        if transaction is not None and transaction.client.ip is None:
            self._unknown(check, f"{check} was not run: the record does not have the client")
            return None
        before = len(self._asked.unasked)
        found = run()
        missing = self._asked.unasked[before:]
        if missing:
            self.noticed.update(missing)
            self._unknown(check, f"dns for {missing[0]} was not asked")
            return None
        return found

    def _unknown(self, check: Check, why: str) -> None:
        self.unknown[check] = why
