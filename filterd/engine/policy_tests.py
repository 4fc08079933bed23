"""Run a policy's own tests: by the engine that judges live mail, with DNS, clock and state of the test's own.

Asks no network and opens no file, and is bounded: each test by the sizes that its schema allows, all of them by
`MAX_SECONDS`.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from filterd.engine.changes import (
    AddRecipient,
    ChangeField,
    ChangeSender,
    DeleteField,
    DeleteRecipient,
    InsertField,
)
from filterd.engine.finish import Finished
from filterd.engine.made_mail import Foretold, Made, MadeMailError, ThrowAwayKeys, made
from filterd.engine.networks import within
from filterd.engine.replay import judge
from filterd.engine.runtime import Clock, Runtime
from filterd.engine.state_before import StateBefore
from filterd.mail.encoded_word import shown
from filterd.mail.message import author_of, split
from filterd.policy.errors import PolicyError, PolicyErrors
from filterd.policy.facts import Facts, FactValue
from filterd.policy.load_tests import NO_RULE, fact_of
from filterd.policy.policy_tests import Expect, PolicyTest
from filterd.policy.rules import Policy
from filterd.policy.signers import may_write_as
from filterd.policy.transcript import Transcript
from filterd.policy.verdict import Disposition, Verdict

#: What all tests of a policy may take together; those that are left then have failed.
MAX_SECONDS = 30.0
#: Whose results they are where the policy has no name of its own.
AUTHSERV_ID = "mx.example.org"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One expectation that does not hold."""

    what: str
    expected: str
    happened: str


@dataclass(frozen=True, slots=True)
class PolicyTestResult:
    """The outcome of one test. `trouble` says why it could not be run; `transcript` is None then."""

    test: PolicyTest
    mismatches: tuple[Mismatch, ...] = ()
    transcript: Transcript | None = None
    trouble: str | None = None

    @property
    def passed(self) -> bool:
        return not self.mismatches and self.trouble is None

    @property
    def problem(self) -> str:
        """What is wrong, in one line."""
        found = [f"{each.what}: expected {each.expected}, happened {each.happened}" for each in self.mismatches]
        return "; ".join(found) or self.trouble or ""


def run_tests(
    policy: Policy, tests: Iterable[PolicyTest], monotonic: Callable[[], float] = time.monotonic
) -> Iterator[PolicyTestResult]:
    """Run these tests of the policy, in their order."""
    keys, until = ThrowAwayKeys(), monotonic() + MAX_SECONDS
    for test in tests:
        if monotonic() > until:
            yield PolicyTestResult(test, trouble=f"was not run: all tests together may take {MAX_SECONDS:.0f} seconds")
        else:
            yield _run(policy, test, keys)


def proven(policy: Policy) -> Policy:
    """The policy, if all its tests hold, without them: workers need not carry their mails. Raises PolicyErrors with one
    error for each that does not hold."""
    failed = failures(policy)
    if failed:
        raise PolicyErrors(failed)
    return replace(policy, tests=())


def failures(policy: Policy) -> list[PolicyError]:
    """One error for each of the policy's tests that does not hold."""
    return [
        each.test.error(f"the test {each.test.name!r} fails: {each.problem}")
        for each in run_tests(policy, policy.tests)
        if not each.passed
    ]


def _run(policy: Policy, test: PolicyTest, keys: ThrowAwayKeys) -> PolicyTestResult:
    try:
        given = made(test, policy.signers, keys)
    except MadeMailError as error:
        return PolicyTestResult(test, trouble=str(error))
    transcripts: list[Transcript] = []
    clock = Clock(now=lambda: test.given.clock, monotonic=lambda: 0.0)
    name = policy.settings.identity.authserv_id or AUTHSERV_ID
    scanner = Foretold(test.given.spam) if test.given.spam is not None else None
    runtime = Runtime(
        policy,
        name,
        lambda _: given.resolver,
        transcripts.append,
        clock,
        store=StateBefore(test.given.used, test.given.greylist),
        scanner=scanner,
    )
    finished = judge(runtime, given.mail)
    if not transcripts:
        return PolicyTestResult(test, trouble="filterd has judged no mail")
    transcript = transcripts[-1]
    mismatches = tuple(_mismatches(policy, test.expect, given, finished, transcript))
    return PolicyTestResult(test, mismatches, transcript)


def _mismatches(
    policy: Policy, expect: Expect, given: Made, finished: Finished, transcript: Transcript
) -> Iterator[Mismatch]:
    verdict = finished.verdict
    for what, expected, happened in (
        ("verdict", expect.verdict, _word(verdict)),
        ("rule", expect.rule, verdict.rule or NO_RULE),
        ("at", expect.at, _stage(transcript, verdict)),
        ("tags", expect.tags, transcript.tags()),
        ("observed", expect.observed, transcript.observed()),
        ("signed", expect.signed, transcript.signed),
    ):
        if expected is not None and _comparable(expected) != _comparable(happened):
            yield Mismatch(what, _shown(expected), _shown(happened))
    if expect.reply is not None and expect.reply not in str(verdict.reply or ""):
        yield Mismatch("reply", expect.reply, str(verdict.reply or "no reply"))
    yield from _results(policy, expect, given, transcript)
    yield from _recipients(expect, transcript, verdict)
    yield from _changes(expect, finished)
    yield from _envelope(expect, finished, transcript)


def _results(policy: Policy, expect: Expect, given: Made, transcript: Transcript) -> Iterator[Mismatch]:
    facts = _facts(policy, given, transcript)
    for name, expected in expect.results.items():
        fact = fact_of(name)
        value = facts.value(fact.name, transcript.results) if fact else None
        if fact is None or value is None:
            yield Mismatch(name, _shown(expected), facts.why_not(fact.name) if fact else "no fact")
            continue
        values = _written(value)
        if isinstance(value, float):
            expected = tuple(f"{float(each):g}" for each in expected)
        if sorted(values) != sorted(expected):
            yield Mismatch(name, _shown(expected), _shown(values))


def _facts(policy: Policy, given: Made, transcript: Transcript) -> Facts:
    """All that was known at the end, whether or not a rule has asked for it."""
    networks, transaction = policy.settings.networks, transcript.transaction
    header = split(given.mail.data)[0]
    author = author_of(header)
    return Facts(
        transaction,
        within(transaction.client.ip, networks.trusted),
        within(transaction.client.ip, networks.relays),
        transcript.from_us,
        None,
        header,
        author,
        may_write_as(policy.settings.senders, transaction.user, author),
        transcript.size,
        transcript.trusted,
        summands=transcript.verdict.summands,
    )


def _written(value: FactValue) -> list[str]:
    """A fact as a test writes it."""
    if isinstance(value, list):
        return value
    return [f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)]


def _recipients(expect: Expect, transcript: Transcript, verdict: Verdict) -> Iterator[Mismatch]:
    alone = {each.recipient: each.verdict for each in transcript.judgements if each.recipient is not None}
    for recipient, expected in expect.recipients.items():
        own = alone.get(recipient, Verdict())
        happened = _word(own if own.disposition.final else verdict)
        if happened != expected:
            yield Mismatch(f"recipient {recipient}", expected, happened)


def _changes(expect: Expect, finished: Finished) -> Iterator[Mismatch]:
    written = [each for each in finished.changes if isinstance(each, (InsertField, ChangeField))]
    added = [(each.name, " ".join(shown(each.value.encode()).split())) for each in written]
    removed = {each.name.lower() for each in finished.changes if isinstance(each, DeleteField)}
    for name, part in expect.adds.items():
        texts = [text for field, text in added if field.lower() == name.lower()]
        if not any(part in text for text in texts):
            yield Mismatch("adds", f"{name}: {part}", _shown([f"{name}: {text}" for text in texts]))
    for name in expect.removes:
        if name.lower() not in removed:
            yield Mismatch("removes", name, "the field stays, or the mail has none")


def _envelope(expect: Expect, finished: Finished, transcript: Transcript) -> Iterator[Mismatch]:
    """By whom and to whom it goes on."""
    sender = transcript.transaction.sender.text if transcript.transaction.sender else ""
    recipients = [each.text for each in transcript.transaction.recipients]
    for change in finished.changes:
        match change:
            case AddRecipient(address):
                recipients.append(address)
            case DeleteRecipient(address):
                recipients.remove(address)
            case ChangeSender(address):
                sender = address
    if finished.verdict.disposition.final:
        recipients = []
    if expect.sent_by is not None and sender != expect.sent_by:
        yield Mismatch("sent_by", f"<{expect.sent_by}>", f"<{sender}>")
    if expect.sent_to is not None and sorted(recipients) != sorted(expect.sent_to):
        yield Mismatch("sent_to", _shown(expect.sent_to), _shown(recipients))


def _word(verdict: Verdict) -> str:
    taken = verdict.disposition is Disposition.CONTINUE
    return (Disposition.ACCEPT if taken else verdict.disposition).value


def _stage(transcript: Transcript, verdict: Verdict) -> str:
    decided = [each.stage for each in transcript.judgements if each.verdict.rule and each.verdict.rule == verdict.rule]
    return decided[0].word if decided else NO_RULE


def _comparable(value: str | Sequence[str]) -> str | list[str]:
    return value if isinstance(value, str) else sorted(value)


def _shown(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value) or "nothing"
