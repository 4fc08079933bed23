"""Each mail is counted by what became of it, in words of our own."""

from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import ip_address

from prometheus_client.parser import text_string_to_metric_families

from filterd.backend.zone import zone_resolver
from filterd.daemon import metrics
from filterd.daemon.metrics import counts, envelope_counts, exposition
from filterd.daemon.tally import Count
from filterd.engine.runtime import Runtime
from filterd.engine.session import MailSession
from filterd.mail.address import parse_path
from filterd.mail.header import Field
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.load import load
from filterd.policy.transcript import Transcript

ZONE = """\
$TTL 300
@               IN SOA a. b. 1 2 3 4 5
bank.example.   IN TXT "v=spf1 -all"
_dmarc.bank.example. IN TXT "v=DMARC1; p=reject"
"""
POLICY = """\
version: 1
rules:
  - { name: no-root, when: envelope.recipient == "root@home.example", then: reject }
  - { name: watched, when: spf.result == "fail", then: reject, mode: observe }
  - { name: marked, when: spf.result == "fail", then: tag }
  - { name: forged, when: dmarc.result == "fail", then: reject }
"""


def judged(
    ip: str, count: Callable[[Transcript], Iterator[Count]] = counts, policy: str = POLICY
) -> Counter[tuple[str, ...]]:
    """What a mail of service@bank.example adds to the counters, those of times left out."""
    transcripts: list[Transcript] = []
    runtime = Runtime(load(policy, "p.yaml"), "mx.example", lambda _: zone_resolver(ZONE), transcripts.append)
    session = MailSession(runtime, "c")
    session.connect(Client(ip_address(ip)), None)
    session.helo("x", None)
    session.mail(ReversePath("s@bank.example", parse_path("s@bank.example")), None, None)
    for name in ("root", "anna"):
        session.rcpt(ForwardPath(f"{name}@home.example", parse_path(f"{name}@home.example")), "Q")
    session.end_of_headers((Field(b"From", b" s@bank.example"),), "Q")
    session.end_of_message("Q")
    found: Counter[tuple[str, ...]] = Counter()
    for key, number in count(transcripts[0]):
        if not key[0].startswith("filterd_seconds"):
            found[key] += int(number)
    return found


def test_a_forged_mail_is_counted_by_verdict_rule_and_results() -> None:
    assert judged("203.0.113.9") == {
        ("filterd_mails", "reject", "forged"): 1,
        ("filterd_recipients_refused", "no-root"): 1,
        ("filterd_rules", "no-root", "fired"): 1,
        ("filterd_rules", "watched", "observed"): 1,
        ("filterd_rules", "marked", "fired"): 1,
        ("filterd_rules", "forged", "fired"): 1,
        ("filterd_results", "spf", "fail"): 1,
        ("filterd_results", "dkim", "none"): 1,
        ("filterd_results", "arc", "none"): 1,
        ("filterd_results", "dmarc", "fail"): 1,
        ("filterd_dns_answers", "found"): 2,
        ("filterd_dns_answers", "nxdomain"): 1,
    }


def test_mail_of_ours_left_unsigned_is_counted_by_its_reason() -> None:
    found = judged("127.0.0.1")

    assert found["filterd_mails", "accept", "-"] == 1
    assert found["filterd_unsigned", "sign.not-configured"] == 1


def test_what_the_policy_service_judges_is_counted_apart() -> None:
    assert judged("203.0.113.9", envelope_counts) == {("filterd_envelopes", "reject", "forged"): 1}


def test_prometheus_reads_the_text() -> None:
    numbers: Counter[tuple[str, ...]] = Counter({("filterd_mails", "reject", "forged"): 3.0})
    for took in (0.0004, 0.001, 0.3, 99.0):
        bucket = next((each for each in (0.001, 0.5) if took <= each), None)
        numbers["filterd_seconds", "total", str(bucket) if bucket else "+Inf"] += 1
        numbers["filterd_seconds_sum", "total"] += took
    text = exposition(numbers, [("filterd_policy_generation", "x", {(): 7})])
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    assert samples["filterd_mails_total", "forged", "reject"] == 3
    assert samples["filterd_policy_generation",] == 7
    buckets = {bound: samples["filterd_seconds_bucket", bound, "total"] for bound in ("0.001", "0.2", "0.5", "+Inf")}
    assert buckets == {"0.001": 2, "0.2": 2, "0.5": 3, "+Inf": 4}
    assert samples["filterd_seconds_count", "total"] == 4


def test_every_counter_is_declared() -> None:
    declared = {counter.name: len(counter.labels) for counter in metrics.COUNTERS}
    for key in [*judged("203.0.113.9"), *judged("127.0.0.1"), metrics.PROTOCOL_ERROR[0], metrics.fault("x")[0]]:
        assert declared[key[0]] == len(key) - 1
