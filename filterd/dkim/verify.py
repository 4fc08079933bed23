"""Whether a message's DKIM signatures are true (RFC 6376 6, RFC 8301, RFC 8463), in the words of RFC 8601 2.7.1.

Answers one result per signature. What a result means for the mail is not asked here.
"""

import hashlib
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from filterd.dkim.bodyhash import BodyHasher
from filterd.dkim.canonical import signed_octets
from filterd.dkim.key_record import KeyRecord, KeyRecordError, KeyType, parse_key_record
from filterd.dkim.signature import Algorithm, KeyedSignature, Signature, SignatureError, parse_signature
from filterd.dkim.tag_list import without_value
from filterd.lookup import Outcome, Resolver
from filterd.mail.domain import Domain
from filterd.mail.header import Field, Header
from filterd.mail.reason import Reason

#: How far clocks may disagree, in seconds, before t= or x= counts against a signature.
CLOCK_SKEW = 300
#: Signatures beyond this many are not even mentioned.
MAX_REPORTED = 20
_MAX_RECORDS = 3
# A message has at most one of each (RFC 5322 3.6, RFC 2045 3), and readers are shown it, or the body by it.
_SHOWN = ("from", "sender", "reply-to", "to", "cc", "subject", "date", "content-type", "content-transfer-encoding")
_KEY_TYPES = {Algorithm.RSA_SHA256: KeyType.RSA, Algorithm.ED25519_SHA256: KeyType.ED25519}


class DkimCode(StrEnum):
    """The results of RFC 8601 2.7.1."""

    PASS = "pass"  # noqa: S105  a word, no password
    FAIL = "fail"  #: the body or a signed field was changed, or the key is not the signer's
    POLICY = "policy"  #: not acceptable here, whether or not it verifies: see the reason
    NEUTRAL = "neutral"  #: malformed, or of a kind that is not known: nothing can be said
    TEMPERROR = "temperror"  #: the key could not be fetched now
    PERMERROR = "permerror"  #: there is no key to verify with, or the signature breaks a rule for good
    NONE = "none"  #: the message has no signature


@dataclass(frozen=True, slots=True)
class DkimResult:
    """What became of one signature.

    `signature` is the beginning of b=, which tells signatures of one domain apart (RFC 6008). `testing` says that the
    key record has t=y: the domain only tries DKIM out. `detail` is for people; nothing of the message is in it.
    """

    code: DkimCode
    sdid: Domain | None
    auid: str | None = None
    selector: str | None = None
    algorithm: str | None = None
    key_bits: int | None = None
    signature: str = ""
    reason: Reason | None = None
    detail: str | None = None
    testing: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a signature does not pass."""

    code: DkimCode
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A signature that is worth asking for its key."""

    field: Field
    signature: Signature
    found: DkimResult  #: what is known of it so far


class Verification:
    """The verification of one message, as it arrives: the header, the body in chunks, then the keys.

    `now` is the time of arrival in seconds since 1970. The topmost `max_signatures` are verified; further ones are
    reported as too many, and from 20 on not at all. A `hasher` that was handed in is shared by all who read this body:
    only one of them passes the chunks on.
    """

    def __init__(self, header: Header, now: int, max_signatures: int = 5, hasher: BodyHasher | None = None) -> None:
        self._header = header
        fields = header.all("DKIM-Signature")[: max(MAX_REPORTED, max_signatures)]
        self._found = [examine(header, field, now) for field in fields[:max_signatures]]
        self._ignored = len(fields) - len(self._found)
        candidates = [each for each in self._found if isinstance(each, Candidate)]
        self._hasher = hasher or BodyHasher()
        self._hasher.add(each.signature.body_form for each in candidates)
        #: the signing domains that `finish` may find to have signed, each once
        self.sdids = tuple(dict.fromkeys(each.signature.sdid for each in candidates))
        #: the names whose TXT records `finish` will ask for, each once
        self.key_names = tuple(dict.fromkeys(each.signature.key_name for each in candidates))

    def body(self, chunk: bytes) -> None:
        """Take the next octets of the body, as they stand in the message: lines end in CRLF."""
        self._hasher.update(chunk)

    def finish(self, resolver: Resolver) -> tuple[DkimResult, ...]:
        """The results, in the order of the fields; empty where there is no signature. To be called once."""
        self._hasher.finish()
        judged = [
            judge(self._header, each, self._hasher, resolver) if isinstance(each, Candidate) else each
            for each in self._found
        ]
        too_many = DkimResult(
            DkimCode.POLICY, None, reason=Reason.DKIM_TOO_MANY, detail="more signatures than are verified"
        )
        return (*judged, *[too_many] * self._ignored)


def examine(
    header: Header, field: Field, now: int, parse: Callable[[bytes], Signature] = parse_signature
) -> Candidate | DkimResult:
    """All that a signature field itself tells, before any key is asked for. `parse` raises SignatureError."""
    try:
        signature = parse(field.value)
    except SignatureError as error:
        # RFC 8601 2.7.1: neutral is for syntax errors, and for what cannot be processed otherwise.
        return DkimResult(DkimCode.NEUTRAL, None, reason=error.reason, detail=str(error))
    found = DkimResult(
        DkimCode.NEUTRAL,
        signature.sdid,
        auid=str(signature.auid),
        selector=signature.selector,
        algorithm=signature.algorithm,
        # RFC 6008 3: at least the first eight characters of b=.
        signature=b2a_base64(signature.signature[:6], newline=False).decode("ascii"),
    )
    fault = _claim_fault(header, signature, now)
    return _faulty(found, fault) if fault else Candidate(field, signature, found)


def judge(header: Header, candidate: Candidate, hasher: BodyHasher, resolver: Resolver) -> DkimResult:
    """What becomes of a signature, after the whole body was hashed."""
    records = key_records(candidate.signature.key_name, resolver)
    if isinstance(records, Fault):
        # A changed body is certain, whatever DNS will say about the key at another time.
        return _faulty(candidate.found, _body_fault(candidate.signature, hasher) or records)
    # RFC 6376 3.6.2.2 leaves several records undefined. All are the signer's, so that any may verify.
    results = [_judge_with(header, candidate, hasher, record) for record in records]
    return next((result for result in results if result.code is DkimCode.PASS), results[0])


def _judge_with(header: Header, candidate: Candidate, hasher: BodyHasher, record: KeyRecord) -> DkimResult:
    # RFC 6376 3.6.1 wants mail with a t=y key treated as unsigned. The result is told as it is, as OpenDKIM does,
    # and `testing` with it: acting on it is the policy's matter.
    found = replace(candidate.found, key_bits=record.bits, testing=record.testing)
    signature = candidate.signature
    fault = _body_fault(signature, hasher) or key_fault(signature, record) or _identity_fault(signature, record)
    if fault is None and not _verifies(header, candidate, record):
        fault = Fault(DkimCode.FAIL, Reason.DKIM_SIGNATURE, "a signed field was changed, or the key is another")
    if fault is None and signature.length is not None and signature.length < _body_length(signature, hasher):
        # RFC 6376 8.2: what follows the signed octets may replace all that a reader sees.
        fault = Fault(DkimCode.POLICY, Reason.DKIM_LENGTH, "l= leaves a part of the body unsigned")
    return _faulty(found, fault) if fault else replace(found, code=DkimCode.PASS)


def _body_length(signature: Signature, hasher: BodyHasher) -> int:
    return hasher.hash_of(signature.body_form).length


def _body_fault(signature: Signature, hasher: BodyHasher) -> Fault | None:
    if signature.length is not None and signature.length > _body_length(signature, hasher):
        # RFC 6376 3.5, l=: the value MUST NOT be larger than the canonical body.
        return Fault(DkimCode.PERMERROR, Reason.DKIM_LENGTH_TOO_LONG, "l= is larger than the body")
    if hasher.hash_of(signature.body_form).digest != signature.body_hash:
        return Fault(DkimCode.FAIL, Reason.DKIM_BODY_HASH, "the body was changed after signing")
    return None


def _verifies(header: Header, candidate: Candidate, record: KeyRecord) -> bool:
    signature = candidate.signature
    octets = signed_octets(
        header,
        signature.signed_names,
        candidate.field,
        without_value(candidate.field.value, b"b"),
        signature.header_canonicalization,
    )
    return record.verifies(signature.signature, hashlib.sha256(octets).digest())


def _faulty(found: DkimResult, fault: Fault) -> DkimResult:
    return replace(found, code=fault.code, reason=fault.reason, detail=fault.detail)


def _claim_fault(header: Header, signature: Signature, now: int) -> Fault | None:
    if signature.algorithm is Algorithm.RSA_SHA1:
        # RFC 8301 3.1: rsa-sha1 signatures have permanently failed.
        return Fault(DkimCode.PERMERROR, Reason.DKIM_SHA1, "rsa-sha1 is not a valid algorithm any more")
    if "from" not in signature.signed_names:
        # RFC 6376 6.1.1: PERMFAIL (From field not signed).
        return Fault(DkimCode.PERMERROR, Reason.DKIM_FROM_UNSIGNED, "h= does not name From")
    for name in _SHOWN:
        if len(header.all(name)) > signature.signed_names.count(name) > 0:
            # RFC 6376 8.15: readers may be shown the field that was added.
            return Fault(DkimCode.POLICY, Reason.DKIM_FIELD_ADDED, f"there are more {name} fields than h= covers")
    if not signature.auid.domain.under(signature.sdid):
        # RFC 6376 6.1.1: PERMFAIL (domain mismatch).
        return Fault(DkimCode.PERMERROR, Reason.DKIM_IDENTITY, "i= is not within d=")
    if signature.expiration is not None and signature.expiration + CLOCK_SKEW < now:
        return Fault(DkimCode.POLICY, Reason.DKIM_EXPIRED, "x= has passed")
    if signature.timestamp is not None and signature.timestamp - CLOCK_SKEW > now:
        return Fault(DkimCode.POLICY, Reason.DKIM_FUTURE, "t= lies in the future")
    return None


def key_records(name: str, resolver: Resolver) -> list[KeyRecord] | Fault:
    """The usable keys, one at least, or why there is none."""
    answer = resolver.lookup(name, "TXT")
    if answer.outcome is Outcome.TEMPFAIL:
        return Fault(DkimCode.TEMPERROR, answer.reason or Reason.DNS_SERVFAIL, "the key could not be fetched")
    # Servers rotate records; one order makes results repeatable.
    texts = sorted(answer.texts)[:_MAX_RECORDS]
    if not texts:
        return Fault(DkimCode.PERMERROR, Reason.DKIM_KEY_MISSING, "there is no key record")
    records, errors = [], []
    for text in texts:
        try:
            records.append(parse_key_record(text))
        except KeyRecordError as error:
            errors.append(error)
    if not records:
        # RFC 6376 6.1.2: PERMFAIL. But a weak key is a key that RFC 8301 3.2 does not accept, a large one we do not.
        unacceptable = errors[0].reason in (Reason.DKIM_KEY_WEAK, Reason.DKIM_KEY_TOO_LARGE)
        code = DkimCode.POLICY if unacceptable else DkimCode.PERMERROR
        return Fault(code, errors[0].reason, str(errors[0]))
    return records


def key_fault(signature: KeyedSignature, record: KeyRecord) -> Fault | None:
    """What the key forbids (RFC 6376 3.6.1, 6.1.2)."""
    if record.services is not None and not {"*", "email"} & set(record.services):
        return Fault(DkimCode.PERMERROR, Reason.DKIM_KEY_SERVICE, "the key's s= is not for mail")
    if record.type is not _KEY_TYPES[signature.algorithm]:
        return Fault(DkimCode.PERMERROR, Reason.DKIM_KEY_TYPE, "the key's k= does not fit a=")
    if record.hashes is not None and "sha256" not in record.hashes:
        return Fault(DkimCode.PERMERROR, Reason.DKIM_KEY_HASH, "the key's h= does not allow sha256")
    return None


def _identity_fault(signature: Signature, record: KeyRecord) -> Fault | None:
    if record.strict and signature.auid.domain != signature.sdid:
        return Fault(DkimCode.PERMERROR, Reason.DKIM_IDENTITY, "i= is not at d= itself, as the key's t=s wants")
    return None
