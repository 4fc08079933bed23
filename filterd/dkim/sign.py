"""Making a DKIM-Signature (RFC 6376 5, RFC 8301, RFC 8463): relaxed/relaxed, over the whole body, without l=.

Answers with the field to put above the others. Whose mail is signed with which key is not decided here.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from filterd.dkim.bodyhash import BodyForm
from filterd.dkim.canonical import Canonicalization, signed_octets
from filterd.dkim.key_record import MAX_RSA_BITS, MIN_RSA_BITS
from filterd.dkim.signature import MAX_SIGNED_NAMES, Algorithm
from filterd.mail.domain import Domain, DomainError
from filterd.mail.header import Field, Header

#: What a BodyHasher has to hash for `sign`.
OUTGOING_BODY = BodyForm(Canonicalization.RELAXED)

_LINE = 78
_NAME = b"DKIM-Signature"
_UNSAFE = re.compile(r"[\x00-\x20;=\x7f]")


class SigningKeyError(ValueError):
    """The file is no key that filterd signs with; the message says why, and repeats nothing of the file."""


class SigningError(ValueError):
    """The message cannot be signed; the message says why."""


@dataclass(frozen=True, slots=True)
class SignedFields:
    """Which fields a signature covers, by lower-case name, in the order of h=.

    Of `sealed` names all instances are signed and one more, that nobody adds one (RFC 6376 8.15); of `present` names
    those that there are, as mailing lists and MTAs may add such fields to an honest mail.
    """

    sealed: tuple[str, ...]
    present: tuple[str, ...] = ()

    def names(self, header: Header) -> list[str]:
        """The names for h=."""
        names = [name for name in self.sealed for _ in (None, *header.all(name))]
        names += [name for name in self.present if header.has(name) for _ in header.all(name)]
        return names


#: RFC 6376 5.4.1's list, RFC 8058's List-Unsubscribe-Post, and what tells a reader how to read the body. Message-ID,
#: Sender, Resent- and List- fields are added on the way by MTAs and mailing lists, so that they are not sealed.
DEFAULT_FIELDS = SignedFields(
    sealed=(
        "from",
        "to",
        "cc",
        "subject",
        "date",
        "reply-to",
        "mime-version",
        "content-type",
        "content-transfer-encoding",
    ),
    present=(
        "message-id",
        "in-reply-to",
        "references",
        "sender",
        "resent-date",
        "resent-from",
        "resent-sender",
        "resent-to",
        "resent-cc",
        "resent-message-id",
        "list-id",
        "list-help",
        "list-unsubscribe",
        "list-unsubscribe-post",
        "list-subscribe",
        "list-post",
        "list-owner",
        "list-archive",
    ),
)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key. `bits` is the length of an RSA modulus, 256 for Ed25519. Made by `load` only."""

    algorithm: Algorithm
    bits: int
    _key: RSAPrivateKey | Ed25519PrivateKey = field(repr=False)

    @classmethod
    def load(cls, pem: bytes, min_rsa_bits: int = 2048) -> "SigningKey":
        """Read an unencrypted RSA (PKCS #1 or #8) or Ed25519 (PKCS #8) key in PEM, with any line ends.

        RFC 8301 3.2 wants 2048 bits of new keys; `min_rsa_bits` admits old ones, down to 1024. Raises SigningKeyError.
        """
        lines = [line.strip() for line in pem.replace(b"\r", b"\n").split(b"\n")]
        try:
            key = load_pem_private_key(b"\n".join(filter(None, lines)), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise SigningKeyError("the file is no unencrypted private key in PEM") from None
        if isinstance(key, Ed25519PrivateKey):
            return cls(Algorithm.ED25519_SHA256, 256, key)
        if not isinstance(key, RSAPrivateKey):
            raise SigningKeyError("DKIM signs with RSA or Ed25519 keys only")
        if not max(min_rsa_bits, MIN_RSA_BITS) <= key.key_size <= MAX_RSA_BITS:
            raise SigningKeyError(
                f"the RSA key has {key.key_size} bits; {max(min_rsa_bits, MIN_RSA_BITS)} to {MAX_RSA_BITS} are allowed"
            )
        return cls(Algorithm.RSA_SHA256, key.key_size, key)

    def public_record(self) -> str:
        """The text of the TXT record to publish at SELECTOR._domainkey.DOMAIN."""
        public = self._key.public_key()
        if isinstance(self._key, RSAPrivateKey):
            kind, octets = "rsa", public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        else:
            # RFC 8463 4.2: the bare 32 octets.
            kind, octets = "ed25519", public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"v=DKIM1; k={kind}; p={b64encode(octets).decode('ascii')}"

    def sign(self, octets: bytes) -> bytes:
        """The signature of canonical octets."""
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(octets, PKCS1v15(), SHA256())
        # RFC 8463 3: Ed25519 signs the hash, not the octets.
        return self._key.sign(hashlib.sha256(octets).digest())


def sign(
    header: Header,
    body_hash: bytes,
    key: SigningKey,
    domain: Domain,
    selector: str,
    now: int,
    *,
    signed_fields: SignedFields = DEFAULT_FIELDS,
    auid: str | None = None,
    expires: int | None = None,
) -> Field:
    """The DKIM-Signature field of a message, folded, to be put above all others.

    `body_hash` is the digest of OUTGOING_BODY; `now` and `expires` are seconds since 1970; `auid` is the i= address,
    "@domain" or "local@domain" within `domain`. Raises SigningError.
    """
    if expires is not None and expires <= now:
        raise SigningError("the signature would expire before it is made")
    tags = ["v=1;", f"a={key.algorithm};", "c=relaxed/relaxed;", f"d={domain};", f"s={selector};", f"t={now};"]
    if expires is not None:
        tags.append(f"x={expires};")
    if auid is not None:
        tags.append(f"i={_identity(auid, domain)};")
    return sign_message(_NAME, tags, header, signed_fields.names(header), body_hash, key)


def sign_message(
    name: bytes, tags: Iterable[str], header: Header, names: Sequence[str], body_hash: bytes, key: SigningKey
) -> Field:
    """The field of that name that signs the fields in `names` and the body.

    `tags` come first, each with its semicolon; h=, bh= and b= follow. Raises SigningError.
    """
    if "from" not in names:
        raise SigningError("From has to be signed (RFC 6376 5.4)")
    if len(names) > MAX_SIGNED_NAMES:
        raise SigningError(f"there are more than {MAX_SIGNED_NAMES} fields to sign")
    first, *others = names
    tokens = [f" {tag}" for tag in tags]
    tokens += [f" h={first}", *(f":{other}" for other in others), ";", f" bh={b64encode(body_hash).decode('ascii')};"]
    return sign_field(
        name,
        tokens,
        lambda unsigned: signed_octets(header, names, unsigned, unsigned.value, Canonicalization.RELAXED),
        key,
    )


def sign_field(name: bytes, tokens: Sequence[str], signed: Callable[[Field], bytes], key: SigningKey) -> Field:
    """The field with these tokens as its value, folded between them where needed, and b= at its end.

    `signed` gives the octets to sign, from the field as it is with b= empty.
    """
    tokens = [*tokens, " b="]
    unsigned, width = _fold(tokens, len(name) + 1)
    text = b64encode(key.sign(signed(Field(name, unsigned)))).decode("ascii")
    signature, _ = _fold([text[i : i + 70] for i in range(0, len(text), 70)], width)
    return Field(name, unsigned + signature)


def _identity(auid: str, domain: Domain) -> str:
    local, at, place = auid.rpartition("@")
    try:
        within = Domain.parse(place)
    except DomainError as error:
        raise SigningError(f"the identity: {error}") from None
    if not at or not within.under(domain):
        raise SigningError("the identity is not within the signing domain (RFC 6376 3.5)")
    return f"{_UNSAFE.sub(_quoted, local)}@{within}"


def _quoted(found: re.Match[str]) -> str:
    # RFC 6376 2.11, dkim-quoted-printable. RFC 8616 lets UTF-8 stand as it is.
    return f"={ord(found[0]):02X}"


def _fold(tokens: Sequence[str], width: int) -> tuple[bytes, int]:
    """Lines of at most 78 octets (RFC 5322 2.1.1) with breaks between tokens, as far as tokens are that short.

    `width` is that of the line which they go on; also returns how wide the last line then is.
    """
    ascii_only = "".join(tokens).isascii()
    folded = []
    for token in tokens:
        size = len(token) if ascii_only else len(token.encode("utf-8"))
        width += size
        if width > _LINE:
            token = token.lstrip(" ")
            width = 1 + (len(token) if ascii_only else len(token.encode("utf-8")))
            token = "\r\n\t" + token
        folded.append(token)
    return "".join(folded).encode("utf-8"), width
