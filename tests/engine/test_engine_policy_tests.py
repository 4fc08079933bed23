"""A policy's own tests: each thing that they can give and expect, and how a failure is told."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.backend.keys import new_key
from filterd.dkim.key_record import KeyType
from filterd.dkim.sign import SigningKey
from filterd.engine.policy_tests import MAX_SECONDS, PolicyTestResult, proven, run_tests
from filterd.policy.conditions import compile_condition
from filterd.policy.errors import PolicyErrors
from filterd.policy.load import load
from filterd.policy.policy_tests import Given

POLICY = """\
version: 1
identity: { authserv_id: mx.home.example }
networks: { relays: [198.51.100.7] }
arc: { trusted_sealers: [list.example] }
sign: [{ domains: [home.example], keys: [{ selector: r1, file: key }] }]
rules:
  - { name: no-root, when: envelope.recipient == "root@home.example", then: reject, reply: "550 5.1.1 nobody" }
  - { name: slow-down, when: client.helo == "slow.example", then: defer }
  - { name: refuse, when: dmarc.result == "fail" && arc.trusted_dmarc != "pass", then: reject }
  - { name: junk, when: spf.result == "fail", then: quarantine }
  - { name: odd, when: dkim.result == "none" && !from_us, then: tag }
  - { name: move, when: envelope.sender == "move@x.example", then: [{ redirect: b@c.example }, { change_sender: <> }] }
  - { name: add, when: envelope.sender == "add@x.example", then: [{ add_recipient: b@c.example }, { score: 2.5 }] }
  - { name: label, when: envelope.sender == "label@x.example", then: { subject_prefix: "[ö]" } }
  - { name: watch, when: message.indirect, then: discard, mode: observe }
"""
BANK = "{ bank.example: v=spf1 ip4:192.0.2.10 -all, _dmarc.bank.example: v=DMARC1; p=reject }"
SHIPPED = sorted((Path(__file__).parents[2] / "policies").glob("*.yaml"))
_ONE = load("version: 1\ntests: [{ name: a, expect: { verdict: accept } }]\n", "p.yaml")
KEY = SigningKey.load(new_key(KeyType.RSA))


def run(given: str, expect: str, policy: str = POLICY, **files: bytes) -> PolicyTestResult:
    text = f"{policy}tests:\n  - {{ name: the test, given: {given}, expect: {expect} }}\n"
    loaded = load(text, "p.yaml", lambda _: KEY, read_file=lambda file: files[file])
    (outcome,) = run_tests(loaded, loaded.tests)
    return outcome


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        ("{}", "{ verdict: accept, rule: none, tags: [odd], adds: { X-Filterd-Tag: odd }, results: { spf: none } }"),
        (
            f"{{ message: {{ from: a@bank.example }}, dns: {BANK} }}",
            "{ verdict: reject, rule: refuse, reply: 550 5.7.1, at: end_of_message, tags: [], results: { dmarc: fail } }",
        ),
        (
            f"{{ sender: a@bank.example, client: {{ ip: 192.0.2.10 }}, dns: {BANK} }}",
            "{ verdict: accept, results: { spf: pass, dmarc: pass, dmarc.author_domain: bank.example } }",
        ),
        (
            f"{{ message: {{ from: a@bank.example }}, signed_by: [bank.example, other.example], dns: {BANK} }}",
            "{ verdict: accept, tags: [], results: { dkim.pass_domains: [other.example, bank.example] } }",
        ),
        (
            f"{{ message: {{ from: a@bank.example }}, signed_by: [bank.example], changed: {{ body: x }}, dns: {BANK} }}",
            "{ verdict: reject, results: { dkim: fail } }",
        ),
        (
            f"{{ message: {{ from: a@bank.example }}, changed: {{ subject: '[x]', header: {{ List-Id: <x.list.example> }} }},"
            f" signed_by: [bank.example], sealed_by: [other.example, list.example], dns: {BANK} }}",
            "{ verdict: accept, observed: [watch], results: { dkim: fail, arc: pass, arc.trusted_dmarc: pass } }",
        ),
        (
            f"{{ message: {{ from: a@bank.example }}, dns: {BANK},"
            " sealed_by: [{ domain: list.example, saw: { dmarc: fail } }] }",
            "{ verdict: reject, results: { arc.trusted: true, arc.trusted_dmarc: fail, arc.trusted_spf: '' } }",
        ),
        (
            "{ sender: a@shop.example, dns: { shop.example: [v=spf1 mx -all, MX 10 mx.shop.example.],"
            " mx.shop.example: A 203.0.113.1 } }",
            "{ verdict: accept, results: { spf: pass } }",
        ),
        (
            '{ sender: a@shop.example, dns: "shop.example. TXT \\"v=spf1 -all\\"\\n" }',
            "{ verdict: quarantine, rule: junk, adds: { Authentication-Results: mx.home.example; spf=fail } }",
        ),
        ("{ sender: a@down.example, dns: { down.example: fails } }", "{ results: { spf: temperror } }"),
        ("{ client: { helo: slow.example } }", "{ verdict: defer, at: mail, reply: '451 4.7.1' }"),
        (
            "{ recipients: [anna@home.example, root@home.example] }",
            "{ verdict: accept, recipients: { root@home.example: reject, anna@home.example: accept } }",
        ),
        ("{ recipients: [root@home.example] }", "{ verdict: reject, rule: no-root, at: rcpt, reply: 550 5.1.1 nobody }"),
        (
            "{ message: { header: { Authentication-Results: [mx.home.example; spf=pass] } } }",
            "{ removes: [Authentication-Results] }",
        ),
        ("{ user: anna, sender: a@home.example }", "{ signed: [home.example/r1], results: { from_us: true } }"),
        (
            "{ user: anna, sender: a@home.example, dns: { r1._domainkey.home.example: v=DKIM1; p= } }",
            "{ verdict: defer, rule: sign.on_unpublished, signed: [] }",
        ),
        ("{ sender: move@x.example }", "{ sent_to: [b@c.example], sent_by: <> }"),
        (
            "{ sender: add@x.example, recipients: [a@home.example, root@home.example] }",
            "{ sent_to: [a@home.example, b@c.example], sent_by: add@x.example, results: { score: 2.50 } }",
        ),
        ("{ sender: label@x.example, message: { subject: hi } }", "{ adds: { Subject: '[ö] hi' } }"),
        ("{ client: { helo: slow.example } }", "{ sent_to: [] }"),
        ("{ sender: <> }", "{ results: { envelope.sender: '', author.domain: example.com, author.problem: '' } }"),
        ('{ message: "From: a@x.example\\nFrom: b@x.example\\n\\nx" }', "{ rule: dmarc.on_multiple_authors }"),
        ("{ client: { ip: 198.51.100.7 } }", "{ results: { client.relay: true, client.trusted: false } }"),
    ],
)  # fmt: skip
def test_what_holds(given: str, expect: str) -> None:
    outcome = run(given, expect)

    assert (outcome.problem, outcome.passed) == ("", True)


@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ("{ verdict: reject }", "verdict: expected reject, happened accept"),
        ("{ rule: refuse }", "rule: expected refuse, happened none"),
        ("{ rule: none, at: mail }", "at: expected mail, happened none"),
        ("{ reply: 550 5.7.1 }", "reply: expected 550 5.7.1, happened no reply"),
        ("{ tags: [] }", "tags: expected nothing, happened odd"),
        ("{ sent_by: <> }", "sent_by: expected <>, happened <sender@example.com>"),
        ("{ sent_to: [] }", "sent_to: expected nothing, happened recipient@example.org"),
        ("{ results: { score: -1 } }", "score: expected -1, happened 0"),
        ("{ observed: [watch] }", "observed: expected watch, happened nothing"),
        ("{ signed: [a/b] }", "signed: expected a/b, happened nothing"),
        ("{ results: { spf: pass } }", "spf: expected pass, happened none"),
        ("{ results: { spf.helo_result: pass } }", "spf.helo_result: expected pass, happened spf_helo was not run"),
        ("{ results: { dkim.pass_domains: [a.example] } }", "dkim.pass_domains: expected a.example, happened nothing"),
        (
            "{ recipients: { recipient@example.org: defer } }",
            "recipient recipient@example.org: expected defer, happened accept",
        ),
        ("{ adds: { X-Filterd-Tag: od } }", ""),
        (
            "{ adds: { X-Filterd-Tag: even } }",
            "adds: expected X-Filterd-Tag: even, happened X-Filterd-Tag: odd",
        ),
        (
            "{ removes: [X-Filterd-Tag] }",
            "removes: expected X-Filterd-Tag, happened the field stays, or the mail has none",
        ),
        (
            "{ verdict: hold, rule: junk }",
            "verdict: expected hold, happened accept; rule: expected junk, happened none",
        ),
    ],
)  # fmt: skip
def test_what_does_not_hold(expect: str, problem: str) -> None:
    outcome = run("{}", expect)

    assert outcome.problem == problem
    assert outcome.passed == (problem == "")


def test_files_are_the_mail_and_its_dns() -> None:
    mail = b"From: a@bank.example\nSubject: x\n\nx\n"
    zone = b'_dmarc.bank.example. TXT "v=DMARC1; p=reject"\n'

    assert run("{ message: m, dns: z }", "{ verdict: reject }", m=mail, z=zone).passed


@pytest.mark.parametrize(
    ("given", "trouble"),
    [
        ('{ dns: "a.example. TXT v=1\\nb.example. TXXT x\\n" }', "dns: line 2: "),
        ("{ dns: { a.example: MX mx.example. } }", "dns: "),
        ("{ dns: z }", "dns: the file is not UTF-8 text"),
        ('{ message: "To: a@b.example\\n\\nx", signed_by: [a.example] }', ""),
    ],
)
def test_what_cannot_be_made_is_said(given: str, trouble: str) -> None:
    outcome = run(given, "{ verdict: accept }", z=b"\xff")

    assert (outcome.trouble or "").startswith(trouble)
    assert (outcome.transcript is None) == (trouble != "")


@given(
    st.text(max_size=200), st.text('a.;"()\\ \n\tTXT$', max_size=60), st.lists(st.sampled_from(["a.example", "b.c"]))
)
def test_whatever_it_gives_it_ends(text: str, zone: str, domains: list[str]) -> None:
    entry = {"message": {"text": text}, "dns": f"{zone}\n", "signed_by": domains[:5]}
    test = replace(_ONE.tests[0], given=Given.model_validate(entry | {"changed": {"body": text}}))
    (outcome,) = run_tests(_ONE, [test])

    assert outcome.trouble or outcome.transcript


def test_the_clock_is_the_tests_own() -> None:
    outcome = run("{ clock: 2030-06-01T00:00:00Z, signed_by: [example.com] }", "{ results: { dkim: pass } }")

    assert outcome.passed
    assert outcome.transcript is not None
    assert outcome.transcript.at == 1906502400.0


COUNTED = """\
version: 1
limits:
  - { name: per-user, key: client.user, rate: [3 recipients per 1h, 9 recipients per 1d],
      reply: "451 4.7.1 {client.user} waits {limit.retry_after} s" }
  - { name: guard, key: client.user, rate: [2 failures per 10m, 1 networks per 10m, 1MB per 1h], then: reject }
  - { name: watch, key: client.user, rate: 1 messages per 1h, then: observe }
"""


@pytest.mark.parametrize(
    ("used", "verdict", "rule", "more"),
    [
        ("{}", "accept", "none", "observed: []"),
        ("{ per-user: 2 }", "accept", "none", "at: none"),
        ("{ per-user: 3 }", "defer", "per-user", "at: rcpt, reply: anna waits 3660 s"),
        ("{ per-user: 999 recipients }", "defer", "per-user", "at: rcpt"),
        ("{ guard: 1 failure }", "accept", "none", ""),
        ("{ guard: 2 failures }", "reject", "guard", ""),
        ("{ guard: 3 failures }", "reject", "guard", "at: rcpt"),
        ("{ guard: [1 failures, 1 networks] }", "reject", "guard", "at: mail"),
        ("{ guard: 999kB }", "accept", "none", ""),
        ("{ guard: 1MB }", "reject", "guard", "at: end_of_message"),
        ("{ watch: 1 }", "accept", "none", "observed: [watch]"),
        ("{ per-user: 0 }", "accept", "none", ""),
    ],
    ids=range(12),
)
def test_limits_have_counted_before_what_a_test_says(used: str, verdict: str, rule: str, more: str) -> None:
    more = more.replace("at: none", "")
    expect = f"{{ verdict: {verdict}, rule: {rule}, {more} }}".replace(",  }", " }")

    assert run(f"{{ user: anna, used: {used} }}", expect, COUNTED).problem == ""


def test_every_test_counts_for_itself() -> None:
    policy = load(f"{COUNTED}tests:\n" + "".join(
        f"  - {{ name: t{number}, given: {{ user: anna, client: {{ ip: 192.0.{number}.1 }} }}, expect: {{ rule: none }} }}\n"
        for number in range(5)
    ), "p.yaml")  # fmt: skip

    assert [each.problem for each in run_tests(policy, policy.tests)] == [""] * 5


SCANNED = """\
version: 1
spamd: { address: unix:/run/nobody-is-there.sock, on_error: defer }
score: { quarantine: 6, reject: 12 }
rules:
  - { name: gtube, when: '"GTUBE" in spam.symbols', then: tag }
"""


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        ("{}", "{ verdict: accept, rule: none, tags: [] }"),
        ("{ spam: {} }", "{ verdict: accept, results: { spam: ham, spam.score: 0 }, adds: { X-Spam-Status: No } }"),
        ("{ spam: { score: 5 } }", "{ verdict: accept, results: { spam: spam }, adds: { X-Spam-Flag: 'YES' } }"),
        ("{ spam: { score: 5, threshold: 5.1 } }", "{ verdict: accept, results: { spam: ham, spam.threshold: 5.1 } }"),
        ("{ spam: { score: 6, symbols: [A, GTUBE] } }", "{ verdict: quarantine, tags: [gtube] }"),
        ("{ spam: { score: 12 } }", "{ verdict: reject, rule: score.reject }"),
        ("{ spam: fails }", "{ verdict: defer, rule: spamd.on_error }"),
        ("{ user: anna, spam: { score: 12 } }", "{ verdict: accept, rule: none }"),
        ("{ spam: { score: 12 }, message: { header: { X-Spam-Flag: 'NO' } } }", "{ verdict: reject }"),
    ],
    ids=range(9),
)
def test_spamd_says_what_a_test_says(given: str, expect: str) -> None:
    assert run(given, expect, SCANNED).problem == ""


def test_a_policy_without_a_name_is_tested_as_one_that_is_always_the_same() -> None:
    policy = "version: 1\n"

    assert run("{}", "{ adds: { Authentication-Results: mx.example.org; } }", policy).passed


def test_all_together_have_a_limit() -> None:
    policy = load("version: 1\ntests: [{ name: a, expect: { verdict: accept } }]\n", "p")
    clock = iter([0.0, MAX_SECONDS + 1])
    (outcome,) = run_tests(policy, policy.tests, lambda: next(clock))

    assert outcome.trouble == "was not run: all tests together may take 30 seconds"


def test_a_policy_whose_tests_fail_is_refused_with_one_error_each() -> None:
    tests = "".join(
        f"  - {{ name: {name}, expect: {{ verdict: {word} }} }}\n"
        for name, word in (("a", "reject"), ("b", "accept"), ("c", "hold"))
    )
    with pytest.raises(PolicyErrors) as caught:
        proven(load(f"version: 1\ntests:\n{tests}", "p.yaml"))

    assert [str(error) for error in caught.value.errors] == [
        "p.yaml:3:7: tests[0].name: the test 'a' fails: verdict: expected reject, happened accept",
        "p.yaml:5:7: tests[2].name: the test 'c' fails: verdict: expected hold, happened accept",
    ]
    assert proven(load(f"version: 1\ntests:\n{tests.splitlines()[1]}", "p")).tests == ()


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_policies_hold_what_they_promise(file: Path) -> None:
    policy = load(file.read_text(), str(file))

    assert [each.problem for each in run_tests(policy, policy.tests) if not each.passed] == []


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_rule_has_a_test_that_needs_it(file: Path) -> None:
    policy = load(file.read_text(), str(file))
    never = compile_condition("false")
    useless = []
    for name in (rule.name for rules in policy.rules.values() for rule in rules if rule.line):
        rules = {
            stage: tuple(replace(rule, condition=never) if rule.name == name else rule for rule in each)
            for stage, each in policy.rules.items()
        }
        if all(each.passed for each in run_tests(replace(policy, rules=rules), policy.tests)):
            useless.append(name)

    for name in {limit.rule.name for limits in policy.limits.values() for limit in limits}:
        limits = {
            stage: tuple(limit for limit in each if limit.rule.name != name) for stage, each in policy.limits.items()
        }
        if all(each.passed for each in run_tests(replace(policy, limits=limits), policy.tests)):
            useless.append(name)

    assert useless == []


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_stores_that_shipped_policies_name_in_comments_can_be_switched_on(file: Path) -> None:
    text = re.sub(r"^# (server|decisions):", r"\1:", file.read_text(), flags=re.MULTILINE)
    policy = load(text, str(file), read_secret=lambda _: "secret")

    assert (policy.server.state is not None) == any(policy.limits.values())
