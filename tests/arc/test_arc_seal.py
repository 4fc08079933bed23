"""Adding a set: what it says, what it covers, and when there is none (RFC 8617 5.1)."""

import hashlib
from collections.abc import Callable

import pytest
from arc_mail import (
    AUTHSERV_ID,
    DOMAINS,
    RSA,
    ZONE,
    body_hash,
    chain_of,
    check,
    dkimpy_says,
    new_set,
    records,
    replaced,
    results,
    sealed,
    sealed_by_dkimpy,
    sealed_by_hand,
    signing_key,
    without,
)
from dkim_mail import MAIL, NOW, SELECTOR, KeyPair, ed25519_pair, rsa_pair, signed, split

from filterd.arc.seal import ARC_FIELDS, seal
from filterd.arc.sets import MAX_SETS, collect, parse_message_signature, read_results
from filterd.arc.verify import ArcCode, ArcResult
from filterd.authres.result import AuthenticationResults, MethodResult
from filterd.dkim.canonical import Canonicalization, canonical_fields
from filterd.dkim.key_record import parse_key_record
from filterd.dkim.sign import SignedFields, SigningError
from filterd.dkim.tag_list import base64_octets, parse_tag_list, without_value
from filterd.mail.domain import Domain
from filterd.mail.header import Field, Header
from filterd.mail.reason import Reason


def tags(field: Field) -> dict[str, bytes]:
    return parse_tag_list(field.value, 65536)


@pytest.mark.parametrize("pair", [RSA, rsa_pair(4096), ed25519_pair()])
@pytest.mark.parametrize("by", [sealed, sealed_by_dkimpy])
@pytest.mark.parametrize("hops", [0, 1, 3])
def test_what_is_sealed_holds_here_and_in_dkimpy(hops: int, by: Callable[[bytes, str], bytes], pair: KeyPair) -> None:
    mail = sealed(chain_of(hops, by), "last.example", pair)
    zone = records(RSA.record, pair.record, domains=(*DOMAINS, "last.example"))
    assert (check(mail, zone).code, check(mail, zone).instance) == (ArcCode.PASS, hops + 1)
    if pair is RSA:  # dkimpy knows no other key here, and rsa-sha256 only
        assert dkimpy_says(mail) == "pass"


def test_all_that_the_set_says() -> None:
    made = new_set(chain_of(1), DOMAINS[1])
    assert made is not None
    seal_field, signature_field, results_field = made
    assert [field.name for field in made] == [
        b"ARC-Seal",
        b"ARC-Message-Signature",
        b"ARC-Authentication-Results",
    ]
    said = {"i": b"2", "a": b"rsa-sha256", "d": b"forwarder.example", "s": b"sel", "t": b"1700000000"}
    assert {tag: text for tag, text in tags(seal_field).items() if tag != "b"} == {**said, "cv": b"pass"}
    assert tags(signature_field).items() >= {**said, "c": b"relaxed/relaxed"}.items()
    assert results_field.value == (b" i=2; mx.list.example;\r\n\tarc=pass;\r\n\tspf=pass smtp.mailfrom=joe@example.org")


def test_the_number_comes_first() -> None:
    """RFC 8617 4.1; dkimpy looks for it as ` i=1;`."""
    for field in new_set(MAIL) or ():
        assert field.value.startswith(b" i=1; ")


def test_lines_are_short() -> None:
    for field in new_set(chain_of(3)) or ():
        assert max(len(line) for line in field.raw.split(b"\r\n")) <= 78


def test_one_message_gets_one_set() -> None:
    """RSA's signatures are the same each time, and no clock is read."""
    assert new_set(chain_of(1)) == new_set(chain_of(1))


@pytest.mark.parametrize("name", ["from", "to", "cc", "subject", "date", "reply-to", "content-type"])
def test_nobody_adds_a_field_behind_the_last_hop(name: str) -> None:
    assert check(f"{name}: x\r\n".encode() + chain_of(2)).reason is Reason.DKIM_SIGNATURE


def test_the_signatures_that_there_are_are_signed_and_results_are_not() -> None:
    """RFC 8617 4.1.2."""
    mail = signed(b"Authentication-Results: mx.list.example; none\r\n" + chain_of(1), RSA)
    made = new_set(mail)
    assert made is not None
    names = parse_message_signature(made[1].value).signed_names
    assert names.count("dkim-signature") == 1
    assert not [name for name in names if name.startswith("arc-") or name == "authentication-results"]


@pytest.mark.parametrize("name", ["arc-seal", "arc-message-signature", "arc-authentication-results"])
def test_what_may_not_be_signed_is_refused(name: str) -> None:
    fields = SignedFields(ARC_FIELDS.sealed, (name,))
    assert new_set(MAIL, signed_fields=fields) is not None
    with pytest.raises(SigningError):
        new_set(chain_of(1), signed_fields=fields)


def test_a_mail_without_from_is_not_sealed() -> None:
    with pytest.raises(SigningError):
        new_set(MAIL.replace(b"From:", b"X-From:"), signed_fields=SignedFields(("to",)))


BROKEN = {
    "body": chain_of(2).replace(b"We lost", b"We won"),
    "set": without(chain_of(2), split(chain_of(2))[0].all("ARC-Seal")[0]),
    "field": replaced(chain_of(2), split(chain_of(2))[0].all("ARC-Seal")[1], Field(b"ARC-Seal", b" nothing")),
    "cv": sealed_by_hand(chain_of(1), 2, "none"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_chain_is_sealed_as_failed_once(broken: str) -> None:
    """RFC 8617 5.1 step 2."""
    mail = BROKEN[broken]
    once = sealed(mail, DOMAINS[2])
    assert tags(split(once)[0].all("ARC-Seal")[0]).items() >= {"cv": b"fail", "i": b"3"}.items()
    assert (check(once).reason, check(once).instance) == (Reason.ARC_FAILED, 3)
    assert dkimpy_says(once) != "pass"
    assert new_set(once) is None


@pytest.mark.parametrize("broken", BROKEN)
def test_the_seal_of_a_broken_chain_covers_its_own_set_only(broken: str) -> None:
    """RFC 8617 5.1.2."""
    made = new_set(BROKEN[broken])
    assert made is not None
    seal_field, signature_field, results_field = made
    unsigned = Field(seal_field.name, without_value(seal_field.value, b"b"))
    octets = canonical_fields([results_field, signature_field, unsigned], Canonicalization.RELAXED)[:-2]
    signature = base64_octets(tags(seal_field)["b"])
    assert parse_key_record(RSA.record).verifies(signature, hashlib.sha256(octets).digest())


def test_fields_without_a_number_are_sealed_as_failed_from_one_on() -> None:
    mail = b"ARC-Seal: nonsense\r\n" + MAIL
    made = new_set(mail)
    assert made is not None
    assert tags(made[0]).items() >= {"i": b"1", "cv": b"fail"}.items()


def test_the_fiftieth_set_is_the_last() -> None:
    mail = MAIL
    for number in range(1, MAX_SETS):
        mail = sealed_by_hand(mail, number, "pass" if number > 1 else "none")
    mail = sealed(mail)
    assert (check(mail).code, check(mail).instance) == (ArcCode.PASS, MAX_SETS)
    assert new_set(mail) is None
    assert new_set(mail.replace(b"We lost", b"We won")) is None
    assert new_set(b"ARC-Seal: one more\r\n" + mail) is None


@pytest.mark.parametrize(
    ("mail", "chain"),
    [
        (MAIL, ArcResult(ArcCode.PASS, 1)),
        (chain_of(1), ArcResult(ArcCode.NONE)),
        (chain_of(1), ArcResult(ArcCode.PASS, 2)),
        (BROKEN["set"], ArcResult(ArcCode.PASS, 2)),
    ],
)
def test_only_the_chain_that_was_verified_is_sealed(mail: bytes, chain: ArcResult) -> None:
    with pytest.raises(SigningError, match="another chain"):
        new_set(mail, chain=chain)


def test_a_message_changed_here_is_sealed_as_it_leaves() -> None:
    """RFC 8617 5.1 step 1, and 9: the seal says what came in, the message signature what went out."""
    came = chain_of(1)
    left = (
        b"List-Id: <l.list.example>\r\n" + came.replace(b"Subject: Is", b"Subject: [list] Is") + b"-- \r\nthe list\r\n"
    )
    mail = sealed(left, DOMAINS[1], chain=check(came))
    assert (check(mail).code, check(mail).oldest_pass) == (ArcCode.PASS, 2)


def test_nothing_remote_adds_a_result() -> None:
    hostile = MethodResult("spf", "fail", reason='x"; dkim=pass header.d=bank.example; (', comment=") dmarc=pass (")
    header, body = split(MAIL)
    made = seal(
        header,
        body_hash(body),
        signing_key(RSA),
        Domain.parse(DOMAINS[0]),
        SELECTOR,
        AuthenticationResults(AUTHSERV_ID, (hostile,)),
        ArcResult(ArcCode.NONE),
        NOW,
    )
    assert made is not None
    found = read_results(made[2])
    assert found is not None
    assert [(result.method, result.code) for result in found.results] == [("spf", "fail")]


def test_the_sets_of_a_sealed_mail_are_read_as_they_were_written() -> None:
    mail = sealed(chain_of(2), DOMAINS[2])
    newest = collect(split(mail)[0])[-1]
    assert (newest.instance, newest.seal.sdid) == (3, Domain.parse(DOMAINS[2]))
    assert read_results(newest.results_field) == results(check(chain_of(2)))
    assert Header.of(split(mail)[0].fields[:3]) == Header.of(
        [newest.seal_field, newest.message_signature_field, newest.results_field]
    )
    assert check(mail, ZONE).code is ArcCode.PASS
