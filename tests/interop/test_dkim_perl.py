"""Perl's Mail::DKIM and filterd agree: what one signs, the other verifies."""

from interop.both_ways import (
    RSA,
    canonical_length,
    changed_on_its_way,
    others,
    our_verdicts,
    sent,
    signed_by_us,
    signed_in_its_form,
)
from interop.mails import FORM_OF, MAILS
from servers.perl_dkim import PerlDkim


def by_name(verdicts: list[list[str]]) -> dict[str, list[str]]:
    return dict(zip(MAILS, verdicts, strict=True))


def test_it_verifies_what_filterd_signs(perl: PerlDkim) -> None:
    verdicts = by_name(perl.verdicts(sent(signed_by_us(mail)) for mail in MAILS.values()))
    ed25519 = {name: verdict for name, (verdict, _) in verdicts.items()}

    assert others({name: verdict for name, (_, verdict) in verdicts.items()}, "pass") == {}
    # Debian 12's Mail::DKIM has no Ed25519.
    assert set(ed25519.values()) in ({"pass"}, {"invalid (unsupported algorithm ed25519-sha256)"})


def test_it_verifies_every_form(perl: PerlDkim) -> None:
    verdicts = by_name(perl.verdicts(sent(signed_in_its_form(name)) for name in MAILS))

    assert others(verdicts, ["pass"]) == {}


def signed(perl: PerlDkim, length: int | None = None) -> dict[str, bytes]:
    """All mails with Mail::DKIM's signatures on top, each in the form that it has in FORM_OF."""
    mails = {name: sent(mail) for name, mail in MAILS.items()}
    signatures = perl.signatures([(mail, FORM_OF[name]) for name, mail in mails.items()], RSA.pem, "rsa", length)
    return {name: field + mail for (name, mail), field in zip(mails.items(), signatures, strict=True)}


def test_filterd_verifies_what_it_signs(perl: PerlDkim) -> None:
    verdicts = {name: our_verdicts(mail) for name, mail in signed(perl).items()}

    assert others(verdicts, ["pass"]) == {}


def test_a_part_that_is_not_signed_is_told(perl: PerlDkim) -> None:
    """Mail::DKIM writes any l= that it is given, even one larger than the body."""
    limit = canonical_length(MAILS["usual, text"], "relaxed/relaxed")
    lengths = {name: canonical_length(mail, FORM_OF[name]) for name, mail in MAILS.items()}
    verdicts = {name: our_verdicts(mail) for name, mail in signed(perl, limit).items()}
    expected = {
        name: ["pass"]
        if length == limit
        else ["policy dkim.length"]
        if length > limit
        else ["permerror dkim.length-too-long"]
        for name, length in lengths.items()
    }

    assert verdicts == expected
    assert len({verdict for (verdict,) in expected.values()}) == 3


def test_of_a_changed_mail_both_think_the_same(perl: PerlDkim) -> None:
    """But a field that was added above one that is signed is noticed by filterd only (RFC 6376 8.15)."""
    mails = {name: sent(changed_on_its_way(name)) for name in MAILS}
    ours = {name: our_verdicts(mail) for name, mail in mails.items()}
    its = by_name(perl.verdicts(mails.values()))
    compared = [name for name, verdict in ours.items() if verdict != ["policy dkim.field-added"]]

    assert {name: its[name] == ["pass"] for name in compared} == {name: ours[name] == ["pass"] for name in compared}
    assert {ours[name] == ["pass"] for name in compared} == {True, False}
