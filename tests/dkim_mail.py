"""Mail, keys and a zone for whoever tests DKIM."""

from base64 import b64encode
from dataclasses import dataclass
from functools import cache

import dkim as dkimpy
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from filterd.dkim.bodyhash import BodyForm, BodyHasher
from filterd.dkim.canonical import Canonicalization, signed_octets
from filterd.dkim.sign import SigningKey
from filterd.dkim.verify import DkimResult, Verification
from filterd.lookup import Answer, Outcome, Resolver, ZoneResolver
from filterd.mail.header import Field, Header

NOW = 1_700_000_000
SELECTOR = "sel"
DOMAIN = "example.org"
KEY_NAME = f"{SELECTOR}._domainkey.{DOMAIN}"

MAIL = (
    b"Received: from client.example.org ([192.0.2.1])\r\n\tby mx.example.net; Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    b"From: Joe <joe@example.org>\r\n"
    b"To: Jane <jane@example.net>\r\n"
    b"Subject: Is dinner\r\n ready?\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    b"Message-ID: <1@example.org>\r\n"
    b"\r\n"
    b"Hi.\r\n\r\nWe lost  the game.\t\r\n\r\n\r\n"
)


def split(mail: bytes) -> tuple[Header, bytes]:
    """The header and the body of a message whose lines end in CRLF."""
    head, _, body = mail.partition(b"\r\n\r\n")
    fields: list[Field] = []
    for line in head.split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            last = fields.pop()
            fields.append(Field(last.name, last.value + b"\r\n" + line))
        elif line:
            name, _, value = line.partition(b":")
            fields.append(Field(name, value))
    return Header.of(fields), body


@dataclass(frozen=True)
class KeyPair:
    """A private key in the forms that dkimpy and filterd want, and its record."""

    pem: bytes
    for_dkimpy: bytes
    algorithm: bytes
    record: bytes


def rsa_pair(bits: int = 2048) -> KeyPair:
    return _rsa_pair(bits)


@cache
def _rsa_pair(bits: int) -> KeyPair:
    return _pair(generate_private_key(65537, bits), b"rsa-sha256")


@cache
def ed25519_pair() -> KeyPair:
    return _pair(Ed25519PrivateKey.generate(), b"ed25519-sha256")


def _pair(key: RSAPrivateKey | Ed25519PrivateKey, algorithm: bytes) -> KeyPair:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    raw = b"" if isinstance(key, RSAPrivateKey) else key.private_bytes_raw()
    record = SigningKey.load(pem, min_rsa_bits=1024).public_record().encode()
    return KeyPair(pem, b64encode(raw) if raw else pem, algorithm, record)


@cache
def signing_key(pem: bytes) -> SigningKey:
    """The key, loaded once, which takes longer than ten signatures."""
    return SigningKey.load(pem, min_rsa_bits=1024)


def der_integer(number: int) -> bytes:
    return _der(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def rsa_der(modulus: int, exponent: int = 65537) -> bytes:
    """An RSAPublicKey (RFC 8017 A.1.1) of any numbers whatever."""
    return _der(0x30, der_integer(modulus) + der_integer(exponent))


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def zone(*records: bytes, name: str = KEY_NAME) -> Resolver:
    """DNS that has these TXT records at the key's name, or none."""
    if not records:
        return ZoneResolver({})
    return ZoneResolver({(name, "TXT"): Answer(name, "TXT", Outcome.FOUND, records)})


def dkimpy_signed(
    mail: bytes,
    pair: KeyPair,
    header: str = "relaxed",
    body: str = "relaxed",
    selector: str = SELECTOR,
    **options: object,
) -> bytes:
    """The mail with dkimpy's signature above it."""
    return (
        dkimpy.sign(
            mail,
            selector.encode(),
            DOMAIN.encode(),
            pair.for_dkimpy,
            canonicalize=(header.encode(), body.encode()),
            signature_algorithm=pair.algorithm,
            **options,
        )
        + mail
    )


def signed(mail: bytes, pair: KeyPair, **changed: str | None) -> bytes:
    """The mail with a signature above it that says whatever the test wants: tags changed or (None) left out."""
    header, body = split(mail)
    tags = {
        "v": "1",
        "a": pair.algorithm.decode(),
        "c": "relaxed/relaxed",
        "d": DOMAIN,
        "s": SELECTOR,
        "t": str(NOW),
        "h": "from:to:subject:date",
        **changed,
    }
    forms = [Canonicalization(word) for word in (tags["c"] or "simple/simple").split("/")]
    form = BodyForm(forms[1], int(tags.get("l") or 2 * len(body) + 2))
    hasher = BodyHasher([form])
    hasher.update(body)
    hasher.finish()
    tags.setdefault("bh", b64encode(hasher.hash_of(form).digest).decode())
    text = "; ".join(f"{name}={value}" for name, value in tags.items() if value is not None and name != "b")
    value = f" {text}; b=".encode()
    names = [name.strip().lower() for name in (tags["h"] or "").split(":")]
    octets = signed_octets(header, names, Field(b"DKIM-Signature", value), value, forms[0])
    signature = b64encode(signing_key(pair.pem).sign(octets))
    return b"DKIM-Signature:" + value + signature + b"\r\n" + mail


def verify(mail: bytes, resolver: Resolver, now: int = NOW, chunk: int = 65535) -> tuple[DkimResult, ...]:
    """The results, with the body in chunks."""
    header, body = split(mail)
    verification = Verification(header, now)
    for start in range(0, len(body), chunk):
        verification.body(body[start : start + chunk])
    return verification.finish(resolver)
