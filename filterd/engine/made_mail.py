"""What a policy's test gives becomes a mail and a DNS: signed and sealed with keys that live as long as the tests.

Opens no file and asks no network.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cached_property

from filterd.arc.seal import seal
from filterd.arc.verify import ArcResult, ArcVerification
from filterd.authres.result import AuthenticationResults, AuthResultsError, MethodResult, Property
from filterd.backend.keys import new_key
from filterd.backend.zone import ZoneFileError, zone_resolver
from filterd.dkim.bodyhash import BodyHasher
from filterd.dkim.key_record import KeyType
from filterd.dkim.sign import OUTGOING_BODY, SigningError, SigningKey, sign
from filterd.dkim.zone_text import zone_text
from filterd.engine.replay import StoredMail
from filterd.lookup import Outcome, Resolver
from filterd.mail.address import parse_path
from filterd.mail.domain import Domain
from filterd.mail.header import Field, Header
from filterd.mail.message import author_of, split
from filterd.mail.reason import Reason
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.policy_tests import Given, GivenSpam, MailParts, Method, PolicyTest, Seen
from filterd.policy.signers import Signers
from filterd.spam import SpamCode, SpamResult

_SELECTOR, _SEALING_SELECTOR = "policytest", "policytest-arc"
_TTL = 300


class MadeMailError(ValueError):
    """What the test gives cannot be made; the message says why."""


class ThrowAwayKeys:
    """Keys of all strangers in the tests, made when they are first needed."""

    @cached_property
    def dkim(self) -> SigningKey:
        return SigningKey.load(new_key(KeyType.ED25519))

    @cached_property
    def arc(self) -> SigningKey:
        # RFC 8617 4.1 takes DKIM's algorithms over, but seals are made with RSA everywhere.
        return SigningKey.load(new_key(KeyType.RSA))


@dataclass(frozen=True, slots=True)
class Made:
    """A mail to be judged, and who answers its questions."""

    mail: StoredMail
    resolver: Resolver


class Foretold:
    """A scanner that says of every mail what the test has it say."""

    def __init__(self, said: GivenSpam) -> None:
        self._said = said

    def begin(self, mail: bytes, user: str | None) -> "Foretold":
        """Whatever the mail is."""
        return self

    def result(self) -> SpamResult:
        said = self._said
        if said.fails:
            return SpamResult(SpamCode.TEMPERROR, reason=Reason.SPAM_UNAVAILABLE)
        spam = said.score >= said.threshold
        # As SpamAssassin writes them by default.
        tests = ",".join(said.symbols) or "none"
        status = f"{'Yes' if spam else 'No'}, score={said.score:.1f} required={said.threshold:.1f} tests={tests}"
        fields = (("X-Spam-Flag", "YES"),) * spam + (("X-Spam-Status", status),)
        code = SpamCode.SPAM if spam else SpamCode.HAM
        return SpamResult(code, said.score, said.threshold, said.symbols, fields, "the test")


def made(test: PolicyTest, own: Signers, keys: ThrowAwayKeys) -> Made:
    """The mail and the DNS of a test. DNS has the keys of `own`, too, unless the test says something else of their
    names. Raises MadeMailError."""
    given = test.given
    resolver = _dns(test, own, keys)
    try:
        data = _data(test)
        for domain in given.signed_by:
            header, body = split(data)
            field = sign(header, _hash(body), keys.dkim, Domain.parse(domain), _SELECTOR, int(given.clock))
            data = _joined([field, *header], body)
        author = author_of(split(data)[0]).domain
        if given.changed.model_fields_set:
            data = _changed(data, given.changed)
        for sealer in given.sealed_by:
            data = _sealed(data, sealer.domain, _saw(sealer.saw, author), resolver, keys.arc, int(given.clock))
    except (SigningError, AuthResultsError) as error:
        raise MadeMailError(f"the mail cannot be signed: {error}") from None
    client = Client(given.client.ip, given.client.name)
    sender = ReversePath(given.sender, parse_path(given.sender))
    recipients = tuple(ForwardPath(each, parse_path(each)) for each in given.recipients)
    return Made(StoredMail(data, client, given.client.helo, sender, recipients, given.user), resolver)


def _data(test: PolicyTest) -> bytes:
    message = test.given.message
    if test.message is not None:
        return test.message
    if message.text is not None:
        return _octets(message.text)
    return _parts(test.given)


def _parts(given: Given) -> bytes:
    message = given.message
    moment = datetime.fromtimestamp(given.clock, UTC)
    fields = {
        "From": message.from_ or given.sender or "postmaster@example.com",
        "To": message.to or given.recipients[0],
        "Subject": message.subject or "a test",
        "Date": format_datetime(moment),
        "Message-ID": f"<{int(given.clock)}.test@example.com>",
        "MIME-Version": "1.0",
    }
    lines = [*_lines(message), *(f"{name}: {text}" for name, text in fields.items())]
    body = message.body if message.body is not None else "A test.\n"
    return _octets("\r\n".join(lines) + "\r\n\r\n" + _crlf(body))


def _changed(data: bytes, parts: MailParts) -> bytes:
    """The mail as a forwarder passes it on."""
    replaced = {b"from": parts.from_, b"to": parts.to, b"subject": parts.subject}
    header, body = split(data)
    fields = [
        Field(field.name, b" " + _octets(new)) if (new := replaced.get(field.key)) is not None else field
        for field in header
    ]
    added = "".join(f"{line}\r\n" for line in _lines(parts))
    return _octets(added) + _joined(fields, body if parts.body is None else _octets(_crlf(parts.body)))


def _joined(fields: Iterable[Field], body: bytes) -> bytes:
    return b"".join(field.raw for field in fields) + b"\r\n" + body


def _lines(parts: MailParts) -> Iterable[str]:
    return (f"{name}: {text}" for name, texts in parts.header.items() for text in texts)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _crlf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


def _saw(words: Mapping[Method, Seen], author: Domain | None) -> tuple[MethodResult, ...]:
    """What a forwarder says that it found; DMARC is of somebody."""
    of = (Property("header", "from", author.name),) if author else ()
    return tuple(MethodResult(method, word, of if method == "dmarc" else ()) for method, word in words.items())


def _sealed(
    data: bytes, domain: str, saw: tuple[MethodResult, ...], resolver: Resolver, key: SigningKey, now: int
) -> bytes:
    header, body = split(data)
    found = AuthenticationResults(f"mx.{domain}", saw)
    chain = _chain(header, body, resolver, now)
    fields = seal(header, _hash(body), key, Domain.parse(domain), _SEALING_SELECTOR, found, chain, now)
    return _joined([*(fields or ()), *header], body)


def _chain(header: Header, body: bytes, resolver: Resolver, now: int) -> ArcResult:
    verification = ArcVerification(header, now)
    verification.body(body)
    return verification.finish(resolver)


def _hash(body: bytes) -> bytes:
    hasher = BodyHasher([OUTGOING_BODY])
    hasher.update(body)
    hasher.finish()
    return hasher.hash_of(OUTGOING_BODY).digest


def _dns(test: PolicyTest, own: Signers, keys: ThrowAwayKeys) -> Resolver:
    given = test.given
    try:
        text = test.zone.decode() if test.zone is not None else given.dns.text or ""
    except UnicodeDecodeError:
        raise MadeMailError("dns: the file is not UTF-8 text") from None
    try:
        said = zone_resolver(text)
        own_lines = [
            zone_text(name, key.public_record(), _TTL)
            for name, key in own.published()
            # What the test says of a key stands: another one, a revoked one, a name that nobody answers for.
            if said.lookup(name, "TXT").outcome in (Outcome.NXDOMAIN, Outcome.NODATA) and name not in given.dns.records
        ]
    except ZoneFileError as error:
        raise MadeMailError(f"dns: line {error.line}: {error.text}") from None
    lines = [*_records(given), *own_lines]
    lines += [zone_text(f"{_SELECTOR}._domainkey.{each}", keys.dkim.public_record(), _TTL) for each in given.signed_by]
    lines += [
        zone_text(f"{_SEALING_SELECTOR}._domainkey.{domain}", keys.arc.public_record(), _TTL)
        for domain in dict.fromkeys(each.domain for each in given.sealed_by)
    ]
    try:
        # The root: no name of the test is relative.
        return zone_resolver(f"{text}\n$ORIGIN .\n{''.join(lines)}")
    except ZoneFileError as error:
        raise MadeMailError(f"dns: {error.text}") from None


def _records(given: Given) -> Iterable[str]:
    for name, records in given.dns.records.items():
        for record in records:
            if record == "fails":
                yield f"; fails: {name}\n"
            elif record.startswith("v="):
                yield zone_text(name, record, _TTL)
            else:
                yield f"{name}. {_TTL} IN {record}\n"
