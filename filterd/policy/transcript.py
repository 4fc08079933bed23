"""The record of one judgement: the same for the log, `explain`, replay, policy tests and bug reports.

Version 1. `to_mapping` gives plain JSON data; `log_line` the few words of it that one line in the log has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

from filterd.arc.verify import ArcCode
from filterd.authres.result import AuthenticationResults
from filterd.dkim.verify import DkimCode, DkimResult
from filterd.dnsbl import ListCode, ListResult
from filterd.lookup import Answer
from filterd.mail.domain import Domain
from filterd.mail.header import Header
from filterd.mail.message import Author
from filterd.mail.reason import Reason
from filterd.mail.received import Handover
from filterd.mail.transaction import Stage, Transaction
from filterd.policy.results import Results
from filterd.policy.shadow import Shadow
from filterd.policy.verdict import TAG_FIELD, AddField, Disposition, Edit, Step, StepOutcome, Verdict, score_of

VERSION = 1
# Recipients that one line of the log names.
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Judgement:
    """One stage's verdict. `recipient` is set where the stage judged one recipient."""

    stage: Stage
    verdict: Verdict
    recipient: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What was kept of the mail itself, where the policy's `decisions.keep` asks for it. `body` is None where it was
    not to be kept, or is too large."""

    header: Header
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """All that decided one mail.

    `at` is in seconds since 1970, `times` in milliseconds by part. `policy` is the digest of the policy's text.
    `signed` names the signatures that were made (DOMAIN/SELECTOR); `unsigned` says why mail from us has none. `sealed`
    and `unsealed` are the same for the ARC set on mail of strangers.
    `completed` tells a mail that reached its end from one that the client or an earlier refusal cut short. `fault` is
    what filterd itself could not do.
    `handovers` are the clients that relays of ours recorded, newest first; `trusted` is what another server of ours
    found. `found` are the facts of the content that are numbers or true or false. `sources` tells by part of the
    judgement where it comes from: "TXT bank.example" is a DNS answer, "header From" a field.
    `personal` is False where personal data was taken out. `shadow` is what the policy in shadow says; None where
    there is none, or filterd itself failed to judge the mail.
    """

    transaction: Transaction
    at: float
    policy: str
    authserv_id: str
    from_us: bool | None
    author: Author | None
    size: int | None
    results: Results
    judgements: tuple[Judgement, ...]
    verdict: Verdict
    signed: tuple[str, ...] = ()
    unsigned: Reason | None = None
    sealed: str | None = None
    unsealed: Reason | None = None
    answers: tuple[Answer, ...] = ()
    times: Mapping[str, float] = field(default_factory=dict)
    completed: bool = True
    fault: str | None = None
    handovers: tuple[Handover, ...] = ()
    trusted: AuthenticationResults | None = None
    found: Mapping[str, object] = field(default_factory=dict)
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    content: Content | None = None
    personal: bool = True
    shadow: Shadow | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Plain data for JSON; bytes are shown as latin-1 text."""
        return {"version": VERSION, **_plain(self)}

    def log_line(self) -> dict[str, Any]:
        """One mail in one line: who, what, why, how long. Nothing here is longer than a line should be."""
        spf, dmarc = self.results.spf, self.results.dmarc
        line: dict[str, Any] = {
            "queue_id": self.transaction.queue_id or "-",
            "verdict": self.verdict.disposition.value
            if self.verdict.disposition is not Disposition.CONTINUE
            else "accept",
            "rule": self.verdict.rule or "-",
            "client": str(self.transaction.client.ip or "-"),
            "helo": self.transaction.helo or "-",
            "from": self.transaction.sender.text if self.transaction.sender else "-",
            "rcpts": len(self.transaction.recipients),
            "author": self.author.domain.name if self.author and self.author.domain else "-",
            "spf": spf.code.value if spf else "-",
            "dkim": _dkim(self.results.dkim),
            "dmarc": dmarc.code.value if dmarc else "-",
        }
        if self.results.arc and self.results.arc.code is not ArcCode.NONE:
            line["arc"] = ":".join((self.results.arc.code, *map(str, self.results.arc.sealers[:1])))
        if self.verdict.override:
            line["override"] = f"arc:{self.verdict.override}"
        if self.results.dmarc_psl:
            other = self.results.dmarc_psl
            line["dmarc_psl"] = f"{other.code}:{other.policy or '-'}:{other.organizational_domain or '-'}"
        zones = [each.listing.zone.name for each in self.lists() if each.code is ListCode.LISTED]
        if zones:
            line["dnsbl"] = ",".join(dict.fromkeys(zones))
        if self.results.spam:
            line["spam"] = f"{self.results.spam.code}:{self.results.spam.score:g}"
        reasons = self.reasons()
        if reasons:
            line["reasons"] = ",".join(reasons)
        if self.transaction.user:
            line["user"] = self.transaction.user
        if self.from_us:
            line["from_us"] = "yes"
        if self.signed:
            line["signed"] = ",".join(self.signed)
        if self.unsigned:
            line["unsigned"] = self.unsigned.value
        if self.sealed:
            line["sealed"] = self.sealed
        if self.unsealed:
            line["unsealed"] = self.unsealed.value
        if self.verdict.summands:
            line["score"] = score_of(self.verdict.summands)
        if self.verdict.reply:
            line["reply"] = str(self.verdict.reply)
        refused = self.refused_recipients()
        if refused:
            line["refused"] = ",".join(f"{rule}:<{text}>" for rule, text in refused[:_MAX_NAMED])
            line["refused_rcpts"] = len(refused)
        listed = (("tags", self.tags()), ("observed", self.observed()), ("not_evaluated", self.not_evaluated()))
        for word, rules in listed:
            if rules:
                line[word] = ",".join(rules)
        greylisted = self.greylisted()
        if greylisted:
            line["greylist"] = "; ".join(dict.fromkeys(told for _, told in greylisted[:_MAX_NAMED]))
        limits = self.limits()
        if limits:
            line["limits"] = "; ".join(dict.fromkeys(f"{name}: {told}" for name, _, told in limits[:_MAX_NAMED]))
        if self.fault:
            line["fault"] = self.fault
        if self.shadow:
            line["shadow"] = self.shadow.word
        if not self.completed:
            line["completed"] = "no"
        line["size"] = self.size if self.size is not None else "-"
        line["ms"] = round(self.times.get("total", 0.0), 1)
        line["policy"] = self.policy
        line["session"] = self.transaction.id
        return line

    def lists(self) -> tuple[ListResult, ...]:
        """What every DNS list said."""
        return (*(self.results.dnsbl or ()), *(self.results.dnsbl_author or ()))

    def reasons(self) -> tuple[str, ...]:
        """The reason words of all results, each once."""
        results = self.results
        found = [
            results.iprev,
            *self.lists(),
            results.spam,
            results.spf,
            *(results.dkim or ()),
            results.arc,
            results.dmarc,
            self.author,
        ]
        words = [each.reason.value for each in found if each is not None and each.reason is not None]
        return tuple(dict.fromkeys(words))

    def tags(self) -> tuple[str, ...]:
        """The rules that tagged the mail."""
        return tuple(edit.value for edit in self.verdict.edits if isinstance(edit, AddField) and edit.name == TAG_FIELD)

    def refused_recipients(self) -> tuple[tuple[str, str], ...]:
        """The rule and the recipient, of each recipient that was refused alone."""
        return tuple(
            (each.verdict.rule or "-", each.recipient)
            for each in self.judgements
            if each.recipient is not None and each.verdict.disposition.final
        )

    def limits(self) -> tuple[tuple[str, str, str], ...]:
        """The limits that were passed, observed ones too: name, key, and how much of what was used up."""
        return tuple(
            (step.rule, str(facts["limit.key"]), step.note or "")
            for step in self._steps(StepOutcome.FIRED, StepOutcome.OBSERVED)
            if "limit.key" in (facts := dict(step.facts))
        )

    def greylisted(self) -> tuple[tuple[str, str], ...]:
        """How greylisting has met each recipient: its word, and what there is to be said of it."""
        return tuple(
            (str(facts["greylist.result"]), step.note or "")
            for step in self._steps(*StepOutcome)
            if step.facts and "greylist.result" in (facts := dict(step.facts))
        )

    def not_evaluated(self) -> tuple[str, ...]:
        """The rules whose conditions failed on this mail."""
        return self._rules(StepOutcome.NOT_EVALUATED)

    def observed(self) -> tuple[str, ...]:
        """The rules in mode observe that would have fired."""
        return self._rules(StepOutcome.OBSERVED)

    def _rules(self, outcome: StepOutcome) -> tuple[str, ...]:
        return tuple(dict.fromkeys([step.rule for step in self._steps(outcome)]))

    def _steps(self, *outcomes: StepOutcome) -> list[Step]:
        """The steps of all stages that came out so."""
        return [each for judgement in self.judgements for each in judgement.verdict.steps if each.outcome in outcomes]


def _dkim(results: tuple[DkimResult, ...] | None) -> str:
    """`pass:example.org,fail:example.net`; none without a signature; - where the check was not run."""
    if results is None:
        return "-"
    return ",".join(f"{each.code.value}:{each.sdid or '-'}" for each in results) or DkimCode.NONE.value


def _plain(value: Any) -> Any:
    """Plain data of any part: None is left out of records, nothing else is."""
    kind = type(value)
    writer = _WRITERS.get(kind)
    if writer is None:
        writer = _WRITERS[kind] = _writer(kind)
    return writer(value)


# Types are looked at once, as every mail has hundreds of values.
_WRITERS: dict[type[Any], Callable[[Any], Any]] = {}


def _writer(kind: Any) -> Callable[[Any], Any]:
    """What writes values of this type."""
    if kind in (bool, int, float, str, type(None)):
        return _as_it_is
    if kind is Domain:
        return lambda domain: domain.name
    if kind is bytes:
        return lambda octets: octets.decode("latin-1")
    if kind is Stage:
        return lambda stage: stage.word
    if issubclass(kind, Enum):
        return lambda member: member.value
    if is_dataclass(kind):
        return _record_writer(kind)
    if issubclass(kind, Mapping):
        return lambda mapping: {str(key): _plain(part) for key, part in mapping.items()}
    if issubclass(kind, tuple | list):
        return lambda parts: [_plain(part) for part in parts]
    return str


def _as_it_is(value: Any) -> Any:
    return value


def _record_writer(kind: Any) -> Callable[[Any], dict[str, Any]]:
    names = tuple(each.name for each in fields(kind) if not each.name.startswith("_"))
    head = {"edit": kind.__name__} if issubclass(kind, Edit) else {}

    def write(record: Any) -> dict[str, Any]:
        data: dict[str, Any] = dict(head)
        for name in names:
            part = getattr(record, name)
            if part is not None:
                data[name] = _plain(part)
        return data

    return write
