"""Strangers' mail is sealed as it leaves, so that receivers can follow its way, or has one reason why not."""

import re
from collections.abc import Callable

import pytest
from arc_desk import FORWARDER, HOST, LIST, SEALING, TEXTS, TRUSTING, US, Judged, Zone, judged, zone
from arc_mail import (
    RSA,
    chain_of,
    check,
    dkimpy_says,
    key_name,
    records,
    sealed,
    sealed_by_dkimpy,
    sealed_by_hand,
    signing_key,
)
from dkim_mail import KEY_NAME, MAIL, NOW, ed25519_pair, signed, split

from filterd.arc.sets import collect
from filterd.arc.verify import ArcResult
from filterd.dkim.sign import SigningKey
from filterd.engine import gather, sealing
from filterd.engine.changes import DeleteField
from filterd.lookup import Resolver
from filterd.mail.header import Header
from filterd.mail.reason import Reason
from filterd.policy.errors import PolicyErrors
from filterd.policy.explain import explain
from filterd.policy.load import load
from filterd.policy.verdict import Disposition

RESOLVER = records(RSA.record, domains=(LIST, FORWARDER, "university.example", US))
SET = ["ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"]


def seal(mail: bytes, resolver: Resolver | None = None, policy: str = SEALING) -> Judged:
    return judged(mail, policy, resolver)


def state(mail: bytes) -> tuple[str, int, tuple[str, ...]]:
    """What the next receiver finds."""
    found: ArcResult = check(mail, RESOLVER)
    return found.code.value, found.instance, tuple(map(str, found.sealers))


def unsealed(end: Judged) -> Reason | None:
    """Why there is no set; there is none indeed."""
    assert not set(SET) & {name for name, _ in end.added}
    assert end.transcript.sealed is None
    return end.transcript.unsealed


def test_a_mail_without_chain_begins_one() -> None:
    end = seal(MAIL)

    assert [name for name, _ in end.added] == [*SET, "Authentication-Results"]
    assert state(end.delivered) == ("pass", 1, (US,))
    assert dkimpy_says(end.delivered) == "pass"
    assert (end.transcript.sealed, end.transcript.unsealed) == ("home.example/sel", None)
    assert end.transcript.log_line()["sealed"] == "home.example/sel"
    assert "sealed    home.example/sel" in explain(end.transcript)


@pytest.mark.parametrize("by", [sealed, sealed_by_dkimpy])
@pytest.mark.parametrize("hops", [1, 3])
def test_a_chain_goes_on(hops: int, by: Callable[[bytes, str], bytes]) -> None:
    end = seal(chain_of(hops, by))

    assert state(end.delivered)[:2] == ("pass", hops + 1)
    assert dkimpy_says(end.delivered) == "pass"
    assert dict(end.added)["ARC-Seal"].startswith(
        f"i={hops + 1}; a=rsa-sha256; cv=pass; d=home.example; s=sel; t={NOW};"
    )


def test_dkimpy_goes_on_from_ours() -> None:
    mail = sealed_by_dkimpy(seal(MAIL).delivered, LIST, resolver=RESOLVER)

    assert state(mail) == ("pass", 2, (LIST, US))


def test_the_set_says_what_our_results_say() -> None:
    end = seal(sealed_by_hand(MAIL, found=f"{HOST}; dmarc=pass header.from=example.org"))

    assert dict(end.added)["ARC-Authentication-Results"] == f"i=2; {end.results}"
    assert "arc=pass smtp.remote-ip=198.51.100.7 header.oldest-pass=0; dmarc=fail reason=" in end.results


def test_the_seal_covers_the_mail_as_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was forged is gone then, what rules have added stands there, and our results."""
    seen: list[Header] = []

    def watched(header: Header, *more: object) -> sealing.Sealed:
        seen.append(header)
        return sealing.seal_mail(header, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(gather, "seal_mail", watched)
    forged = f"Authentication-Results: {HOST}; dmarc=pass\r\n".encode()
    other = b"Authentication-Results: other.example; dmarc=pass\r\nX-Filterd-Tag: x\r\n"
    rules = 'rules: [{ name: odd, when: dkim.result != "pass", then: tag }]\n'
    end = seal(forged + other + forged.lower() + MAIL, policy=SEALING + rules)

    assert len([change for change in end.finished.changes if isinstance(change, DeleteField)]) == 3
    assert [name for name, _ in end.added] == [*SET, "Authentication-Results", "X-Filterd-Tag"]
    assert seen[0].fields == split(end.delivered)[0].fields[len(SET) :]
    assert state(end.delivered) == ("pass", 1, (US,))


def test_one_body_is_hashed_for_dkim_arc_and_the_seal() -> None:
    mail = sealed_by_hand(signed(MAIL, RSA, c="simple/simple"))
    end = seal(mail, zone(**{KEY_NAME: RSA.record}))

    assert [each.code for each in end.transcript.results.dkim or ()] == ["pass"]
    assert state(end.delivered) == ("pass", 2, (US, LIST))


def test_a_failed_chain_is_sealed_as_failed_once() -> None:
    end = seal(chain_of(2).replace(b"lost", b"won"))

    assert dict(end.added)["ARC-Seal"].startswith("i=3; a=rsa-sha256; cv=fail;")
    assert "arc=fail reason=dkim.body-hash" in dict(end.added)["ARC-Authentication-Results"]
    assert (check(end.delivered).reason, dkimpy_says(end.delivered)) == (Reason.ARC_FAILED, None)
    again = seal(end.delivered)
    assert unsealed(again) is Reason.ARC_FAILED
    assert again.transcript.log_line()["unsealed"] == "arc.failed"


@pytest.mark.parametrize(
    ("hostile", "cv"),
    [
        (b"ARC-Seal: )\r\n", "fail"),
        (b"ARC-Message-Signature: i=1; x\r\n", "fail"),
        (b"ARC-Authentication-Results: i=7; none\r\n", "fail"),
        (b"arc-authentication-results : i=1; none\r\n", "fail"),
    ],
)
def test_what_is_no_chain_is_sealed_as_failed(hostile: bytes, cv: str) -> None:
    end = seal(hostile + MAIL)

    assert f"cv={cv};" in dict(end.added)["ARC-Seal"]
    assert check(end.delivered).reason is Reason.ARC_FAILED


def test_dns_that_cannot_answer_spoils_no_chain() -> None:
    """Unlike RFC 8617 5.2.1: the next receiver may be able to verify it."""
    mail = chain_of(2)
    end = seal(mail, Zone(TEXTS, frozenset({key_name(LIST)})))

    assert unsealed(end) is Reason.DNS_TIMEOUT
    assert "unsealed  dns.timeout" in explain(end.transcript)
    assert "arc=fail reason=dns.timeout" in end.results
    assert state(end.delivered)[:2] == ("pass", 2)


def test_after_fifty_sets_there_is_none_more() -> None:
    mail = MAIL
    for number in range(50):
        mail = sealed_by_hand(mail, number + 1, "pass" if number else "none")

    assert unsealed(seal(mail)) is Reason.ARC_TOO_MANY


@pytest.mark.parametrize("record", [None, b"v=DKIM1; p=", ed25519_pair().record])
def test_a_key_that_is_not_published_seals_nothing(record: bytes | None) -> None:
    assert unsealed(seal(MAIL, zone(**{key_name(US): record}))) is Reason.SIGN_UNPUBLISHED


def test_a_key_whose_state_nobody_can_tell_is_used() -> None:
    assert seal(MAIL, Zone(TEXTS, frozenset({key_name(US)}))).transcript.sealed == "home.example/sel"


def test_the_first_published_key_seals() -> None:
    policy = SEALING.replace("keys: [", "keys: [{ selector: new, file: rsa }, ")

    assert seal(MAIL, policy=policy).transcript.sealed == "home.example/sel"
    published = zone(**{f"new._domainkey.{US}": RSA.record})
    assert seal(MAIL, published, policy).transcript.sealed == "home.example/new"


@pytest.mark.parametrize(
    ("action", "count"), [("reject", 0), ("defer", 0), ("discard", 0), ("quarantine", 1), ("hold", 1), ("accept", 1)]
)
def test_what_is_not_delivered_is_not_sealed(action: str, count: int) -> None:
    rule = f"rules: [{{ name: all, when: message.size > 0, then: {action} }}]\n"
    end = seal(MAIL, policy=SEALING + rule)

    assert count == [name for name, _ in end.added].count("ARC-Seal")
    assert (end.transcript.sealed is None, end.transcript.unsealed) == (count == 0, None)


def test_mail_from_us_is_signed_and_not_sealed() -> None:
    end = judged(MAIL.replace(b"example.org", US.encode()), SEALING, ip="127.0.0.1")

    assert [name for name, _ in end.added] == ["DKIM-Signature"]
    assert (end.transcript.sealed, end.transcript.unsealed) == (None, None)


def test_nothing_is_sealed_unless_the_policy_says_so() -> None:
    policy = SEALING.replace("seal: true", "seal: false")

    assert unsealed(seal(MAIL, policy=policy)) is None
    assert unsealed(seal(chain_of(1), policy="version: 1\n" + TRUSTING)) is None


def test_a_mail_with_too_much_to_sign_goes_unsealed() -> None:
    end = seal(b"List-Id: <x.example>\r\n" * 4_900 + MAIL)

    assert unsealed(end) is Reason.SIGN_FAILED
    assert end.transcript.verdict.disposition is Disposition.CONTINUE
    assert "seal: " in (end.transcript.fault or "")
    assert "Authentication-Results" in dict(end.added)


@pytest.mark.parametrize("broken", ["seal_mail", "ArcVerification"])
def test_a_fault_of_ours_costs_the_seal_and_no_mail(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def boom(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(gather, broken, boom)
    end = seal(chain_of(1), policy=SEALING.replace(f"[{LIST}, {FORWARDER}]", "[]"))

    assert unsealed(end) is Reason.CHECK_FAILED
    assert end.transcript.verdict.disposition is Disposition.CONTINUE
    assert "RuntimeError: boom" in (end.transcript.fault or "")
    assert state(end.delivered)[:2] == ("pass", 1)


def test_forgers_cannot_write_into_the_set() -> None:
    mail = MAIL.replace(b"Joe <joe@example.org>", b'"x; dmarc=pass" <"a;dmarc=pass"@example.org>')
    end = seal(mail, policy=SEALING)

    said = collect(split(end.delivered)[0])[0].results_field.value.decode()
    assert re.findall(r"(?<!\.)dmarc=\w+", said) == ["dmarc=fail"]


@pytest.mark.parametrize(
    ("host", "domains", "domain"),
    [
        ("mx.home.example", "[home.example]", "home.example"),
        ("mx.home.example", '["*.home.example"]', "home.example"),
        ("mx.home.example", "[mx.home.example, home.example]", "mx.home.example"),
        ("a.b.home.example", "[b.home.example]", "b.home.example"),
        ("home.example", "[home.example]", "home.example"),
    ],
)
def test_the_domain_of_the_seal_is_ours(host: str, domains: str, domain: str) -> None:
    policy = SEALING.replace(f"authserv_id: {HOST}", f"authserv_id: {host}").replace(f"[{US}]", domains)
    sealer = load(policy, "p.yaml", lambda _: key("rsa")).sealer

    assert (sealer and str(sealer.domain)) == domain


def key(kind: str) -> SigningKey:
    return signing_key(RSA if kind == "rsa" else ed25519_pair())


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("seal: true", "seal: maybe", ["p.yaml:3:8: arc.seal: here stands true or false"]),
        ("seal: true", "sea: true", ["p.yaml:3:8: arc.sea: there is no key sea here; did you mean seal?"]),
        (f"[{LIST},", "[x@y,", ["p.yaml:3:38: arc.trusted_sealers[0]: a label of the domain is empty, too long, or has a character that names do not have; a host name reads like mx.example.org"]),
        (f"identity: {{ authserv_id: {HOST} }}\n", "", ["p.yaml:2:8: arc.seal: a seal names its domain: write identity.authserv_id"]),
        ("domains: [home.example]", "domains: [example]", []),
        ("domains: [home.example]", "domains: [other.example]", ["p.yaml:3:8: arc.seal: no entry of `sign` has an RSA key for mx.home.example or a domain above it"]),
        ("domains: [home.example]", "domains: [www.home.example]", ["p.yaml:3:8: arc.seal: no entry of `sign` has an RSA key for mx.home.example or a domain above it"]),
        ("file: rsa", "file: ed", ["p.yaml:3:8: arc.seal: no entry of `sign` has an RSA key for mx.home.example or a domain above it"]),
        ("file: rsa", "file: lost", ["p.yaml:4:59: sign[0].keys[0].file: it is lost"]),
    ],
)  # fmt: skip
def test_faults_of_the_policy_name_their_place(old: str, new: str, expected: list[str]) -> None:
    def read(file: str) -> SigningKey:
        if file == "lost":
            raise ValueError("it is lost")
        return key(file)

    try:
        load(SEALING.replace(old, new), "p.yaml", read)
        found = []
    except PolicyErrors as caught:
        found = [str(error) for error in caught.errors]
    assert found == expected
