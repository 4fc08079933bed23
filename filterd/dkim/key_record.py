"""The public key that a domain publishes (RFC 6376 3.6.1, RFC 8301, RFC 8463).

Answers which key it is and what it may be used for. Which signature uses it, and where it came from, is not asked here.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from filterd.dkim.tag_list import TagListError, base64_octets, parse_tag_list, words
from filterd.mail.reason import Reason

MIN_RSA_BITS = 1024
MAX_RSA_BITS = 4096
_MAX_RECORD = 8192
_MAX_EXPONENT = 1 << 64


class KeyRecordError(ValueError):
    """The record has no key to verify with; `reason` names the fault, the message explains it to people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class KeyType(StrEnum):
    """The key types, as k= names them."""

    RSA = "rsa"
    ED25519 = "ed25519"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A usable key.

    `hashes` (h=) and `services` (s=) are as published, None where all are allowed. `testing` is t=y; `strict` is t=s:
    i= must be at d= itself.
    """

    key: RSAPublicKey | Ed25519PublicKey
    type: KeyType
    bits: int
    hashes: tuple[str, ...] | None = None
    services: tuple[str, ...] | None = None
    testing: bool = False
    strict: bool = False

    def verifies(self, signature: bytes, digest: bytes) -> bool:
        """Whether the key's owner signed the octets of which this is the SHA-256."""
        try:
            if isinstance(self.key, RSAPublicKey):
                self.key.verify(signature, digest, PKCS1v15(), Prehashed(SHA256()))
            else:
                # RFC 8463 3: Ed25519 signs the hash, not the octets.
                self.key.verify(signature, digest)
        except InvalidSignature:
            return False
        return True


# The resolver keeps a record as long as its TTL says; this spares reading the same octets for every mail.
@lru_cache(maxsize=1024)
def parse_key_record(record: bytes) -> KeyRecord:
    """Read a TXT record, its strings joined.

    RSA keys are 1024 to 4096 bits long with an exponent below 2^64, known before any arithmetic. Records are at most
    8192 octets long. Raises KeyRecordError.
    """
    try:
        return _key_record(parse_tag_list(record, _MAX_RECORD))
    except TagListError as error:
        raise KeyRecordError(Reason.DKIM_KEY_SYNTAX, str(error)) from None


def _key_record(tags: dict[str, bytes]) -> KeyRecord:
    # RFC 6376 3.6.1 wants v= to be the first tag; verifiers look for it anywhere, so that such records are published.
    if tags.get("v", b"DKIM1") != b"DKIM1":
        raise KeyRecordError(Reason.DKIM_KEY_SYNTAX, "v= is not DKIM1")
    if "p" not in tags:
        raise KeyRecordError(Reason.DKIM_KEY_SYNTAX, "p= is missing")
    if not tags["p"]:
        raise KeyRecordError(Reason.DKIM_KEY_REVOKED, "p= is empty: the key was revoked")
    try:
        kind = KeyType(tags.get("k", b"rsa").decode("latin-1"))
    except ValueError:
        raise KeyRecordError(Reason.DKIM_KEY_TYPE, "k= is unknown") from None
    # A record longer than one string is often published with the quotes between its strings. Verifiers skip them.
    octets = base64_octets(tags["p"].replace(b'"', b""))
    key = _rsa(octets) if kind is KeyType.RSA else _ed25519(octets)
    flags = words(tags.get("t", b""))
    return KeyRecord(
        key=key,
        type=kind,
        bits=key.key_size if isinstance(key, RSAPublicKey) else 256,
        hashes=words(tags["h"]) if "h" in tags else None,
        services=words(tags["s"]) if "s" in tags else None,
        testing="y" in flags,
        strict="s" in flags,
    )


def _rsa(der: bytes) -> RSAPublicKey:
    # RFC 6376 3.6.1 has RSAPublicKey, its example and everybody's practice SubjectPublicKeyInfo: both load.
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRecordError(Reason.DKIM_KEY_SYNTAX, "p= is no RSA key") from None
    if not isinstance(key, RSAPublicKey):
        raise KeyRecordError(Reason.DKIM_KEY_TYPE, "p= is a key of another type than k=")
    if key.key_size < MIN_RSA_BITS:
        raise KeyRecordError(Reason.DKIM_KEY_WEAK, f"the RSA key has {key.key_size} bits")
    if key.key_size > MAX_RSA_BITS:
        raise KeyRecordError(Reason.DKIM_KEY_TOO_LARGE, f"the RSA key has {key.key_size} bits")
    # Loading has refused exponents that are even or below 3; a large one would cost as much as a large key.
    if key.public_numbers().e >= _MAX_EXPONENT:
        raise KeyRecordError(Reason.DKIM_KEY_TOO_LARGE, "the RSA key has an exponent of more than 64 bits")
    return key


def _ed25519(octets: bytes) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(octets)
    except ValueError:
        raise KeyRecordError(Reason.DKIM_KEY_SYNTAX, "p= is not the 32 octets of an Ed25519 key") from None
