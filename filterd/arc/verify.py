"""Whether a message's chain of ARC sets holds (RFC 8617 5.2), and what its hops say.

Answers none, pass or fail. All failures are permanent, those of DNS too (RFC 8617 5.2.1): `reason` tells them apart.
Whom to believe is not asked here.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from filterd.arc.sets import ArcError, ArcSet, Seal, collect, parse_message_signature, read_results
from filterd.authres.result import AuthenticationResults
from filterd.dkim.bodyhash import BodyHasher
from filterd.dkim.canonical import Canonicalization, canonical_fields
from filterd.dkim.tag_list import without_value
from filterd.dkim.verify import Candidate, DkimCode, DkimResult, Fault, examine, judge, key_fault, key_records
from filterd.lookup import Resolver
from filterd.mail.domain import Domain
from filterd.mail.header import Field, Header
from filterd.mail.reason import Reason

# Finding the oldest pass is optional (RFC 8617 5.2 step 5), and each step may cost a pass over the whole header.
_MAX_OLDER = 10
_MAX_OLDER_HEADER = 131_072  # octets


class ArcCode(StrEnum):
    """The chain validation status (RFC 8617 4.4)."""

    NONE = "none"  #: there is no ARC field
    PASS = "pass"  # noqa: S105  a word, no password
    FAIL = "fail"  #: there are ARC fields, to be treated as none (RFC 8617 5.2)


@dataclass(frozen=True, slots=True)
class Hop:
    """What one hop of a chain that holds has sealed.

    `sealer` and `selector` are d= and s= of its ARC-Seal.
    """

    instance: int
    sealer: Domain
    selector: str
    results_field: Field

    @property
    def results(self) -> AuthenticationResults | None:
        """What it found when the message came in; None where that cannot be read.

        Read when asked for: few hops are believed, and strangers can make reading costly.
        """
        return read_results(self.results_field)


@dataclass(frozen=True, slots=True)
class ArcResult:
    """The state of the chain.

    `instance` is the highest number found, 0 for none. `hops` are those of a chain that holds, newest first: of any
    other, nobody vouches for a word. `oldest_pass` is the lowest number whose ARC-Message-Signature is known to hold,
    0 where all do (RFC 8617 5.2), None where the chain does not. `detail` is for people; nothing of the message is in
    it.
    """

    code: ArcCode
    instance: int = 0
    oldest_pass: int | None = None
    hops: tuple[Hop, ...] = ()
    reason: Reason | None = None
    detail: str | None = None

    @property
    def sealers(self) -> tuple[Domain, ...]:
        """The sealing domains, newest first."""
        return tuple(hop.sealer for hop in self.hops)

    def first_trusted(self, sealers: Collection[Domain]) -> Hop | None:
        """The hop at which the message came into the hands of these sealers, to stay there until now.

        None where the newest sealer is none of them: a stranger may have changed the message after those before it.
        """
        found = None
        for hop in self.hops:
            if hop.sealer not in sealers:
                break
            found = hop
        return found


class ArcVerification:
    """The verification of one message, as it arrives: the header, the body in chunks, then the keys.

    `now` is the time of arrival in seconds since 1970. A `hasher` that was handed in is shared by all who read this
    body: only one of them passes the chunks on. For N sets at most N + 1 names are asked for, N seals and 11 message
    signatures verified, and the body is hashed in three forms.
    """

    def __init__(self, header: Header, now: int, hasher: BodyHasher | None = None) -> None:
        self._header = header
        self._hasher = hasher or BodyHasher()
        self._sets: tuple[ArcSet, ...] = ()
        self._signatures: list[Candidate] = []  # from the newest on, without gaps
        self._known: ArcResult | None = None
        #: the names whose TXT records `finish` will ask for, each once
        self.key_names: tuple[str, ...] = ()
        try:
            self._sets = collect(header)
        except ArcError as error:
            self._known = ArcResult(ArcCode.FAIL, error.instance, reason=error.reason, detail=str(error))
            return
        if not self._sets:
            self._known = ArcResult(ArcCode.NONE)
            return
        newest, *older = [each.message_signature_field for each in reversed(self._sets)]
        examined = examine(header, newest, now, parse_message_signature)
        if isinstance(examined, DkimResult):
            self._known = self._signature_failed(examined)
            return
        seals = [each.seal.key_name for each in reversed(self._sets)]
        self.key_names = tuple(dict.fromkeys([examined.signature.key_name, *seals]))
        self._signatures = [examined, *self._earlier(older, now)]
        self._hasher.add(each.signature.body_form for each in self._signatures)

    def body(self, chunk: bytes) -> None:
        """Take the next octets of the body, as they stand in the message: lines end in CRLF."""
        self._hasher.update(chunk)

    def finish(self, resolver: Resolver) -> ArcResult:
        """The result. To be called once."""
        self._hasher.finish()
        if self._known is not None:
            return self._known
        newest, *older = self._signatures
        found = judge(self._header, newest, self._hasher, resolver)
        if found.code is not DkimCode.PASS:
            return self._signature_failed(found)
        for each, digest in reversed(list(zip(self._sets, _seal_digests(self._sets), strict=True))):
            fault = _seal_fault(each.seal, digest, resolver)
            if fault is not None:
                return self._failed(fault.reason, f"ARC-Seal {each.instance}: {fault.detail}")
        # RFC 8617 5.2 has this before the seals; where they fail it is of no use.
        oldest = len(self._sets) - self._passing(older, resolver)
        return ArcResult(
            ArcCode.PASS,
            len(self._sets),
            oldest_pass=0 if oldest == 1 else oldest,
            hops=tuple(
                Hop(each.instance, each.seal.sdid, each.seal.selector, each.results_field)
                for each in reversed(self._sets)
            ),
        )

    def _earlier(self, fields: Sequence[Field], now: int) -> Iterator[Candidate]:
        """The older message signatures, newest first, as far as they may hold and are worth their cost."""
        if sum(len(field.value) for field in self._header) > _MAX_OLDER_HEADER:
            return
        for field in fields[:_MAX_OLDER]:
            examined = examine(self._header, field, now, parse_message_signature)
            if isinstance(examined, DkimResult):
                return
            # No question more than the seals need (RFC 8617 9.2), no pass over the body for each l=.
            if examined.signature.key_name not in self.key_names or examined.signature.length is not None:
                return
            yield examined

    def _passing(self, signatures: Sequence[Candidate], resolver: Resolver) -> int:
        """How many of them hold, up to the first that does not."""
        for count, each in enumerate(signatures):
            if judge(self._header, each, self._hasher, resolver).code is not DkimCode.PASS:
                return count
        return len(signatures)

    def _signature_failed(self, found: DkimResult) -> ArcResult:
        return self._failed(found.reason, f"ARC-Message-Signature {len(self._sets)}: {found.detail}")

    def _failed(self, reason: Reason | None, detail: str) -> ArcResult:
        return ArcResult(ArcCode.FAIL, len(self._sets), reason=reason, detail=detail)


def _seal_digests(sets: Sequence[ArcSet]) -> Iterator[bytes]:
    """What each seal signs, hashed: all sets before it, its own, and itself with b= empty (RFC 8617 5.1.1).

    Each field is canonicalized and hashed once, not once for every seal above it.
    """
    chain = hashlib.sha256()
    for each in sets:
        chain.update(_relaxed(each.results_field, each.message_signature_field))
        own = chain.copy()
        unsigned = Field(each.seal_field.name, without_value(each.seal_field.value, b"b"))
        own.update(_relaxed(unsigned).removesuffix(b"\r\n"))
        yield own.digest()
        chain.update(_relaxed(each.seal_field))


def _relaxed(*fields: Field) -> bytes:
    return canonical_fields(fields, Canonicalization.RELAXED)


def _seal_fault(seal: Seal, digest: bytes, resolver: Resolver) -> Fault | None:
    records = key_records(seal.key_name, resolver)
    if isinstance(records, Fault):
        return records
    faults = []
    for record in records:
        fault = key_fault(seal, record)
        if fault is None and record.verifies(seal.signature, digest):
            return None
        faults.append(fault or Fault(DkimCode.FAIL, Reason.ARC_SEAL, "an ARC field was changed, or the key is another"))
    return faults[0]
