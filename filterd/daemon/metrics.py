"""What is counted of each mail, under which name, and how Prometheus reads it.

Labels are words of our own and the names of the policy's rules, never what came with a mail. Counting is a worker's,
the text is made by the master.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from filterd.daemon.tally import OVERFLOW, Count, Key
from filterd.policy.results import Results
from filterd.policy.transcript import Transcript
from filterd.policy.verdict import Disposition, StepOutcome

MAILS = "filterd_mails"
RESULTS = "filterd_results"
UNSIGNED = "filterd_unsigned"
ENVELOPES = "filterd_envelopes"
FAULTS = "filterd_faults"
SHADOW = "filterd_shadow"
SIGNED = ("filterd_signed",)
_SECONDS, _SECONDS_SUM = "filterd_seconds", "filterd_seconds_sum"


@dataclass(frozen=True, slots=True)
class Counted:
    """A counter: its name without `_total`, what it means, its labels."""

    name: str
    doc: str
    labels: tuple[str, ...] = ()


#: Every counter, but for those of times.
COUNTERS = (
    Counted(MAILS, "Mails that ended or were refused, by verdict and deciding rule.", ("verdict", "rule")),
    Counted(ENVELOPES, "Mails judged by the policy service, by verdict and deciding rule.", ("verdict", "rule")),
    Counted("filterd_recipients_refused", "Recipients refused alone.", ("rule",)),
    Counted("filterd_rules", "Mails on which a rule fired, would have fired, or was in doubt.", ("rule", "outcome")),
    Counted("filterd_greylist", "Recipients that greylisting met, by how: first, early, passed, known.", ("result",)),
    Counted(RESULTS, "Results of checks; DKIM has one a signature.", ("method", "result")),
    Counted("filterd_dns_answers", "DNS answers that mails were judged by, by outcome.", ("outcome",)),
    Counted(SIGNED[0], "Mails from us that were signed."),
    Counted(UNSIGNED, "Mails from us that were not signed, by reason.", ("reason",)),
    Counted("filterd_sealed", "Mails that got an ARC set."),
    Counted("filterd_unsealed", "Mails that got no ARC set where one was asked for, by reason.", ("reason",)),
    Counted(SHADOW, "Mails that the policy in shadow judged, by what it would have done otherwise.",
            ("divergence", "live_verdict", "live_rule", "verdict", "rule")),
    Counted(FAULTS, "Faults of filterd's own, by part.", ("part",)),
    Counted("filterd_protocol_errors", "Connections closed as the MTA did not speak the milter protocol."),
    Counted("filterd_worker_ends", "Workers that ended without being told to."),
    Counted("filterd_workers_recycled", "Workers replaced as they hung or had grown too large.", ("reason",)),
    Counted("filterd_reloads", "Attempts to load the policy anew.", ("outcome",)),
    Counted(OVERFLOW[0], "What was not counted, for want of room."),
)  # fmt: skip

# In seconds: from what a mail without DNS takes to what an MTA waits for.
_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
_BUCKETS = (*map(str, _BOUNDS), "+Inf")
_TOLD = frozenset({StepOutcome.FIRED, StepOutcome.OBSERVED, StepOutcome.NOT_EVALUATED, StepOutcome.CANNOT_TELL})

#: An MTA, or whoever came, does not speak the milter protocol.
PROTOCOL_ERROR: Count = (("filterd_protocol_errors",), 1)


def counts(transcript: Transcript) -> Iterator[Count]:
    """What one mail adds."""
    yield (MAILS, *_decided(transcript)), 1
    for judgement in transcript.judgements:
        for step in judgement.verdict.steps:
            if step.outcome in _TOLD:
                yield ("filterd_rules", step.rule, step.outcome.value), 1
        if judgement.recipient is not None and judgement.verdict.disposition.final:
            yield ("filterd_recipients_refused", judgement.verdict.rule or "-"), 1
    yield from _greylist(transcript)
    for method, word in _results(transcript.results):
        yield (RESULTS, method, word), 1
    for outcome, number in Counter([answer.outcome for answer in transcript.answers]).items():
        yield ("filterd_dns_answers", outcome.value), number
    if transcript.signed:
        yield SIGNED, 1
    if transcript.unsigned is not None:
        yield (UNSIGNED, transcript.unsigned.value), 1
    if transcript.sealed is not None:
        yield ("filterd_sealed",), 1
    if transcript.unsealed is not None:
        yield ("filterd_unsealed", transcript.unsealed.value), 1
    if transcript.shadow is not None:
        shadow = transcript.shadow
        yield (SHADOW, shadow.divergence.value, *shadow.live.words, *shadow.candidate.words), 1
    yield from _faults(transcript)
    for part, took in transcript.times.items():
        yield (_SECONDS, part, _BUCKETS[bisect_left(_BOUNDS, took / 1000)]), 1
        yield (_SECONDS_SUM, part), took / 1000


def envelope_counts(transcript: Transcript) -> Iterator[Count]:
    """What one record of the policy service adds: the milter counts the same mail, if there is one."""
    yield (ENVELOPES, *_decided(transcript)), 1
    yield from _greylist(transcript)
    yield from _faults(transcript)


def _greylist(transcript: Transcript) -> Iterator[Count]:
    for word, _ in transcript.greylisted():
        yield ("filterd_greylist", word), 1


def _decided(transcript: Transcript) -> tuple[str, str]:
    verdict = transcript.verdict
    word = "accept" if verdict.disposition is Disposition.CONTINUE else verdict.disposition.value
    return word, verdict.rule or "-"


def _faults(transcript: Transcript) -> Iterator[Count]:
    if transcript.fault is not None:
        # "PART: what happened (file:line)", of each fault.
        for fault in transcript.fault.split("; "):
            part = fault.partition(":")[0]
            yield (FAULTS, part if part.isidentifier() else "other"), 1


def fault(part: str) -> Count:
    """A fault outside of a mail."""
    return (FAULTS, part), 1


def _results(results: Results) -> Iterator[tuple[str, str]]:
    one = (("spf", results.spf), ("spf_helo", results.spf_helo), ("arc", results.arc), ("dmarc", results.dmarc))
    for method, result in one:
        if result is not None:
            yield method, result.code.value
    if results.dkim is not None:
        for each in results.dkim:
            yield "dkim", each.code.value
        if not results.dkim:
            yield "dkim", "none"


def exposition(numbers: Mapping[Key, float], gauges: Iterable[tuple[str, str, Mapping[Key, float]]]) -> str:
    """All numbers as Prometheus reads them (text format). A gauge is its name, what it means, and its values by label
    and value (`("state", "ready")`)."""
    return generate_latest(_Families(numbers, gauges)).decode()


class _Families:
    def __init__(self, numbers: Mapping[Key, float], gauges: Iterable[tuple[str, str, Mapping[Key, float]]]) -> None:
        self._numbers = numbers
        self._gauges = gauges

    def collect(self) -> Iterator[Family]:
        for counter in COUNTERS:
            family = CounterMetricFamily(counter.name, counter.doc, labels=counter.labels)
            for key, number in sorted(self._numbers.items()):
                if key[0] == counter.name and len(key) == len(counter.labels) + 1:
                    family.add_metric(key[1:], number)
            yield family
        for name, doc, values in self._gauges:
            gauge = GaugeMetricFamily(name, doc, labels=sorted({key[0] for key in values if key}))
            for key, number in values.items():
                gauge.add_metric(key[1:], number)
            yield gauge
        yield self._seconds()

    def _seconds(self) -> Family:
        family = HistogramMetricFamily(_SECONDS, "Time by part; DNS is waited for within.", labels=["part"])
        for part in sorted({key[1] for key in self._numbers if key[0] == _SECONDS_SUM}):
            buckets, below = [], 0.0
            for bound in _BUCKETS:
                below += self._numbers.get((_SECONDS, part, bound), 0.0)
                buckets.append((bound, below))
            family.add_metric([part], buckets, self._numbers[(_SECONDS_SUM, part)])
        return family
