"""One mail signed by everybody: each program signs above the others, and each verifies all."""

from dkim_mail import DOMAIN, dkimpy_signed
from interop.both_ways import ED25519, RSA, dkimpy_verdict, others, our_verdicts, sent, signed_by_us
from interop.mails import FORM_OF, MAILS
from servers import opendkim
from servers.opendkim import OpenDkim
from servers.perl_dkim import PerlDkim

#: each header and each body once
SOME = {name: sent(mail) for name, mail in MAILS.items() if name.startswith("usual, ") or name.endswith(", text")}


def signed_by_all(perl: PerlDkim) -> dict[str, bytes]:
    """The mails with five signatures, from the top: two of filterd, one of dkimpy, of OpenDKIM, of Mail::DKIM."""
    by_perl = perl.signatures([(mail, FORM_OF[name]) for name, mail in SOME.items()], RSA.pem, "rsa")
    mails = {name: field + mail for (name, mail), field in zip(SOME.items(), by_perl, strict=True)}
    with opendkim.signing({"rsa": RSA.pem}, DOMAIN, Canonicalization="simple/relaxed") as signer:
        mails = {name: signer.signed(mail) for name, mail in mails.items()}
    mails = {name: dkimpy_signed(mail, ED25519, *FORM_OF[name].split("/"), "ed") for name, mail in mails.items()}
    return {name: signed_by_us(mail) for name, mail in mails.items()}


def test_all_verify_all(perl: PerlDkim, opendkim_verifier: OpenDkim) -> None:
    mails = signed_by_all(perl)
    dkimpys = {name: [dkimpy_verdict(mail, number) for number in range(5)] for name, mail in mails.items()}
    perls = dict(zip(mails, perl.verdicts(mails.values()), strict=True))

    assert others({name: our_verdicts(mail) for name, mail in mails.items()}, ["pass"] * 5) == {}
    assert others({name: opendkim_verifier.verdicts(mail) for name, mail in mails.items()}, ["pass"] * 5) == {}
    assert others(dkimpys, ["pass"] * 5) == {}
    # The others are Ed25519, which Debian 12's Mail::DKIM has not.
    assert (
        others({name: [verdicts[number] for number in (1, 3, 4)] for name, verdicts in perls.items()}, ["pass"] * 3)
        == {}
    )
