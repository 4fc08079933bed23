"""Whether a chain holds, what breaks it, and what that costs (RFC 8617 5.2)."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache

import pytest
from arc_mail import (
    AUTHSERV_ID,
    DOMAINS,
    RSA,
    ZONE,
    chain_of,
    check,
    dkimpy_says,
    key_name,
    records,
    replaced,
    results,
    sealed,
    sealed_by_dkimpy,
    sealed_by_hand,
    without,
)
from dkim_mail import MAIL, NOW, ed25519_pair, rsa_pair, signed, split, zone
from hypothesis import given, settings
from hypothesis import strategies as st

from filterd.arc.verify import ArcCode, ArcResult, ArcVerification
from filterd.dkim.bodyhash import BodyForm, BodyHasher
from filterd.dkim.canonical import Canonicalization
from filterd.dkim.key_record import KeyRecord
from filterd.dkim.verify import DkimCode, Verification
from filterd.lookup import Answer, Outcome, ZoneResolver
from filterd.mail.domain import Domain
from filterd.mail.header import Field, Header
from filterd.mail.reason import Reason

NAMES = ("ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results")
LIST, FORWARDER, UNIVERSITY = map(Domain.parse, DOMAINS)
THREE_HOPS = chain_of(3)
HOPS = check(THREE_HOPS).hops


def outcome(result: ArcResult) -> tuple[ArcCode, Reason | None]:
    return result.code, result.reason


def test_a_mail_without_arc_fields() -> None:
    assert check(MAIL) == ArcResult(ArcCode.NONE)


@pytest.mark.parametrize("chunk", [1, 7, 65535])
@pytest.mark.parametrize("hops", [1, 2, 3, 5])
@pytest.mark.parametrize("by", [sealed, sealed_by_dkimpy])
def test_chains_that_hold(by: Callable[[bytes, str], bytes], hops: int, chunk: int) -> None:
    result = check(chain_of(hops, by), chunk=chunk)
    assert (result.code, result.instance, result.oldest_pass) == (ArcCode.PASS, hops, 0)


def test_a_chain_of_several_programs_and_algorithms() -> None:
    pair = ed25519_pair()
    zone = ZoneResolver(
        {
            (key_name(domain), "TXT"): Answer(key_name(domain), "TXT", Outcome.FOUND, (record,))
            for domain, record in zip(DOMAINS, (RSA.record, pair.record, RSA.record), strict=True)
        }
    )
    mail = sealed_by_dkimpy(MAIL, DOMAINS[0])
    mail = sealed(mail, DOMAINS[1], pair, chain=check(mail, zone))
    mail = sealed(mail, DOMAINS[2], chain=check(mail, zone))
    assert (check(mail, zone).code, check(mail, zone).oldest_pass) == (ArcCode.PASS, 0)


def test_what_the_hops_say_newest_first() -> None:
    first, second, third = check(THREE_HOPS).hops[::-1]
    assert (first.instance, first.sealer, first.selector) == (1, LIST, "sel")
    assert (second.instance, third.instance) == (2, 3)
    assert check(THREE_HOPS).sealers == (UNIVERSITY, FORWARDER, LIST)
    assert first.results == results(ArcResult(ArcCode.NONE))
    assert second.results == third.results == results(ArcResult(ArcCode.PASS))


def test_results_that_cannot_be_read_break_no_chain() -> None:
    """RFC 8617 3.4."""
    result = check(sealed_by_hand(MAIL, found=f"{AUTHSERV_ID}; this is no result"))
    assert (result.code, result.hops[0].results) == (ArcCode.PASS, None)


def one_letter_changed(field: Field) -> tuple[Field, ...]:
    return (Field(field.name, field.value.replace(b"example", b"exomple", 1)),)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("by", [sealed, sealed_by_dkimpy])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda field: (), id="missing"),
        pytest.param(lambda field: (field, field), id="double"),
        pytest.param(one_letter_changed, id="changed"),
        pytest.param(lambda field: (Field(field.name, field.value + b"; x=y"),), id="longer"),
        pytest.param(lambda field: (Field(field.name, b""),), id="empty"),
    ],
)
def test_each_field_broken_in_turn(
    by: Callable[[bytes, str], bytes], place: int, name: str, change: Callable[[Field], tuple[Field, ...]]
) -> None:
    mail = chain_of(3, by)
    broken = replaced(mail, split(mail)[0].all(name)[place], *change(split(mail)[0].all(name)[place]))
    assert check(mail).code is ArcCode.PASS
    assert check(broken).code is ArcCode.FAIL
    assert check(broken).hops == ()
    assert dkimpy_says(broken) != "pass"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_fields_may_be_folded_anew(name: str, place: int) -> None:
    """RFC 8617 4.1.3: seals are relaxed; and so are the message signatures that are in use."""
    field = split(THREE_HOPS)[0].all(name)[place]
    folded = Field(name.lower().encode(), field.value.replace(b"; ", b";\r\n\t  ") + b" ")
    assert check(replaced(THREE_HOPS, field, folded)).code is ArcCode.PASS


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"We lost", b"We won", Reason.DKIM_BODY_HASH),
        (b"game.\t\r\n", b"game.\t\r\nBuy now!\r\n", Reason.DKIM_BODY_HASH),
        (b"Subject: Is", b"Subject: Are", Reason.DKIM_SIGNATURE),
        (b"Subject: Is", b"Subject: Is\r\nSubject: Is", Reason.DKIM_SIGNATURE),
        (b"From: Joe", b"From: <bank@example.com>\r\nFrom: Joe", Reason.DKIM_SIGNATURE),
        (b"From: Joe", b"X-From: Joe", Reason.DKIM_SIGNATURE),
        (b"\r\nFrom: Joe", b"\r\nX-Added: by a hop\r\nFrom: Joe", None),
        (b"Received: from client", b"Received: from elsewhere", None),
    ],
)
def test_a_message_changed_behind_the_last_hop(old: bytes, new: bytes, reason: Reason | None) -> None:
    assert old in THREE_HOPS
    expected = (ArcCode.FAIL, reason) if reason else (ArcCode.PASS, None)
    assert outcome(check(THREE_HOPS.replace(old, new))) == expected


def chain_by_hand(hops: int, edited_before: tuple[int, ...] = (), **options: object) -> bytes:
    """A mail that says that each hop found it well, edited before the hops of these numbers sealed it."""
    mail = MAIL
    for number in range(1, hops + 1):
        if number in edited_before:
            mail = mail.replace(b"lost", b"lost,")
        mail = sealed_by_hand(mail, number, "pass" if number > 1 else "none", **options)
    return mail


@pytest.mark.parametrize(
    ("edited_before", "oldest_pass"), [((), 0), ((1,), 0), ((2,), 2), ((3,), 3), ((2, 3), 3), ((2, 4), 4)]
)
def test_a_hop_may_change_the_message_before_it_seals(edited_before: tuple[int, ...], oldest_pass: int) -> None:
    """RFC 8617 5.2 step 5: that does not affect the chain, and the oldest pass tells where it was."""
    result = check(chain_by_hand(4, edited_before))
    assert (result.code, result.instance, result.oldest_pass) == (ArcCode.PASS, 4, oldest_pass)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"v": "1"}, None),
        ({"v": "2"}, None),
        ({"t": None}, None),
        ({"x": str(NOW + 10)}, None),
        ({"l": "26"}, None),
        ({"h": "from:from:arc-authentication-results:arc-message-signature"}, None),
        ({"l": "27"}, Reason.DKIM_LENGTH_TOO_LONG),
        ({"x": str(NOW - 1000), "t": str(NOW - 2000)}, Reason.DKIM_EXPIRED),
        ({"t": str(NOW + 1000)}, Reason.DKIM_FUTURE),
        ({"a": "rsa-sha512"}, Reason.DKIM_ALGORITHM),
        ({"a": "ed25519-sha256"}, Reason.DKIM_KEY_TYPE),
        ({"c": "strict"}, Reason.DKIM_CANONICALIZATION),
        ({"d": None}, Reason.DKIM_SYNTAX),
        ({"d": "nobody.example"}, Reason.DKIM_KEY_MISSING),
        ({"h": "to:subject"}, Reason.DKIM_FROM_UNSIGNED),
        ({"h": "from:arc-seal"}, Reason.DKIM_SYNTAX),
        ({"bh": "A" * 43 + "="}, Reason.DKIM_BODY_HASH),
        ({"bh": None}, Reason.DKIM_SYNTAX),
    ],
)
def test_what_the_newest_message_signature_may_say(changed: dict[str, str | None], reason: Reason | None) -> None:
    """RFC 8617 4.1.2: what a DKIM-Signature may say, but for v= and i=."""
    result = check(sealed_by_hand(MAIL, in_signature=changed))
    assert outcome(result) == ((ArcCode.FAIL, reason) if reason else (ArcCode.PASS, None))


def test_a_message_signature_in_simple_form() -> None:
    mail = sealed_by_hand(MAIL, form=Canonicalization.SIMPLE)
    assert outcome(check(mail)) == (ArcCode.PASS, None)
    assert outcome(check(mail.replace(b"Subject: Is", b"Subject:  Is"))) == (ArcCode.FAIL, Reason.DKIM_SIGNATURE)


def test_what_is_appended_to_a_part_signed_body_fails() -> None:
    mail = sealed_by_hand(MAIL, in_signature={"l": "26"})
    assert outcome(check(mail + b"Buy now!\r\n")) == (ArcCode.FAIL, Reason.DKIM_LENGTH)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ((RSA.record,), None),
        ((b"v=DKIM1; p=", RSA.record), None),
        ((RSA.record.replace(b"v=DKIM1;", b"v=DKIM1; t=s:y;"),), None),
        ((), Reason.DKIM_KEY_MISSING),
        ((b"v=DKIM1; p=",), Reason.DKIM_KEY_REVOKED),
        ((b"v=DKIM1; p=!",), Reason.DKIM_KEY_SYNTAX),
        ((rsa_pair(1024).record,), Reason.DKIM_SIGNATURE),
        ((ed25519_pair().record,), Reason.DKIM_KEY_TYPE),
        ((RSA.record.replace(b"v=DKIM1;", b"v=DKIM1; s=tlsrpt;"),), Reason.DKIM_KEY_SERVICE),
        ((RSA.record.replace(b"v=DKIM1;", b"v=DKIM1; h=sha1;"),), Reason.DKIM_KEY_HASH),
    ],
)
def test_what_the_newest_key_makes_of_it(texts: tuple[bytes, ...], reason: Reason | None) -> None:
    expected = (ArcCode.FAIL, reason) if reason else (ArcCode.PASS, None)
    assert outcome(check(chain_of(1), records(*texts))) == expected


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer("", "TXT", Outcome.TEMPFAIL, reason=Reason.DNS_TIMEOUT), Reason.DNS_TIMEOUT),
        (Answer("", "TXT", Outcome.TEMPFAIL), Reason.DNS_SERVFAIL),
        (Answer("", "TXT", Outcome.NXDOMAIN), Reason.DKIM_KEY_MISSING),
        (Answer("", "TXT", Outcome.FOUND, (rsa_pair(1024).record,)), Reason.ARC_SEAL),
        (Answer("", "TXT", Outcome.FOUND, (ed25519_pair().record,)), Reason.DKIM_KEY_TYPE),
        (Answer("", "TXT", Outcome.FOUND, (ed25519_pair().record, RSA.record)), None),
    ],
)
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_keys_of_all_seals_count(domain: str, answer: Answer, reason: Reason | None) -> None:
    """RFC 8617 5.2.1: DNS failures are permanent too; the reason tells them apart."""
    known = {(key_name(each), "TXT"): ZONE.lookup(key_name(each), "TXT") for each in DOMAINS}
    result = check(THREE_HOPS, ZoneResolver(known | {(key_name(domain), "TXT"): answer}))
    if domain == DOMAINS[2] and reason is Reason.ARC_SEAL:
        reason = Reason.DKIM_SIGNATURE  # its message signature is looked at first
    assert outcome(result) == ((ArcCode.FAIL, reason) if reason else (ArcCode.PASS, None))


def test_a_failure_says_where() -> None:
    seal_key_lost = ZoneResolver({(key_name(each), "TXT"): ZONE.lookup(key_name(each), "TXT") for each in DOMAINS[1:]})
    assert check(THREE_HOPS, seal_key_lost).detail == "ARC-Seal 1: there is no key record"
    changed = THREE_HOPS.replace(b"We lost", b"We won")
    assert check(changed).detail == "ARC-Message-Signature 3: the body was changed after signing"
    assert check(changed).instance == 3


@pytest.mark.parametrize(
    ("trusted", "instance"),
    [
        ((), None),
        ((UNIVERSITY,), 3),
        ((UNIVERSITY, FORWARDER), 2),
        ((UNIVERSITY, FORWARDER, LIST), 1),
        ((UNIVERSITY, LIST), 3),
        ((FORWARDER,), None),
        ((FORWARDER, LIST), None),
        ((Domain.parse("example"), Domain.parse("mx.university.example")), None),
    ],
)
def test_trust_goes_from_the_newest_hop_back(trusted: tuple[Domain, ...], instance: int | None) -> None:
    """A stranger behind a trusted hop may have changed anything."""
    hop = check(THREE_HOPS).first_trusted(frozenset(trusted))
    assert (hop.instance if hop else None) == instance


def test_nobody_is_trusted_in_a_chain_that_does_not_hold() -> None:
    assert check(THREE_HOPS.replace(b"We lost", b"We won")).first_trusted({UNIVERSITY, FORWARDER, LIST}) is None


def test_one_hasher_serves_dkim_and_arc() -> None:
    header, body = split(sealed(signed(MAIL, RSA)))
    hasher = BodyHasher([BodyForm(Canonicalization.SIMPLE)])
    dkim, arc = Verification(header, NOW, hasher=hasher), ArcVerification(header, NOW, hasher)
    dkim.body(body)
    (result,) = dkim.finish(zone(RSA.record))
    assert (result.code, arc.finish(ZONE).code) == (DkimCode.PASS, ArcCode.PASS)


class Counting:
    """Answers like ZONE for any domain, and counts the questions."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def lookup(self, name: str, rdtype: str) -> Answer:
        self.asked[name] += 1
        return Answer(name, rdtype, Outcome.FOUND, (RSA.record,))

    def prefetch(self, name: str, rdtype: str) -> None:
        raise AssertionError("prefetching is for whoever made the verification")


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The signatures that were verified."""
    done: list[bytes] = []
    verifies = KeyRecord.verifies

    def counted(self: KeyRecord, signature: bytes, digest: bytes) -> bool:
        done.append(signature)
        return verifies(self, signature, digest)

    monkeypatch.setattr(KeyRecord, "verifies", counted)
    return done


@cache
def long_chain(hops: int, keys_differ: bool = False) -> bytes:
    mail = MAIL
    for number in range(1, hops + 1):
        domain = f"hop{number}.example" if keys_differ else DOMAINS[0]
        mail = sealed_by_hand(mail, number, "pass" if number > 1 else "none", domain=domain)
    return mail


@pytest.mark.parametrize(("hops", "oldest_pass"), [(1, 0), (11, 0), (12, 2), (50, 40)])
def test_n_seals_and_eleven_message_signatures_are_verified(hops: int, oldest_pass: int, verified: list[bytes]) -> None:
    result = check(long_chain(hops), Counting())
    assert (result.code, result.instance, result.oldest_pass) == (ArcCode.PASS, hops, oldest_pass)
    assert len(verified) == hops + min(hops, 11)


def test_a_fifty_first_set_costs_nothing(verified: list[bytes]) -> None:
    resolver = Counting()
    result = check(sealed_by_hand(long_chain(50), 51, "pass"), resolver)
    assert outcome(result) == (ArcCode.FAIL, Reason.ARC_TOO_MANY)
    assert (verified, resolver.asked) == ([], {})


def test_the_names_to_prefetch_are_the_names_that_are_asked_for() -> None:
    resolver = Counting()
    header, body = split(long_chain(50, keys_differ=True))
    verification = ArcVerification(header, NOW)
    verification.body(body)
    assert verification.finish(resolver).code is ArcCode.PASS
    assert len(verification.key_names) == 50
    assert set(verification.key_names) == set(resolver.asked)


def test_older_message_signatures_raise_no_questions_of_their_own() -> None:
    resolver = Counting()
    result = check(chain_by_hand(3, in_signature={"d": "other.example"}), resolver)
    assert (result.code, result.oldest_pass) == (ArcCode.PASS, 0)
    assert set(resolver.asked) == {key_name("other.example"), key_name(DOMAINS[0])}

    mail = sealed_by_hand(sealed_by_hand(MAIL, in_signature={"d": "other.example"}), 2, "pass")
    resolver = Counting()
    assert check(mail, resolver).oldest_pass == 2
    assert set(resolver.asked) == {key_name(DOMAINS[0])}


def test_the_body_is_not_hashed_for_each_length_that_is_said() -> None:
    class Forms(BodyHasher):
        def add(self, forms: Iterable[BodyForm]) -> None:
            asked.extend(forms)
            super().add(asked)

    asked: list[BodyForm] = []
    mail = MAIL
    for number in range(1, 9):
        said = {"l": str(number)} if number < 7 else {}
        mail = sealed_by_hand(mail, number, "pass" if number > 1 else "none", in_signature=said)
    header, body = split(mail)
    verification = ArcVerification(header, NOW, Forms())
    verification.body(body)
    assert (verification.finish(ZONE).oldest_pass, set(asked)) == (7, {BodyForm(Canonicalization.RELAXED)})


def test_a_large_header_is_not_gone_through_for_the_oldest_pass(verified: list[bytes]) -> None:
    mail = THREE_HOPS
    assert check(b"X-Small: 1\r\n" + mail).oldest_pass == 0
    assert len(verified) == 6
    assert check(b"X-Large: " + b"x" * 131_072 + b"\r\n" + mail).oldest_pass == 3
    assert len(verified) == 6 + 4


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda mail: without(mail, split(mail)[0].all("ARC-Seal")[49]), id="incomplete"),
        pytest.param(lambda mail: mail.replace(b"cv=pass", b"cv=none", 1), id="cv"),
        pytest.param(lambda mail: mail.replace(b"c=relaxed/relaxed", b"c=strict", 1), id="claims"),
    ],
)
def test_what_the_header_itself_tells_is_told_before_any_work(
    broken: Callable[[bytes], bytes], verified: list[bytes]
) -> None:
    resolver = Counting()
    mail = broken(long_chain(50))
    assert ArcVerification(split(mail)[0], NOW).key_names == ()
    assert check(mail, resolver).code is ArcCode.FAIL
    assert (verified, resolver.asked) == ([], {})


def test_the_first_failure_ends_the_work(verified: list[bytes]) -> None:
    """RFC 8617 5.2: the newest message signature, then seals from the newest on."""
    mail = long_chain(50)
    header, _ = split(mail)
    assert check(mail.replace(b"We lost", b"We won"), Counting()).code is ArcCode.FAIL
    assert verified == []
    oldest = header.all("ARC-Authentication-Results")[49]
    broken = replaced(mail, oldest, Field(oldest.name, oldest.value + b";"))
    assert outcome(check(broken, Counting())) == (ArcCode.FAIL, Reason.ARC_SEAL)
    assert len(verified) == 2


@given(data=st.data())
@settings(max_examples=300)
def test_any_changed_octet_of_a_chain_raises_nothing_and_makes_nothing_up(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, THREE_HOPS.index(b"Received:") - 3))
    mail = THREE_HOPS[:at] + bytes([data.draw(st.integers(0, 255))]) + THREE_HOPS[at + 1 :]
    result = check(mail)
    assert result.hops == (HOPS if result.code is ArcCode.PASS else ())


FIELDS = st.tuples(
    st.sampled_from([name.encode() for name in NAMES]),
    st.one_of(
        st.binary(max_size=60),
        st.lists(
            st.sampled_from(
                b"i=1 i=2 a=rsa-sha256 a=ed25519-sha256 b=eA== cv=none cv=pass d=list.example s=sel h=from c=relaxed l=1"
                b" t=1 mx spf=pass bh=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".split()
            )
        ).map(b";".join),
    ),
)


@given(st.lists(FIELDS, max_size=9), st.binary(max_size=100))
def test_hostile_fields_raise_nothing(fields: list[tuple[bytes, bytes]], record: bytes) -> None:
    header = Header.of([Field(name, value) for name, value in fields] + list(split(MAIL)[0]))
    verification = ArcVerification(header, NOW)
    verification.body(b"Hi.\r\n")
    assert verification.finish(records(record)).code is (ArcCode.FAIL if fields else ArcCode.NONE)
