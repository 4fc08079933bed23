"""Adding an ARC set (RFC 8617 5.1), after all other changes of the message.

Answers with the three fields to put above the others. Whether to seal, and with whose results, is not decided here.
"""

from filterd.arc.sets import MAX_SETS, MESSAGE_SIGNATURE, RESULTS, SEAL, ArcError, ArcSet, ChainStatus, collect
from filterd.arc.verify import ArcCode, ArcResult
from filterd.authres.format import format_value
from filterd.authres.result import AuthenticationResults
from filterd.dkim.canonical import Canonicalization, canonical_fields
from filterd.dkim.sign import DEFAULT_FIELDS, SignedFields, SigningError, SigningKey, sign_field, sign_message
from filterd.mail.domain import Domain
from filterd.mail.header import Field, Header
from filterd.mail.reason import Reason

#: As for DKIM, and the DKIM-Signature fields that there are (RFC 8617 4.1.2).
ARC_FIELDS = SignedFields(DEFAULT_FIELDS.sealed, (*DEFAULT_FIELDS.present, "dkim-signature"))

# RFC 8617 4.1.2: these MUST NOT be signed.
_NEVER_SIGNED = {"authentication-results", RESULTS.lower(), MESSAGE_SIGNATURE.lower(), SEAL.lower()}


def seal(
    header: Header,
    body_hash: bytes,
    key: SigningKey,
    domain: Domain,
    selector: str,
    results: AuthenticationResults,
    chain: ArcResult,
    now: int,
    *,
    signed_fields: SignedFields = ARC_FIELDS,
) -> tuple[Field, Field, Field] | None:
    """The ARC-Seal, ARC-Message-Signature and ARC-Authentication-Results fields, to be put above all others so.

    `header` and `body_hash` (the digest of OUTGOING_BODY) are those of the message as it leaves; `results` is all that
    this server found as it came in, the chain's state with it; `now` is in seconds since 1970. None where nothing is
    to be added: an earlier hop has sealed the chain as failed, or there are fifty sets. Raises SigningError, also
    where `header` bears another chain than `chain` tells of, and AuthResultsError.
    """
    # RFC 8617 5.1 step 2: the failure is sealed, once.
    if chain.reason is Reason.ARC_FAILED or chain.instance >= MAX_SETS:
        return None
    names = signed_fields.names(header)
    if _NEVER_SIGNED.intersection(names):
        raise SigningError("an ARC-Message-Signature signs no ARC and no Authentication-Results field (RFC 8617 4.1.2)")
    before = _chain_before(header, chain)
    place = f"i={chain.instance + 1};"
    made = [f"d={domain};", f"s={selector};", f"t={now};"]
    value = f" {place} {format_value(results)}".replace("\n", "\r\n").encode("ascii")
    results_field = Field(RESULTS.encode(), value)
    signature_field = sign_message(
        MESSAGE_SIGNATURE.encode(), [place, f"a={key.algorithm};", "c=relaxed/relaxed;", *made], header, names,
        body_hash, key,
    )  # fmt: skip
    fields = [field for each in before for field in (each.results_field, each.message_signature_field, each.seal_field)]
    fields += [results_field, signature_field]
    tags = [place, f"a={key.algorithm};", f"cv={ChainStatus(chain.code.value)};", *made]
    seal_field = sign_field(
        SEAL.encode(),
        [f" {tag}" for tag in tags],
        lambda unsigned: canonical_fields([*fields, unsigned], Canonicalization.RELAXED).removesuffix(b"\r\n"),
        key,
    )
    return seal_field, signature_field, results_field


def _chain_before(header: Header, chain: ArcResult) -> tuple[ArcSet, ...]:
    """The sets that the new seal covers."""
    if chain.code is ArcCode.FAIL:
        # RFC 8617 5.1.2: a failed chain is sealed as if the new set were the only one.
        return ()
    try:
        sets = collect(header)
    except ArcError:
        sets = ()
    if len(sets) != chain.instance:
        raise SigningError("the header bears another chain than was verified")
    return sets
