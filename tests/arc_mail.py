"""Chains of ARC sets for whoever tests ARC: by filterd, by dkimpy, and by hand with one thing changed."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cache

import dkim as dkimpy
from dkim_mail import MAIL, NOW, SELECTOR, KeyPair, rsa_pair, split

from filterd.arc.seal import seal
from filterd.arc.verify import ArcResult, ArcVerification
from filterd.authres.result import AuthenticationResults, MethodResult, Property
from filterd.dkim.bodyhash import BodyForm, BodyHasher
from filterd.dkim.canonical import Canonicalization, canonical_fields, signed_octets
from filterd.dkim.sign import SigningKey, sign_field
from filterd.lookup import Answer, Outcome, Resolver, ZoneResolver
from filterd.mail.domain import Domain
from filterd.mail.header import Field, Header

DOMAINS = ("list.example", "forwarder.example", "university.example")
AUTHSERV_ID = "mx.list.example"
RSA = rsa_pair()


def key_name(domain: str) -> str:
    return f"{SELECTOR}._domainkey.{domain}"


def records(*texts: bytes, domains: tuple[str, ...] = DOMAINS) -> Resolver:
    """DNS that has these key records for each of the sealers."""
    names = map(key_name, domains)
    return ZoneResolver({(name, "TXT"): Answer(name, "TXT", Outcome.FOUND, texts) for name in names})


ZONE = records(RSA.record)


def check(mail: bytes, resolver: Resolver = ZONE, now: int = NOW, chunk: int = 65535) -> ArcResult:
    """The state of the mail's chain, with the body in chunks."""
    header, body = split(mail)
    verification = ArcVerification(header, now)
    for start in range(0, len(body), chunk):
        verification.body(body[start : start + chunk])
    return verification.finish(resolver)


@cache
def signing_key(pair: KeyPair) -> SigningKey:
    return SigningKey.load(pair.pem)


def results(chain: ArcResult, spf: str = "pass") -> AuthenticationResults:
    """What a hop found."""
    sender = Property("smtp", "mailfrom", "joe@example.org")
    return AuthenticationResults(
        AUTHSERV_ID, (MethodResult("arc", chain.code.value), MethodResult("spf", spf, (sender,)))
    )


def body_hash(body: bytes, form: Canonicalization = Canonicalization.RELAXED) -> bytes:
    hasher = BodyHasher([BodyForm(form)])
    hasher.update(body)
    hasher.finish()
    return hasher.hash_of(BodyForm(form)).digest


def new_set(
    mail: bytes, domain: str = DOMAINS[0], pair: KeyPair = RSA, chain: ArcResult | None = None, **options: object
) -> tuple[Field, ...] | None:
    """The fields that we add, for the chain as it is or as it is said to be."""
    header, body = split(mail)
    chain = chain or check(mail)
    return seal(
        header,
        body_hash(body),
        signing_key(pair),
        Domain.parse(domain),
        SELECTOR,
        results(chain),
        chain,
        NOW,
        **options,
    )


def sealed(mail: bytes, domain: str = DOMAINS[0], pair: KeyPair = RSA, chain: ArcResult | None = None) -> bytes:
    """The mail with our set above it."""
    fields = new_set(mail, domain, pair, chain)
    assert fields is not None
    return b"".join(field.raw for field in fields) + mail


def sealed_by_dkimpy(mail: bytes, domain: str = DOMAINS[0], pair: KeyPair = RSA, resolver: Resolver = ZONE) -> bytes:
    """The mail with dkimpy's set above it."""
    said = f"Authentication-Results: {AUTHSERV_ID}; arc={check(mail, resolver).code}; spf=pass smtp.mailfrom=joe@example.org\r\n"
    fields = dkimpy.arc_sign(
        said.encode() + mail,
        SELECTOR.encode(),
        domain.encode(),
        pair.for_dkimpy,
        AUTHSERV_ID.encode(),
        timestamp=NOW,
    )
    return b"".join(fields) + mail


@cache
def chain_of(hops: int, by: Callable[[bytes, str], bytes] = sealed) -> bytes:
    """A mail that went through that many hops, each of another domain."""
    mail = MAIL
    for number in range(hops):
        mail = by(mail, DOMAINS[number % len(DOMAINS)])
    return mail


def sealed_by_hand(
    mail: bytes,
    instance: int = 1,
    cv: str = "none",
    in_seal: Mapping[str, str | None] = {},
    in_signature: Mapping[str, str | None] = {},
    found: str = f"{AUTHSERV_ID}; none",
    domain: str = DOMAINS[0],
    pair: KeyPair = RSA,
    form: Canonicalization = Canonicalization.RELAXED,
) -> bytes:
    """The mail with a set whose tags are changed before they are signed; None leaves a tag out."""
    results_field = Field(b"ARC-Authentication-Results", f" i={instance}; {found}".encode())
    header, body = split(results_field.raw + mail)
    key = signing_key(pair)
    names = [name for name in ("from", "to", "subject", "date") for _ in range(len(header.all(name)) + 1)]
    common = {"i": str(instance), "a": str(key.algorithm), "d": domain, "s": SELECTOR, "t": str(NOW)}
    message = {"c": f"{form}/{form}", "h": ":".join(names), "bh": b64encode(body_hash(body, form)).decode()}
    signature = common | message | dict(in_signature)
    signed_names = (signature["h"] or "").split(":")
    signature_field = sign_field(
        b"ARC-Message-Signature",
        written(signature),
        lambda unsigned: signed_octets(header, signed_names, unsigned, unsigned.value, form),
        key,
    )
    # Each set stands above the older ones, with its own fields in the opposite order of their hashing.
    before = [field for field in reversed(header.fields) if field.key.startswith(b"arc-")]
    covered = [*before, signature_field]
    seal_field = sign_field(
        b"ARC-Seal",
        written(common | {"cv": cv} | dict(in_seal)),
        lambda unsigned: canonical_fields([*covered, unsigned], Canonicalization.RELAXED).removesuffix(b"\r\n"),
        key,
    )
    return seal_field.raw + signature_field.raw + results_field.raw + mail


def written(tags: Mapping[str, str | None]) -> list[str]:
    return [f" {tag}={text};" for tag, text in tags.items() if text is not None]


def dkimpy_says(mail: bytes, pair: KeyPair = RSA) -> str | None:
    """The chain's state; None for a chain that somebody sealed as failed."""
    cv, _, _ = dkimpy.arc_verify(mail, dnsfunc=lambda name, timeout=5: pair.record)
    return cv.decode() if cv else None


def without(mail: bytes, *removed: Field) -> bytes:
    return rebuilt(mail, [field for field in split(mail)[0] if field not in removed])


def replaced(mail: bytes, old: Field, *new: Field) -> bytes:
    header = split(mail)[0]
    return rebuilt(mail, [each for field in header for each in (new if field is old or field == old else (field,))])


def rebuilt(mail: bytes, fields: list[Field]) -> bytes:
    return b"".join(field.raw for field in Header.of(fields)) + b"\r\n" + split(mail)[1]
