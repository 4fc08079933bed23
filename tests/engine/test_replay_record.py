"""A mail judged again by its record: the same policy gives the same verdict, another one never a guess."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest
from command_line import SHIPPED_POLICY
from dkim_mail import rsa_pair

from filterd.backend.zone import zone_resolver
from filterd.demo.cast import HOST, READER, SEALER, Scene, scenes, zone
from filterd.dkim.sign import SigningKey
from filterd.engine.replay import StoredMail, judge
from filterd.engine.replay_record import rejudge
from filterd.engine.runtime import Runtime
from filterd.mail.address import parse_path
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.load import load
from filterd.policy.rules import Policy
from filterd.policy.transcript import Transcript
from filterd.policy.transcript_personal import impersonal
from filterd.policy.transcript_read import from_mapping
from filterd.policy.verdict import Disposition

KEY = SigningKey.load(rsa_pair().pem)
RESOLVER = zone_resolver(zone(KEY))
NOW = int(time.time())
SCENES = {scene.title: scene for scene in scenes(KEY, NOW)}
HONEST = SCENES["honest: DKIM and SPF"]
SHIPPED = SHIPPED_POLICY.read_text().split("\ntests:")[0] + f"\narc: {{ trusted_sealers: [{SEALER}] }}\n"


def policy(rules: str = "", more: str = "") -> Policy:
    return load(f"version: 1\n{more}\nrules: [{rules}]\n", "p.yaml")


def keeping(keep: str) -> Policy:
    return policy(more=f"decisions: {{ file: /nowhere, keep: {keep} }}")


def rule(when: str, then: str = "reject") -> str:
    return f"{{ name: new, when: {when!r}, then: {then} }}"


def record(by: Policy, scene: Scene = HONEST, *, helo: str | None = None) -> Transcript:
    """How the mail was judged, as a store gives it back."""
    taken: list[Transcript] = []
    mail = StoredMail(
        scene.message,
        Client(ip_address(scene.client_ip)),
        helo or scene.helo,
        ReversePath(scene.sender, parse_path(scene.sender)),
        (ForwardPath(READER, parse_path(READER)),),
        scene.user,
    )
    judge(Runtime(by, HOST, lambda _: RESOLVER, taken.append), mail)
    return from_mapping(json.loads(json.dumps(taken[-1].to_mapping())))


@pytest.mark.parametrize("title", SCENES)
@pytest.mark.parametrize("keep", ["none", "headers", "message"])
def test_the_same_policy_gives_the_same_verdict(title: str, keep: str) -> None:
    shipped = load(f"{SHIPPED}\ndecisions: {{ file: /nowhere, keep: {keep} }}\n", "p.yaml")
    seen = record(shipped, SCENES[title])
    found = rejudge(shipped, HOST, seen)

    assert found.unknown == ()
    assert found.transcript is not None
    again = replace(found.transcript, times=seen.times, answers=seen.answers, sources=seen.sources)
    assert again == seen


@pytest.mark.parametrize(
    ("when", "ends"),
    [
        ('dmarc.result == "pass"', Disposition.REJECT),
        ('dmarc.result == "fail"', Disposition.CONTINUE),
        ("message.size > 10", Disposition.REJECT),
        ("message.indirect", Disposition.CONTINUE),
        ('client.helo == "mail.bank.example"', Disposition.REJECT),
        ('envelope.recipient == "anna@home.example"', Disposition.REJECT),
    ],
)
def test_another_policy_judges_what_was_seen(when: str, ends: Disposition) -> None:
    found = rejudge(policy(rule(when)), HOST, record(policy()))

    assert found.unknown == ()
    assert found.transcript is not None
    assert found.transcript.verdict.disposition is ends


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ('spf.helo_result == "pass"', "dns for mail.bank.example was not asked"),
        ('iprev.result == "pass"', "dns for 10.2.0.192.in-addr.arpa was not asked"),
        ('iprev.result == "pass" || dmarc.result == "pass"', None),
        ('iprev.result == "pass" && dmarc.result == "fail"', None),
    ],
)
def test_what_was_not_asked_is_never_guessed(when: str, why: str | None) -> None:
    found = rejudge(policy(rule(when)), HOST, record(policy(), helo="mail.bank.example"))

    assert found.unknown == ((why,) if why else ())


def test_a_rule_that_is_only_observed_makes_nothing_unknown() -> None:
    observed = rule('spf.helo_result == "pass"').replace("then:", "mode: observe, then:")

    assert rejudge(policy(observed), HOST, record(policy())).unknown == ()


def test_what_was_ours_then_was_not_checked() -> None:
    seen = record(policy(more="networks: { trusted: [192.0.2.0/24] }"))
    checks = rejudge(policy(rule('dkim.result == "pass"')), HOST, seen)
    assert seen.from_us
    assert checks.unknown == ("dkim was not run",)


def test_a_kept_message_is_checked_for_signatures_that_nobody_looked_at() -> None:
    ours = "networks: { trusted: [192.0.2.0/24] }\ndecisions: { file: /nowhere, keep: message }"
    unsigned = record(policy(more=ours), SCENES["honest: SPF only"])
    found = rejudge(policy(rule('dkim.result == "none"')), HOST, unsigned)
    assert found.unknown == ()
    assert found.transcript is not None
    assert found.transcript.verdict.rule == "new"

    signed = rejudge(policy(rule('dkim.result == "pass"')), HOST, record(policy(more=ours)))
    assert signed.unknown == ("dns for demo._domainkey.bank.example was not asked",)


def test_a_mail_that_was_refused_early_is_not_known_further() -> None:
    seen = record(policy(rule('envelope.recipient == "anna@home.example"')))
    assert not seen.completed
    assert rejudge(policy(), HOST, seen).unknown == ("the mail was not seen beyond rcpt",)

    found = rejudge(policy(rule('envelope.sender_domain == "bank.example"', "defer")), HOST, seen)
    assert found.unknown == ()
    assert found.transcript is not None
    assert found.transcript.verdict.disposition is Disposition.DEFER


def test_without_addresses_nothing_is_judged_again() -> None:
    found = rejudge(policy(), HOST, impersonal(record(policy())))

    assert found.transcript is None
    assert found.unknown == ("addresses were not kept (decisions.personal is false)",)


@pytest.mark.parametrize("change", [lambda seen: replace(seen, answers=())], ids=["answers"])
def test_dmarc_needs_its_answers(change: Callable[[Transcript], Transcript]) -> None:
    found = rejudge(policy(rule('dmarc.result == "fail"')), HOST, change(record(policy())))

    assert found.unknown == ("dns for _dmarc.bank.example was not asked",)


def test_limits_are_not_asked_again() -> None:
    limited = policy(more="limits: [{ name: tiny, key: client.ip, rate: 1 B per 1h }]")
    seen = record(limited)
    assert seen.verdict.rule == "tiny"

    assert rejudge(limited, HOST, seen).unknown == ("limits are not asked again, and tiny had decided",)
    found = rejudge(limited, HOST, record(policy()))
    assert (found.transcript and found.transcript.verdict.disposition, found.unknown) == (Disposition.CONTINUE, ())
