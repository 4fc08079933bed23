"""The ARC fields of a message as numbered sets (RFC 8617 4, 5.2 steps 1 to 3).

Answers which sets there are and what they claim, or why they are no chain. Whether a claim is true is verify.py's
question.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from filterd.authres.parse import parse
from filterd.authres.result import AuthenticationResults, AuthResultsError
from filterd.dkim.signature import (
    MAX_FIELD,
    Algorithm,
    KeyedSignature,
    Signature,
    SignatureError,
    keyed_signature,
    message_signature,
)
from filterd.dkim.tag_list import TagListError, parse_tag_list
from filterd.mail.comment import comment_end
from filterd.mail.domain import DomainError
from filterd.mail.header import Field, Header
from filterd.mail.reason import Reason

#: RFC 8617 4.2.1: instance tag values range from 1 to 50.
MAX_SETS = 50
#: Of all ARC fields together: twice what fifty sets of the large providers take.
MAX_OCTETS = 262_144
_MAX_HEAD = 1_000  # octets, in which an ARC-Authentication-Results field says its number

RESULTS = "ARC-Authentication-Results"
MESSAGE_SIGNATURE = "ARC-Message-Signature"
SEAL = "ARC-Seal"
_NAMES = (RESULTS, MESSAGE_SIGNATURE, SEAL)

_POSITION = re.compile(r"[0-9]{1,2}")
_SPACE = re.compile(r"[ \t\r\n]*+")
# RFC 8617 3.9: instance = [CFWS] %s"i" [CFWS] "=" [CFWS] position; 4.1.1: and [CFWS] ";".
_HEAD = tuple(re.compile(token) for token in ("i", "=", _POSITION.pattern, ";"))


class ArcError(ValueError):
    """The ARC fields are no chain.

    `reason` names the fault, the message explains it to people, `instance` is the highest number found: from 0 to 50,
    and 50 where there is more than is looked at.
    """

    def __init__(self, reason: Reason, detail: str, instance: int) -> None:
        super().__init__(detail)
        self.reason = reason
        self.instance = instance


class ChainStatus(StrEnum):
    """What a sealer found of the chain before it, as cv= says it (RFC 8617 4.4)."""

    NONE = "none"
    FAIL = "fail"
    PASS = "pass"  # noqa: S105  a word, no password


@dataclass(frozen=True, slots=True)
class Seal(KeyedSignature):
    """An ARC-Seal field, read; `chain` is cv=."""

    chain: ChainStatus


@dataclass(frozen=True, slots=True)
class ArcSet:
    """The three fields of one hop, and its seal as it was read."""

    instance: int
    results_field: Field
    message_signature_field: Field
    seal_field: Field
    seal: Seal


def bears_sets(header: Header) -> bool:
    """Whether there is any ARC field, well-formed or not: the question that costs next to nothing."""
    return any(header.has(name) for name in _NAMES)


def collect(header: Header) -> tuple[ArcSet, ...]:
    """The sets, oldest first; empty where there is no ARC field.

    What comes back is a chain in form: one to fifty complete sets without gaps, the first sealed with cv=none and the
    others with cv=pass. Raises ArcError, also for more than MAX_SETS of a field or MAX_OCTETS of all.
    """
    if any(len(header.all(name)) > MAX_SETS for name in _NAMES):
        raise ArcError(Reason.ARC_TOO_MANY, f"there are more than {MAX_SETS} sets", MAX_SETS)
    fields = [field for name in _NAMES for field in header.all(name)]
    if sum(len(field.value) for field in fields) > MAX_OCTETS:
        raise ArcError(Reason.ARC_TOO_LARGE, f"the ARC fields have more than {MAX_OCTETS} octets", MAX_SETS)
    members = [_member(field) for field in fields]
    highest = max((member.instance or 0 for member in members), default=0)
    # RFC 8617 5.2 step 2, before the form is looked at: that is what the earlier hop found broken.
    if any(member.instance == highest and _says_fail(member) for member in members):
        raise ArcError(Reason.ARC_FAILED, "an earlier hop found the chain broken", highest)
    if any(member.instance is None for member in members):
        raise ArcError(Reason.ARC_SYNTAX, "an ARC field is malformed, or has no number from 1 to 50", highest)
    places = {(member.field.key, member.instance): member for member in members}
    # RFC 8617 5.2 step 3: exactly one of each field in each set, no gaps and no repetitions.
    if len(places) != len(members) or len(members) != len(_NAMES) * highest:
        raise ArcError(Reason.ARC_STRUCTURE, "the sets are not complete, each once", highest)
    numbers = range(1, highest + 1)
    return tuple(_set(i, highest, *(places[name.lower().encode(), i] for name in _NAMES)) for i in numbers)


def read_results(field: Field) -> AuthenticationResults | None:
    """What an ARC-Authentication-Results field says; None where it cannot be read.

    RFC 8617 3.4: its syntax does not affect the validity of the chain.
    """
    head = _results_head(field.value)
    try:
        return parse(field.value[head[1] :]) if head else None
    except AuthResultsError:
        return None


def parse_message_signature(value: bytes) -> Signature:
    """Read an ARC-Message-Signature: a DKIM-Signature without AUID. Raises SignatureError."""
    try:
        tags = parse_tag_list(value, MAX_FIELD)
        # RFC 8617 4.1.2: i= is the instance, and a version is ignored.
        signature = message_signature({tag: text for tag, text in tags.items() if tag not in ("i", "v")})
    except (TagListError, DomainError) as error:
        raise SignatureError(Reason.DKIM_SYNTAX, str(error)) from None
    # RFC 8617 4.1.2 has it sign no ARC field. Early sealers sign ARC-Authentication-Results, which does no harm.
    if SEAL.lower() in signature.signed_names:
        raise SignatureError(Reason.DKIM_SYNTAX, "h= names ARC-Seal")
    return signature


@dataclass(frozen=True, slots=True)
class _Member:
    """A field, with its number and its tags as far as they can be read."""

    field: Field
    instance: int | None
    tags: dict[str, bytes]


def _member(field: Field) -> _Member:
    if field.key == RESULTS.lower().encode():
        head = _results_head(field.value)
        return _Member(field, head[0] if head else None, {})
    try:
        tags = parse_tag_list(field.value, MAX_FIELD)
    except TagListError:
        return _Member(field, None, {})
    return _Member(field, _position(tags.get("i", b"").decode("latin-1")), tags)


def _position(text: str) -> int | None:
    return int(text) if _POSITION.fullmatch(text) and 1 <= int(text) <= MAX_SETS else None


def _results_head(value: bytes) -> tuple[int, int] | None:
    """The instance of an ARC-Authentication-Results field, and where its results begin."""
    text, at, tokens = value[:_MAX_HEAD].decode("latin-1"), 0, []
    for form in _HEAD:
        token = form.match(text, _after_space(text, at))
        if token is None:
            return None
        tokens.append(token.group())
        at = token.end()
    position = _position(tokens[2])
    return (position, at) if position else None


def _after_space(text: str, at: int) -> int:
    """Where what follows white space and comments (CFWS) begins."""
    while True:
        space = _SPACE.match(text, at)
        at = space.end() if space else at
        end = comment_end(text, at) if text.startswith("(", at) else None
        if end is None:
            return at
        at = end


def _chain_status(tags: dict[str, bytes]) -> str:
    # RFC 8617 3.9: chain-status is written in any case.
    return tags.get("cv", b"").decode("latin-1").lower()


def _says_fail(member: _Member) -> bool:
    return member.field.key == SEAL.lower().encode() and _chain_status(member.tags) == ChainStatus.FAIL


def _set(instance: int, highest: int, results: _Member, signature: _Member, seal: _Member) -> ArcSet:
    claim = _seal(seal.tags, highest)
    # RFC 8617 5.2 step 3 C.
    if claim.chain is not (ChainStatus.NONE if instance == 1 else ChainStatus.PASS):
        raise ArcError(Reason.ARC_CV, "cv= is not none in the first set, or not pass in another", highest)
    return ArcSet(instance, results.field, signature.field, seal.field, claim)


def _seal(tags: dict[str, bytes], highest: int) -> Seal:
    # RFC 8617 4.1.3: the h= tag is not allowed, and makes the chain fail.
    if "h" in tags:
        raise ArcError(Reason.ARC_SYNTAX, "an ARC-Seal has h=", highest)
    try:
        chain = ChainStatus(_chain_status(tags))
    except ValueError:
        raise ArcError(Reason.ARC_CV, "cv= is unknown, or missing", highest) from None
    try:
        key = keyed_signature(tags)
    except (SignatureError, TagListError, DomainError) as error:
        raise ArcError(Reason.ARC_SYNTAX, f"ARC-Seal: {error}", highest) from None
    if key.algorithm is Algorithm.RSA_SHA1:
        # RFC 8301 3.1, which updates what RFC 8617 takes over.
        raise ArcError(Reason.DKIM_SHA1, "rsa-sha1 is not a valid algorithm any more", highest)
    return Seal(key.algorithm, key.signature, key.sdid, key.selector, chain)
