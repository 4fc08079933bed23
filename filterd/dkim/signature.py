"""What a DKIM-Signature field says (RFC 6376 3.5, RFC 8463, RFC 8616), strictly by its grammar.

Answers what was claimed. Whether any of it is true or acceptable is verify.py's question.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from filterd.dkim.bodyhash import BodyForm
from filterd.dkim.canonical import Canonicalization
from filterd.dkim.tag_list import TagListError, base64_octets, parse_tag_list, words
from filterd.mail.domain import Domain, DomainError
from filterd.mail.reason import Reason

MAX_SIGNED_NAMES = 256
MAX_FIELD = 65536
# Of b=: an 8192-bit RSA signature, so that such a key is still called too large rather than malformed.
_MAX_SIGNATURE = 1024
_FIELD_NAME = re.compile(r"[!-9<-~]+")
_TIME = re.compile(rb"[0-9]{1,12}")
_LENGTH = re.compile(rb"[0-9]{1,76}")


class SignatureError(ValueError):
    """The field is no signature that filterd reads; `reason` names the fault, the message explains it to people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Algorithm(StrEnum):
    """The signing algorithms, as a= names them."""

    RSA_SHA256 = "rsa-sha256"
    ED25519_SHA256 = "ed25519-sha256"
    RSA_SHA1 = "rsa-sha1"  #: known, and never valid (RFC 8301 3.1)


@dataclass(frozen=True, slots=True)
class Auid:
    """The agent or user identifier (i=): on whose behalf the domain signed. `local` is as written, still encoded."""

    local: str
    domain: Domain

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"


@dataclass(frozen=True, slots=True)
class KeyedSignature:
    """What all signatures say: the signature (b=, decoded), and with which key it was made (a=, d=, s=)."""

    algorithm: Algorithm
    signature: bytes
    sdid: Domain
    selector: str

    @property
    def key_name(self) -> str:
        """Where the key is published (RFC 6376 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.sdid}"


@dataclass(frozen=True, slots=True)
class Signature(KeyedSignature):
    """A DKIM-Signature field, read.

    `body_hash` (bh=) is decoded; `signed_names` (h=) are lower case, in order, with repetitions; `timestamp` (t=) and
    `expiration` (x=) are seconds since 1970; `length` (l=) is in octets of the canonical body.
    """

    body_hash: bytes
    header_canonicalization: Canonicalization
    body_canonicalization: Canonicalization
    signed_names: tuple[str, ...]
    auid: Auid
    length: int | None = None
    timestamp: int | None = None
    expiration: int | None = None

    @property
    def body_form(self) -> BodyForm:
        """What of the body was signed."""
        return BodyForm(self.body_canonicalization, self.length)


def parse_signature(value: bytes) -> Signature:
    """Read the field's value.

    Bounds: 64 KiB, 100 tags, 256 names in h=, 1024 octets in b=. Raises SignatureError.
    """
    try:
        tags = parse_tag_list(value, MAX_FIELD)
        # RFC 6376 6.1.1: an unknown version is not looked at any further.
        if _required(tags, "v") != b"1":
            raise SignatureError(Reason.DKIM_VERSION, "v= is not 1")
        return message_signature(tags)
    except (TagListError, DomainError) as error:
        raise SignatureError(Reason.DKIM_SYNTAX, str(error)) from None


def keyed_signature(tags: dict[str, bytes]) -> KeyedSignature:
    """Read a=, b=, d= and s=. Raises SignatureError, TagListError and DomainError."""
    signature = KeyedSignature(
        algorithm=_algorithm(_required(tags, "a")),
        signature=_signature_octets(_required(tags, "b")),
        sdid=_sdid(_required(tags, "d")),
        selector=_name(_required(tags, "s"), "s=").name,
    )
    if len(signature.key_name) > 253:
        raise _syntax("s= and d= together are longer than a domain name may be")
    return signature


def message_signature(tags: dict[str, bytes]) -> Signature:
    """Read all tags but v=. Raises SignatureError, TagListError and DomainError."""
    key = keyed_signature(tags)
    header_canonicalization, body_canonicalization = _canonicalizations(tags.get("c", b"simple/simple"))
    if "dns/txt" not in words(tags.get("q", b"dns/txt")):
        raise SignatureError(Reason.DKIM_QUERY, "q= does not offer dns/txt")
    timestamp, expiration = _number(tags, "t", _TIME), _number(tags, "x", _TIME)
    # RFC 6376 3.5, x=: the expiration is greater than the timestamp where both are present.
    if timestamp is not None and expiration is not None and expiration <= timestamp:
        raise SignatureError(Reason.DKIM_FUTURE, "x= is not later than t=")
    return Signature(
        algorithm=key.algorithm,
        signature=key.signature,
        sdid=key.sdid,
        selector=key.selector,
        body_hash=_body_hash(_required(tags, "bh"), key.algorithm),
        header_canonicalization=header_canonicalization,
        body_canonicalization=body_canonicalization,
        signed_names=_signed_names(_required(tags, "h")),
        auid=_auid(tags["i"]) if "i" in tags else Auid("", key.sdid),
        length=_number(tags, "l", _LENGTH),
        timestamp=timestamp,
        expiration=expiration,
    )


def _syntax(detail: str) -> SignatureError:
    return SignatureError(Reason.DKIM_SYNTAX, detail)


def _required(tags: dict[str, bytes], name: str) -> bytes:
    if name not in tags:
        raise _syntax(f"{name}= is missing")
    return tags[name]


def _algorithm(value: bytes) -> Algorithm:
    try:
        return Algorithm(value.decode("latin-1"))
    except ValueError:
        raise SignatureError(Reason.DKIM_ALGORITHM, "a= is unknown") from None


def _canonicalizations(value: bytes) -> tuple[Canonicalization, Canonicalization]:
    header, slash, body = value.decode("latin-1").partition("/")
    try:
        # RFC 6376 3.5, c=: where only one is named, the body's is simple.
        return Canonicalization(header), Canonicalization(body if slash else "simple")
    except ValueError:
        raise SignatureError(Reason.DKIM_CANONICALIZATION, "c= is unknown") from None


def _name(value: bytes, tag: str) -> Domain:
    if value.endswith(b"."):
        raise _syntax(f"{tag} ends in a dot")
    return Domain.parse(value)


def _sdid(value: bytes) -> Domain:
    domain = _name(value, "d=")
    # RFC 6376 3.5, d=: domain-name = sub-domain 1*("." sub-domain). Nobody signs for a whole top-level domain.
    if "." not in domain.name:
        raise _syntax("d= has one label only")
    return domain


def _auid(value: bytes) -> Auid:
    try:
        # RFC 6376 2.11: white space in dkim-quoted-printable is ignored.
        local, at, domain = value.translate(None, b" \t").decode("utf-8").rpartition("@")
    except UnicodeDecodeError:
        raise _syntax("i= is not UTF-8") from None
    if not at:
        raise _syntax("i= has no at sign")
    return Auid(local, _name(domain.encode("utf-8"), "i="))


def _signed_names(value: bytes) -> tuple[str, ...]:
    # Colons too many name nothing: no field has an empty name. Signers leave one at the end, verifiers read over it.
    names = tuple(filter(None, words(value.lower())))
    if not 0 < len(names) <= MAX_SIGNED_NAMES:
        raise _syntax(f"h= has no names, or more than {MAX_SIGNED_NAMES}")
    if not all(map(_FIELD_NAME.fullmatch, names)):
        raise _syntax("h= has what is no field name")
    return names


def _signature_octets(value: bytes) -> bytes:
    octets = base64_octets(value, padded=False)
    if not 0 < len(octets) <= _MAX_SIGNATURE:
        raise _syntax("b= is empty or too long")
    return octets


def _body_hash(value: bytes, algorithm: Algorithm) -> bytes:
    octets = base64_octets(value)
    if len(octets) != (20 if algorithm is Algorithm.RSA_SHA1 else 32):
        raise _syntax("bh= is not as long as the hash")
    return octets


def _number(tags: dict[str, bytes], name: str, form: re.Pattern[bytes]) -> int | None:
    if name not in tags:
        return None
    if not form.fullmatch(tags[name]):
        raise _syntax(f"{name}= is no number, or too long")
    return int(tags[name])
