"""A chain of ARC sets is told of; the word of a trusted sealer, and nobody else's, sets DMARC's failure aside."""

from collections.abc import Callable

import pytest
from arc_desk import FORWARDER, HOST, LIST, SHIPPED, TEXTS, TRUSTING, UNIVERSITY, Zone, judged, zone
from arc_mail import chain_of, key_name, sealed, sealed_by_dkimpy, sealed_by_hand
from dkim_mail import MAIL
from hypothesis import given
from hypothesis import strategies as st

from filterd.engine import gather
from filterd.mail.reason import Reason
from filterd.policy.explain import explain
from filterd.policy.verdict import Disposition

ALL_FACTS = """
rules:
  - name: all
    when: >-
      arc.result == "none" && arc.sealer == "" && arc.trusted && arc.trusted_spf == "" && arc.trusted_dkim == "" &&
      arc.trusted_dmarc == ""
    then: tag
"""
NOTHING = {
    "arc.result": "none",
    "arc.sealer": "",
    "arc.trusted": False,
    "arc.trusted_spf": "",
    "arc.trusted_dkim": "",
    "arc.trusted_dmarc": "",
}
SAW_PASS = f"{HOST}; spf=fail smtp.mailfrom=joe@example.org; dmarc=pass header.from=example.org"


def facts(mail: bytes, policy: str = "version: 1\n" + TRUSTING + ALL_FACTS) -> dict[str, object]:
    """Those of the chain."""
    return {name: value for name, value in judged(mail, policy).facts.items() if name.startswith("arc.")}


def passed_on(found: str = SAW_PASS, mail: bytes = MAIL, domain: str = LIST, instance: int = 1) -> bytes:
    """The mail with a seal over what a hop found."""
    return sealed_by_hand(mail, instance, "none" if instance == 1 else "pass", found=found, domain=domain)


def test_a_mail_without_any_set_has_no_chain_and_no_result() -> None:
    assert facts(MAIL) == NOTHING
    assert " arc=" not in judged(MAIL, "version: 1\n").results


@pytest.mark.parametrize("by", [sealed, sealed_by_dkimpy])
@pytest.mark.parametrize(("hops", "sealer", "trusted"), [(1, LIST, True), (2, FORWARDER, True), (3, UNIVERSITY, False)])
def test_the_chain_is_told_of_as_it_is(
    hops: int, sealer: str, trusted: bool, by: Callable[[bytes, str], bytes]
) -> None:
    mail = chain_of(hops, by)

    found = facts(mail)
    assert (found["arc.result"], found["arc.sealer"], found["arc.trusted"]) == ("pass", sealer, trusted)
    assert found["arc.trusted_spf"] == ("pass" if trusted else "")
    end = judged(mail)
    assert "; arc=pass smtp.remote-ip=198.51.100.7 header.oldest-pass=0; dmarc=fail" in end.results
    assert end.transcript.log_line()["arc"] == f"pass:{sealer}"
    assert f"sealed by {LIST}" in explain(end.transcript)


def test_the_oldest_signature_that_holds_is_named() -> None:
    changed = chain_of(1).replace(b"lost", b"won", 1)

    assert (
        "arc=pass smtp.remote-ip=198.51.100.7 header.oldest-pass=2;"
        in judged(sealed_by_hand(changed, 2, "pass", domain=FORWARDER)).results
    )


def test_an_address_of_ipv6_is_quoted() -> None:
    assert 'arc=pass smtp.remote-ip="2001:db8::7" header' in judged(chain_of(1), ip="2001:db8::7").results


def test_behind_a_relay_of_ours_the_address_is_the_one_that_the_relay_recorded() -> None:
    received = b"Received: from list.example (h [192.0.2.9]) by mx2.home.example\r\n"
    policy = SHIPPED.replace("relays: []", 'relays: ["198.51.100.0/24"]') + TRUSTING

    assert "arc=pass smtp.remote-ip=192.0.2.9 " in judged(received + chain_of(1), policy).results


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda mail: mail.replace(b"lost", b"won"), Reason.DKIM_BODY_HASH),
        (lambda mail: mail.replace(b"Subject: Is", b"Subject: Was"), Reason.DKIM_SIGNATURE),
        (lambda mail: mail.replace(b"spf=fail", b"spf=pass"), Reason.ARC_SEAL),
        (lambda mail: mail.replace(b"cv=none", b"cv=pass"), Reason.ARC_CV),
        (lambda mail: mail.replace(b"ARC-Message-Signature:", b"X:", 1), Reason.ARC_STRUCTURE),
        (lambda mail: b"ARC-Seal: i=2; cv=fail\r\n" + mail, Reason.ARC_FAILED),
        (lambda mail: mail.replace(b"d=list.example", b"d=forwarder.example", 1), Reason.ARC_SEAL),
        (lambda mail: b"ARC-Seal: )\r\n" + mail, Reason.ARC_SYNTAX),
    ],
)
def test_a_chain_that_does_not_hold_is_worth_nothing(change: Callable[[bytes], bytes], reason: Reason) -> None:
    mail = change(passed_on())

    assert facts(mail) == {**NOTHING, "arc.result": "fail"}
    end = judged(mail)
    assert end.transcript.verdict.rule == "quarantine-list"
    assert (end.transcript.verdict.override, end.transcript.results.arc_trusted) == (None, None)
    assert reason.value in end.transcript.reasons()
    assert f"arc=fail reason={reason} smtp.remote-ip=198.51.100.7; dmarc=fail reason=dmarc.not-aligned" in end.results
    assert str(end.transcript.log_line()["arc"]) == "fail"


def test_what_a_trusted_sealer_saw_sets_the_failure_aside_and_that_is_told() -> None:
    end = judged(passed_on())

    assert end.transcript.verdict.disposition is Disposition.CONTINUE
    assert end.transcript.tags() == ()
    assert end.results.endswith(
        "dmarc=fail (overridden, trusted ARC sealer list.example) reason=dmarc.not-aligned header.from=example.org "
        "policy.dmarc=reject"
    )
    assert end.transcript.log_line()["override"] == "arc:list.example"
    assert "set aside by the trusted ARC sealer list.example" in explain(end.transcript)
    assert end.transcript.to_mapping()["verdict"]["override"] == "list.example"


@pytest.mark.parametrize(
    "found",
    [
        f"{HOST}; dmarc=fail header.from=example.org",
        f"{HOST}; dmarc=none header.from=example.org",
        f"{HOST}; dmarc=bestguesspass header.from=example.org",
        f"{HOST}; dmarc=pass",
        f"{HOST}; dmarc=pass header.from=evil.example",
        f"{HOST}; dmarc=pass header.from=evil.example; dmarc=fail header.from=example.org",
        f"{HOST}; dmarc=pass header.from=example.org; dmarc=fail header.from=example.org",
        f"{HOST}; dmarc=pass smtp.from=example.org",
        f"{HOST}; spf=pass smtp.mailfrom=example.org; dkim=pass header.d=example.org",
        f"{HOST}; arc=pass; x=(dmarc=pass header.from=example.org)",
        f"{HOST}; none",
        "; dmarc=pass header.from=example.org",
    ],
)
def test_without_the_sealers_word_for_this_author_nothing_is_set_aside(found: str) -> None:
    """Through a forwarder come forgeries, too; and whoever may change mail there may change its From."""
    end = judged(passed_on(found))

    assert True is (end.transcript.results.arc_trusted is not None)
    assert (end.transcript.verdict.rule, end.transcript.verdict.override) == ("quarantine-list", None)
    assert "overridden" not in end.results


def test_a_stranger_after_a_trusted_sealer_may_have_changed_the_mail() -> None:
    end = judged(passed_on(mail=passed_on(), domain=UNIVERSITY, instance=2))

    assert (
        end.transcript.results.arc and end.transcript.results.arc.code,
        end.transcript.verdict.override,
    ) == ("pass", None)
    assert end.transcript.verdict.rule == "quarantine-list"


def test_what_a_stranger_says_before_a_trusted_sealer_does_not_count() -> None:
    end = judged(passed_on(f"{HOST}; dmarc=fail header.from=example.org", passed_on(domain=UNIVERSITY), LIST, 2))

    assert end.transcript.verdict.rule == "quarantine-list"


def test_the_first_of_the_trusted_sealers_speaks() -> None:
    """The next one sees what the first has changed."""
    end = judged(passed_on(f"{HOST}; dmarc=fail header.from=example.org", passed_on(), FORWARDER, 2))

    assert str(end.transcript.verdict.override) == LIST


def test_nobody_is_trusted_unless_the_policy_says_so() -> None:
    assert judged(passed_on(), SHIPPED).transcript.verdict.rule == "quarantine-list"


@pytest.mark.parametrize(
    ("author", "override", "disposition"),
    [
        (b"shop.example", None, Disposition.QUARANTINE),
        (b"news.example", None, Disposition.CONTINUE),
        (b"unknown.example", None, Disposition.CONTINUE),
    ],
)
def test_what_is_judged_the_same_without_a_seal_has_no_override(
    author: bytes, override: str | None, disposition: Disposition
) -> None:
    mail = MAIL.replace(b"joe@example.org", b"joe@" + author)
    end = judged(passed_on(mail=mail, domain=LIST))

    assert (override, disposition) == (end.transcript.verdict.override, end.transcript.verdict.disposition)


def test_a_mail_with_several_authors_has_no_word_for_it() -> None:
    mail = b"From: x@example.org\r\n" + MAIL
    policy = SHIPPED.replace("on_multiple_authors: reject", "on_multiple_authors: skip") + TRUSTING

    assert judged(passed_on(mail=mail), policy).facts["arc.trusted_dmarc"] == ""


def test_spf_of_the_helo_name_is_no_word_for_the_sender() -> None:
    found = f"{HOST}; spf=pass smtp.helo=list.example; dkim=fail header.d=a.example; dkim=pass header.d=b.example"

    read = facts(passed_on(found))
    assert (read["arc.trusted_spf"], read["arc.trusted_dkim"]) == ("", "pass")


def test_dns_that_cannot_answer_fails_the_chain() -> None:
    """RFC 8617 5.2.1: all failures are permanent."""
    end = judged(passed_on(), resolver=Zone(TEXTS, frozenset({key_name(LIST)})))

    assert "arc=fail reason=dns.timeout smtp.remote-ip" in end.results
    assert end.transcript.verdict.rule == "quarantine-list"


def test_mail_from_us_is_asked_for_no_chain() -> None:
    end = judged(passed_on(), ip="127.0.0.1")

    assert end.transcript.results.arc is None
    assert end.added == []


@pytest.mark.parametrize(
    ("more", "rule", "said"),
    [
        (TRUSTING, "server.on_error", "dmarc=temperror reason=check.failed"),
        (f"identity: {{ authserv_id: {HOST} }}\n", "quarantine-list", "dmarc=fail reason=dmarc.not-aligned"),
    ],
)
def test_a_fault_of_ours_counts_only_where_the_chain_could_have_helped(
    more: str, rule: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(gather, "ArcVerification", broken)
    policy = SHIPPED.replace("version: 1", "version: 1\nserver: { on_error: accept }") + more

    end = judged(passed_on(), policy)
    assert end.transcript.verdict.rule == rule
    assert f"arc=fail reason=check.failed smtp.remote-ip=198.51.100.7; {said}" in end.results
    assert "arc: RuntimeError: boom" in (end.transcript.fault or "")
    assert judged(MAIL, policy).transcript.fault is None


_NAMES = [b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results", b"arc-seal", b"DKIM-Signature", b"From"]
_PARTS = [
    b"i=",
    b"1",
    b"2",
    b"51",
    b";",
    b" ",
    b"\r\n\t",
    b"cv=none;",
    b"cv=fail;",
    b"d=list.example;",
    b"s=sel;",
    b"b=",
]
_PARTS += [
    b"a=rsa-sha256;",
    b"bh=AAAA;",
    b"h=from:arc-seal;",
    b"(",
    b")",
    b'"',
    b"\\",
    b"=",
    b"dmarc=pass",
    b"\xff",
    b"\x00",
]
_FIELDS = st.lists(
    st.tuples(st.sampled_from(_NAMES), st.lists(st.sampled_from(_PARTS) | st.binary(max_size=4), max_size=12)),
    max_size=8,
)


@given(_FIELDS, st.booleans())
def test_hostile_fields_are_judged_without_a_fault_and_trusted_by_nobody(
    fields: list[tuple[bytes, list[bytes]]], above: bool
) -> None:
    values = [(name, b"".join(parts).replace(b"\n", b"\n ").rstrip(b"\r\n\t ")) for name, parts in fields]
    hostile = b"".join(name + b": " + value + b"\r\n" for name, value in values)
    mail = hostile + MAIL if above else passed_on().replace(b"\r\nTo:", b"\r\n" + hostile + b"To:", 1)

    end = judged(mail)
    assert end.transcript.fault is None
    assert above is False or end.transcript.results.arc_trusted is None
    assert "dmarc=pass" not in dict(end.added).get("Authentication-Results", "")


@pytest.mark.parametrize("count", [60, 4_900])
def test_a_heap_of_sets_is_refused_unread(count: int) -> None:
    end = judged(b"ARC-Seal: i=1; cv=none; a=rsa-sha256; d=list.example; s=sel; b=AAAA\r\n" * count + MAIL)

    assert "arc=fail reason=arc.too-many" in end.results


def test_a_mail_without_sets_is_asked_no_more_of_dns() -> None:
    plain, asking = zone(), zone()
    judged(MAIL, "version: 1\n", plain)
    judged(MAIL, resolver=asking)

    assert plain.asked == asking.asked
