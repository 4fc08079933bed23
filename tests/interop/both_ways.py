"""filterd's side of the tests with other DKIM programs: its keys, what it signs, and what it says of theirs."""

import time
from collections.abc import Mapping

import dkim as dkimpy
from dkim_mail import DOMAIN, NOW, KeyPair, ed25519_pair, rsa_pair, signed, signing_key, split, verify
from interop.mails import FORM_OF, MAILS, changed

from filterd.dkim.bodyhash import BodyForm, BodyHasher
from filterd.dkim.canonical import Canonicalization
from filterd.dkim.sign import OUTGOING_BODY, sign
from filterd.dkim.zone_text import zone_text
from filterd.lookup import Answer, Outcome, ZoneResolver
from filterd.mail.domain import Domain

RSA, OLD_RSA, ED25519 = rsa_pair(), rsa_pair(1024), ed25519_pair()
#: by selector
KEYS: Mapping[str, KeyPair] = {"rsa": RSA, "old": OLD_RSA, "ed": ED25519}


def key_name(selector: str) -> str:
    """Where a key of the domain is published."""
    return f"{selector}._domainkey.{DOMAIN}"


#: the key records, by their names
RECORDS: Mapping[str, bytes] = {key_name(selector): pair.record for selector, pair in KEYS.items()}


def zone(records: Mapping[str, bytes]) -> str:
    """A master file with these key records."""
    return "".join(zone_text(name, record.decode(), 60) for name, record in records.items())


def sent(mail: bytes) -> bytes:
    """The mail as SMTP carries it: the end of data follows a CRLF (RFC 5321 4.1.1.4), so the last line has one."""
    return mail if mail.endswith(b"\r\n") else mail + b"\r\n"


def signed_by_us(mail: bytes) -> bytes:
    """The mail as filterd sends it, with two signatures: the Ed25519 one on top."""
    header, body = split(mail)
    digest = _hasher(body, OUTGOING_BODY).hash_of(OUTGOING_BODY).digest
    for selector in ("rsa", "ed"):
        mail = sign(header, digest, signing_key(KEYS[selector].pem), Domain(DOMAIN), selector, NOW).raw + mail
    return mail


def signed_in_its_form(name: str) -> bytes:
    """The mail of that name with an RSA signature over all its fields, in the form that it has in FORM_OF."""
    names = [field.key.decode() for field in split(MAILS[name])[0]]
    return signed(MAILS[name], RSA, s="rsa", c=FORM_OF[name], h=":".join([*names, "from", "x-none"]))


def changed_on_its_way(name: str) -> bytes:
    """The same, with one thing changed after signing."""
    return signed_in_its_form(name).removesuffix(MAILS[name]) + changed(name)


def canonical_length(mail: bytes, form: str) -> int:
    """How many octets the canonical body has; `form` is a c=."""
    body_form = BodyForm(Canonicalization(form.partition("/")[2]))
    return _hasher(split(mail)[1], body_form).hash_of(body_form).length


def _hasher(body: bytes, form: BodyForm) -> BodyHasher:
    hasher = BodyHasher([form])
    hasher.update(body)
    hasher.finish()
    return hasher


def our_verdicts(mail: bytes, records: Mapping[str, bytes] = RECORDS) -> list[str]:
    """What filterd says of each signature, from the top: "pass", or "fail dkim.body-hash"."""
    answers = {(name, "TXT"): Answer(name, "TXT", Outcome.FOUND, (text,)) for name, text in records.items()}
    # The programs sign with the machine's clock.
    results = verify(mail, ZoneResolver(answers), now=int(time.time()))
    return [result.code if result.reason is None else f"{result.code} {result.reason}" for result in results]


def dkimpy_verdict(mail: bytes, number: int = 0, records: Mapping[str, bytes] = RECORDS) -> str:
    """What dkimpy says of one signature, counted from the top: "pass", "fail", or the name of an exception."""
    try:
        passed = dkimpy.DKIM(mail).verify(
            idx=number, dnsfunc=lambda name, timeout: records.get(name.decode().rstrip("."))
        )
    except (dkimpy.DKIMException, ValueError, IndexError) as error:
        return type(error).__name__
    return "pass" if passed else "fail"


def others(verdicts: Mapping[str, object], expected: object) -> dict[str, object]:
    """The verdicts that are not as expected, by the mails' names."""
    return {name: verdict for name, verdict in verdicts.items() if verdict != expected}
