"""Key records are read strictly: start valid, change one thing."""

from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dkim_mail import ed25519_pair, rsa_der, rsa_pair
from hypothesis import given
from hypothesis import strategies as st

from filterd.dkim.key_record import KeyRecordError, KeyType, parse_key_record
from filterd.mail.reason import Reason

RSA = rsa_pair().record.removeprefix(b"v=DKIM1; k=rsa; p=")
ED25519 = ed25519_pair().record.removeprefix(b"v=DKIM1; k=ed25519; p=")
EC = b64encode(
    ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
)


def of_numbers(bits: int, exponent: int = 65537) -> bytes:
    return b64encode(rsa_der((1 << (bits - 1)) + 12345, exponent))


def test_an_rsa_key() -> None:
    record = parse_key_record(b"v=DKIM1; p=" + RSA)

    assert isinstance(record.key, RSAPublicKey)
    assert (record.type, record.bits) == (KeyType.RSA, 2048)
    assert (record.hashes, record.services, record.testing, record.strict) == (None, None, False, False)


def test_an_rsa_key_without_its_wrapping() -> None:
    """RFC 6376 3.6.1, p=: RSAPublicKey; practice and the RFC's example have SubjectPublicKeyInfo."""
    wrapped = parse_key_record(b"p=" + RSA).key
    bare = b64encode(wrapped.public_bytes(Encoding.DER, PublicFormat.PKCS1))

    assert parse_key_record(b"p=" + bare).key == wrapped


def test_an_ed25519_key() -> None:
    record = parse_key_record(b"v=DKIM1; k=ed25519; p=" + ED25519)

    assert (record.type, record.bits) == (KeyType.ED25519, 256)


def test_what_a_key_may_be_used_for() -> None:
    record = parse_key_record(b"k=rsa; h=sha1 : sha256; s=email:tlsrpt; t=y : s; n=any words; x=y; p=" + RSA)

    assert record.hashes == ("sha1", "sha256")
    assert record.services == ("email", "tlsrpt")
    assert (record.testing, record.strict) == (True, True)


@pytest.mark.parametrize(
    "record",
    [
        b"p=" + RSA,
        b"p=" + RSA + b";",
        b"p=" + RSA[:20] + b" \t" + RSA[20:] + b" ; ",
        b" v = DKIM1 ; k = rsa ; p = " + RSA,
        b"k=rsa; p=" + of_numbers(1024),
        b"k=rsa; p=" + of_numbers(4096),
        b"k=rsa; p=" + of_numbers(2048, 3),
        b"k=rsa; p=" + of_numbers(2048, (1 << 64) - 1),
        b"n=\xc3\xbc; p=" + RSA,
        # Against the grammar, but OpenDKIM, dkimpy and Mail::DKIM read them: tests/interop.
        b"k=rsa; v=DKIM1; p=" + RSA,
        b"k=rsa; p=" + RSA + b"; v=DKIM1",
        b'v=DKIM1; p="' + RSA[:20] + b'" "' + RSA[20:] + b'"',
    ],
)
def test_other_records_with_a_key(record: bytes) -> None:
    assert parse_key_record(record).type is KeyType.RSA


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"", Reason.DKIM_KEY_SYNTAX),
        (b"v=DKIM1", Reason.DKIM_KEY_SYNTAX),
        (b"v=spf1 -all", Reason.DKIM_KEY_SYNTAX),
        (b"k=rsa; v=DKIM2; p=" + RSA, Reason.DKIM_KEY_SYNTAX),
        (b"k=rsa; v=; p=" + RSA, Reason.DKIM_KEY_SYNTAX),
        (b"'k=rsa; p=" + RSA + b"'", Reason.DKIM_KEY_SYNTAX),
        (b'p=""', Reason.DKIM_KEY_SYNTAX),
        (b"v=DKIM2; p=" + RSA, Reason.DKIM_KEY_SYNTAX),
        (b"v=dkim1; p=" + RSA, Reason.DKIM_KEY_SYNTAX),
        (b"p=" + RSA + b"; p=" + RSA, Reason.DKIM_KEY_SYNTAX),
        (b"p=" + RSA[:-1], Reason.DKIM_KEY_SYNTAX),
        (b"p=" + RSA[4:], Reason.DKIM_KEY_SYNTAX),
        (b"p=" + RSA + b"AAAA", Reason.DKIM_KEY_SYNTAX),
        (b"p=!" + RSA, Reason.DKIM_KEY_SYNTAX),
        (b"p=" + ED25519, Reason.DKIM_KEY_SYNTAX),
        (b"t=\xff; p=" + RSA, Reason.DKIM_KEY_SYNTAX),
        (b"n=" + b"x" * 8192 + b"; p=" + RSA, Reason.DKIM_KEY_SYNTAX),
        (b"v=DKIM1; p=", Reason.DKIM_KEY_REVOKED),
        (b"v=DKIM1; k=ed25519; p= ", Reason.DKIM_KEY_REVOKED),
        (b"k=ed25519; p=" + ED25519[:-4], Reason.DKIM_KEY_SYNTAX),
        (b"k=ed25519; p=" + RSA, Reason.DKIM_KEY_SYNTAX),
        (b"k=dsa; p=" + RSA, Reason.DKIM_KEY_TYPE),
        (b"k=; p=" + RSA, Reason.DKIM_KEY_TYPE),
        (b"k=\xff; p=" + RSA, Reason.DKIM_KEY_TYPE),
        (b"p=" + EC, Reason.DKIM_KEY_TYPE),
        (b"p=" + of_numbers(1023), Reason.DKIM_KEY_WEAK),
        (b"p=" + of_numbers(512), Reason.DKIM_KEY_WEAK),
        (b"p=" + of_numbers(4097), Reason.DKIM_KEY_TOO_LARGE),
        (b"p=" + of_numbers(16384), Reason.DKIM_KEY_TOO_LARGE),
        (b"p=" + of_numbers(16384, (1 << 16383) + 1), Reason.DKIM_KEY_TOO_LARGE),
        (b"p=" + of_numbers(2048, (1 << 64) + 1), Reason.DKIM_KEY_TOO_LARGE),
        (b"p=" + of_numbers(2048, 65536), Reason.DKIM_KEY_SYNTAX),
        (b"p=" + of_numbers(2048, 1), Reason.DKIM_KEY_SYNTAX),
        (b"p=" + b64encode(rsa_der(0)), Reason.DKIM_KEY_SYNTAX),
    ],
)
def test_one_thing_changed(record: bytes, reason: Reason) -> None:
    with pytest.raises(KeyRecordError) as caught:
        parse_key_record(record)

    assert caught.value.reason is reason
    assert str(caught.value).isascii()


@given(st.binary(max_size=60) | st.binary(max_size=300).map(lambda der: b"p=" + b64encode(der)))
def test_nothing_is_raised_but_the_parsers_own_error(record: bytes) -> None:
    try:
        parse_key_record(record)
    except KeyRecordError as error:
        assert error.reason.startswith("dkim.key.")


def test_a_record_is_read_once_and_the_memory_for_that_is_bounded() -> None:
    record = b"n=once; p=" + RSA

    assert parse_key_record(record) is parse_key_record(record)
    assert parse_key_record.cache_info().maxsize == 1024
