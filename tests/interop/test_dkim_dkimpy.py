"""dkimpy and filterd agree on mails like real ones, as the tests in tests/dkim have it for mails that are generated."""

from dkim_mail import dkimpy_signed
from interop.both_ways import (
    ED25519,
    RSA,
    changed_on_its_way,
    dkimpy_verdict,
    others,
    our_verdicts,
    sent,
    signed_by_us,
    signed_in_its_form,
)
from interop.mails import FORM_OF, MAILS


def test_it_verifies_what_filterd_signs() -> None:
    by_us = {name: sent(signed_by_us(mail)) for name, mail in MAILS.items()}
    verdicts = {name: [dkimpy_verdict(mail, number) for number in (0, 1)] for name, mail in by_us.items()}

    assert others(verdicts, ["pass", "pass"]) == {}


def test_it_verifies_every_form() -> None:
    verdicts = {name: dkimpy_verdict(sent(signed_in_its_form(name))) for name in MAILS}

    assert others(verdicts, "pass") == {}


def signed(**options: object) -> dict[str, bytes]:
    """All mails with dkimpy's signature on top, in the form that they have in FORM_OF; few by RSA, where it is slow."""
    mails = {}
    for number, (name, mail) in enumerate(MAILS.items()):
        selector, pair = ("ed", ED25519) if number % 5 else ("rsa", RSA)
        mails[name] = dkimpy_signed(sent(mail), pair, *FORM_OF[name].split("/"), selector=selector, **options)
    return mails


def test_filterd_verifies_what_it_signs() -> None:
    verdicts = {name: our_verdicts(mail) for name, mail in signed().items()}

    assert others(verdicts, ["pass"]) == {}


def test_a_part_that_is_not_signed_is_told() -> None:
    """dkimpy writes l= of the whole body."""
    mails = signed(length=True)

    assert others({name: our_verdicts(mail) for name, mail in mails.items()}, ["pass"]) == {}
    assert not any(our_verdicts(mail + b"An advertisement.\r\n") == ["pass"] for mail in mails.values())


def test_of_a_changed_mail_both_think_the_same() -> None:
    """But a field that was added above one that is signed is noticed by filterd only (RFC 6376 8.15)."""
    mails = {name: sent(changed_on_its_way(name)) for name in MAILS}
    ours = {name: our_verdicts(mail) for name, mail in mails.items()}
    compared = {name: mail for name, mail in mails.items() if ours[name] != ["policy dkim.field-added"]}
    its = {name: dkimpy_verdict(mail) == "pass" for name, mail in compared.items()}

    assert its == {name: ours[name] == ["pass"] for name in its}
    assert set(its.values()) == {True, False}
