"""OpenDKIM and filterd agree: what one signs, the other verifies."""

import pytest
from dkim_mail import DOMAIN
from interop.both_ways import (
    ED25519,
    OLD_RSA,
    RSA,
    canonical_length,
    changed_on_its_way,
    others,
    our_verdicts,
    sent,
    signed_by_us,
    signed_in_its_form,
)
from interop.mails import FORM_OF, FORMS, MAILS
from servers import opendkim
from servers.opendkim import OpenDkim

from filterd.wire.milter import BODY_CHUNK

SIGN_ALL = {"SignHeaders": "*,+X-A,+X-B", "OversignHeaders": "From,Subject,X-None"}


def test_it_verifies_what_filterd_signs(opendkim_verifier: OpenDkim) -> None:
    verdicts = {name: opendkim_verifier.verdicts(sent(signed_by_us(mail))) for name, mail in MAILS.items()}

    assert others(verdicts, ["pass", "pass"]) == {}


def test_it_verifies_every_form(opendkim_verifier: OpenDkim) -> None:
    verdicts = {name: opendkim_verifier.verdicts(sent(signed_in_its_form(name))) for name in MAILS}

    assert others(verdicts, ["pass"]) == {}


@pytest.mark.parametrize("form", FORMS)
def test_filterd_verifies_what_it_signs(form: str) -> None:
    mails = {name: sent(mail) for name, mail in MAILS.items() if FORM_OF[name] == form}
    with opendkim.signing({"rsa": RSA.pem}, DOMAIN, Canonicalization=form, **SIGN_ALL) as signer:
        verdicts = {name: our_verdicts(signer.signed(mail)) for name, mail in mails.items()}

    assert others(verdicts, ["pass"]) == {}


def test_filterd_verifies_its_ed25519_signatures() -> None:
    settings = {"Canonicalization": "relaxed/relaxed", "SignatureAlgorithm": "ed25519-sha256", **SIGN_ALL}
    with opendkim.signing({"ed": ED25519.pem}, DOMAIN, **settings) as signer:
        verdicts = {name: our_verdicts(signer.signed(sent(mail))) for name, mail in MAILS.items()}

    assert others(verdicts, ["pass"]) == {}


def test_filterd_verifies_several_signatures_of_it() -> None:
    keys = {"rsa": RSA.pem, "old": OLD_RSA.pem}
    with opendkim.signing(keys, DOMAIN, Canonicalization="relaxed/simple", **SIGN_ALL) as signer:
        verdicts = {name: our_verdicts(signer.signed(sent(mail))) for name, mail in MAILS.items()}

    assert others(verdicts, ["pass", "pass"]) == {}


@pytest.mark.parametrize("form", FORMS)
def test_a_part_that_is_not_signed_is_told(form: str) -> None:
    """OpenDKIM signs 20 octets, or all of a shorter body, and always writes l=.

    Where it has them and the MTA has more than one chunk, it stops reading, misses a line end, and does not sign at all.
    """
    mails = {name: sent(mail) for name, mail in MAILS.items() if FORM_OF[name] == form and len(mail) < BODY_CHUNK}
    with opendkim.signing({"rsa": RSA.pem}, DOMAIN, Canonicalization=form, MaximumSignedBytes="20") as signer:
        by_it = {name: signer.signed(mail) for name, mail in mails.items()}
    whole = {name: mail for name, mail in by_it.items() if canonical_length(mail, form) <= 20}
    partly = {name: mail for name, mail in by_it.items() if name not in whole}

    assert whole
    assert partly
    assert others({name: our_verdicts(mail) for name, mail in whole.items()}, ["pass"]) == {}
    assert others({name: our_verdicts(mail) for name, mail in partly.items()}, ["policy dkim.length"]) == {}
    assert not any(our_verdicts(mail + b"An advertisement.\r\n") == ["pass"] for mail in whole.values())


def test_of_a_changed_mail_both_think_the_same(opendkim_verifier: OpenDkim) -> None:
    """But a field that was added above one that is signed is noticed by filterd only (RFC 6376 8.15)."""
    mails = {name: sent(changed_on_its_way(name)) for name in MAILS}
    ours = {name: our_verdicts(mail) for name, mail in mails.items()}
    compared = {name: mail for name, mail in mails.items() if ours[name] != ["policy dkim.field-added"]}
    its = {name: opendkim_verifier.verdicts(mail) for name, mail in compared.items()}

    assert {name: verdict == ["pass"] for name, verdict in its.items()} == {
        name: ours[name] == ["pass"] for name in its
    }
    assert {ours[name] == ["pass"] for name in its} == {True, False}
