"""What filterd signs verifies, here and in dkimpy, and stands in lines that a mail may have."""

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from dkim_mail import DOMAIN, MAIL, NOW, SELECTOR, KeyPair, ed25519_pair, rsa_pair, split, verify, zone

from filterd.dkim.bodyhash import BodyHasher
from filterd.dkim.key_record import parse_key_record
from filterd.dkim.sign import (
    DEFAULT_FIELDS,
    OUTGOING_BODY,
    SignedFields,
    SigningError,
    SigningKey,
    SigningKeyError,
    sign,
)
from filterd.dkim.signature import MAX_SIGNED_NAMES, Algorithm, parse_signature
from filterd.dkim.verify import DkimCode
from filterd.mail.domain import Domain
from filterd.mail.header import Field

RSA, ED25519 = rsa_pair(), ed25519_pair()
PAIRS = [RSA, ED25519, rsa_pair(3072)]


def signature_of(mail: bytes, pair: KeyPair = RSA, domain: str = DOMAIN, **options: object) -> Field:
    header, body = split(mail)
    hasher = BodyHasher([OUTGOING_BODY])
    hasher.update(body)
    hasher.finish()
    digest = hasher.hash_of(OUTGOING_BODY).digest
    return sign(header, digest, SigningKey.load(pair.pem), Domain(domain), SELECTOR, NOW, **options)  # type: ignore[arg-type]


def signed_by_us(mail: bytes, pair: KeyPair = RSA, **options: object) -> bytes:
    return signature_of(mail, pair, **options).raw + mail


def dkimpy_says(mail: bytes, pair: KeyPair) -> bool:
    return bool(dkimpy.DKIM(mail).verify(dnsfunc=lambda name, timeout: pair.record))


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(
    "options", [{}, {"auid": "@sub.example.org"}, {"auid": "a;b c=d@example.org"}, {"auid": "ü@example.org"}]
)
def test_what_is_signed_verifies_here_and_in_dkimpy(pair: KeyPair, options: dict[str, str]) -> None:
    mail = signed_by_us(MAIL, pair, **options)

    assert [result.code for result in verify(mail, zone(pair.record))] == [DkimCode.PASS]
    assert dkimpy_says(mail, pair)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("domain", [DOMAIN, "a-rather-long-name-of-a-department." * 3 + DOMAIN])
def test_lines_are_short_and_folded_where_a_parser_expects_it(pair: KeyPair, domain: str) -> None:
    """RFC 5322 2.1.1."""
    field = signature_of(MAIL, pair, domain=domain, expires=NOW + 604800, auid=f"@{domain}")
    lines = field.raw.removesuffix(b"\r\n").split(b"\r\n")

    assert all(len(line) <= 78 or domain.encode() in line for line in lines)
    assert all(line.startswith(b"\t") and line.strip() for line in lines[1:])
    assert field.value.startswith(b" v=1; a=")
    assert not any(line.endswith((b" ", b"\t")) for line in lines)


def test_all_that_the_signature_says() -> None:
    signature = parse_signature(signature_of(MAIL, expires=NOW + 60, auid="joe@sub.example.org").value)

    assert (signature.sdid, signature.selector, str(signature.auid)) == (
        Domain(DOMAIN),
        SELECTOR,
        "joe@sub.example.org",
    )
    assert (signature.timestamp, signature.expiration, signature.length) == (NOW, NOW + 60, None)
    assert signature.algorithm is Algorithm.RSA_SHA256
    assert signature.signed_names == (
        *("from", "from", "to", "to", "cc", "subject", "subject", "date", "date", "reply-to"),
        *("mime-version", "content-type", "content-transfer-encoding", "message-id"),
    )


@pytest.mark.parametrize("name", DEFAULT_FIELDS.sealed)
def test_nobody_can_add_a_sealed_field(name: str) -> None:
    """RFC 6376 8.15."""
    mail = name.encode() + b": x@example.net\r\n" + signed_by_us(MAIL)

    assert verify(mail, zone(RSA.record))[0].code is not DkimCode.PASS


@pytest.mark.parametrize(
    "added",
    [b"Received: from a by b", b"Return-Path: <a@b>", b"Sender: l@b", b"List-Id: <l.b>", b"List-Unsubscribe: <http://b/>",
     b"Precedence: list", b"X-Spam: no", b"Resent-From: a@b", b"Authentication-Results: b; none", b"Errors-To: l@b"],
)  # fmt: skip
def test_what_a_mailing_list_adds_breaks_nothing(added: bytes) -> None:
    mail = added + b"\r\n" + signed_by_us(MAIL)

    assert verify(mail, zone(RSA.record))[0].code is DkimCode.PASS


@pytest.mark.parametrize("name", [*DEFAULT_FIELDS.sealed, *DEFAULT_FIELDS.present])
def test_no_signed_field_can_be_changed_or_taken_away(name: str) -> None:
    mail = name.encode() + b": x@example.net\r\n" + MAIL
    signed = signed_by_us(mail)

    assert verify(signed, zone(RSA.record))[0].code is (DkimCode.PASS)
    for change in (b"", name.encode() + b": y@example.net\r\n"):
        changed = signed.replace(name.encode() + b": x@example.net\r\n", change)
        assert verify(changed, zone(RSA.record))[0].code is not DkimCode.PASS


def test_two_signatures_stand_beside_each_other() -> None:
    mail = signed_by_us(signed_by_us(MAIL, RSA), ED25519)
    results = verify(mail, zone(RSA.record, ED25519.record))

    assert [(result.code, result.algorithm) for result in results] == [
        (DkimCode.PASS, "ed25519-sha256"),
        (DkimCode.PASS, "rsa-sha256"),
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"auid": "@example.com"}, "not within"),
        ({"auid": "@badexample.org"}, "not within"),
        ({"auid": "example.org"}, "not within"),
        ({"auid": "joe@"}, "empty"),
        ({"expires": NOW}, "expire"),
        ({"signed_fields": SignedFields(("to",))}, "From"),
    ],
)
def test_what_cannot_be_signed(options: dict[str, object], words: str) -> None:
    with pytest.raises(SigningError, match=words):
        signature_of(MAIL, **options)


def test_a_mail_with_more_fields_than_a_verifier_reads_is_not_signed() -> None:
    fields = b"To: a@b\r\n"

    names = DEFAULT_FIELDS.names(split(MAIL)[0])
    most = MAX_SIGNED_NAMES - len(names)
    assert verify(signed_by_us(fields * most + MAIL), zone(RSA.record))[0].code is DkimCode.PASS
    with pytest.raises(SigningError):
        signature_of(fields * (most + 1) + MAIL)


def test_a_mail_without_a_from_field_is_signed() -> None:
    assert verify(signed_by_us(b"X: y\r\n\r\nText"), zone(RSA.record))[0].code is DkimCode.PASS


def pem(bits: int = 2048, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    key = load_pem_private_key(rsa_pair(bits).pem, None)
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b"\n\n", b" \n"])
def test_keys_with_any_line_ends(form: PrivateFormat, end: bytes) -> None:
    """dkimpy finds no key where lines end in CRLF."""
    key = SigningKey.load(b"\n" + pem(form=form).replace(b"\n", end))

    assert (key.algorithm, key.bits) == (Algorithm.RSA_SHA256, 2048)
    assert key.public_record() == RSA.record.decode()


def test_an_ed25519_key() -> None:
    key = SigningKey.load(ED25519.pem.replace(b"\n", b"\r\n"))

    assert (key.algorithm, key.bits) == (Algorithm.ED25519_SHA256, 256)
    assert parse_key_record(key.public_record().encode()).bits == 256


def test_old_keys_are_admitted_where_wanted() -> None:
    """RFC 8301 3.2: 2048 bits, and never below 1024."""
    assert SigningKey.load(pem(1024), min_rsa_bits=1024).bits == 1024
    assert SigningKey.load(pem(1024), min_rsa_bits=512).bits == 1024
    with pytest.raises(SigningKeyError, match="1024 bits; 2048 to 4096"):
        SigningKey.load(pem(1024))


def encrypted() -> bytes:
    key = load_pem_private_key(RSA.pem, None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"garbage",
        RSA.pem[:200],
        RSA.pem.replace(b"PRIVATE", b"PUBLIC"),
        RSA.pem.replace(b"MII", b"MIJ"),
        encrypted(),
        ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        b"\xff" * 100,
    ],
)
def test_what_is_no_key(text: bytes) -> None:
    with pytest.raises(SigningKeyError):
        SigningKey.load(text)


def test_a_key_does_not_tell_itself() -> None:
    assert repr(SigningKey.load(RSA.pem)) == f"SigningKey(algorithm={Algorithm.RSA_SHA256!r}, bits=2048)"
