"""A key counts as published where a verifier would find it and may use it: start published, change one thing."""

import pytest
from dkim_mail import DOMAIN, KEY_NAME, SELECTOR, ed25519_pair, rsa_pair, zone

from filterd.dkim.published import Published, published
from filterd.dkim.sign import SigningKey
from filterd.lookup import Answer, Outcome, Resolver, ZoneResolver
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason

RSA = rsa_pair()
ED25519 = ed25519_pair()
OTHER = rsa_pair(1024).record
P = RSA.record.removeprefix(b"v=DKIM1; k=rsa; ")
YES = (Published.YES, None)


def state(resolver: Resolver, pem: bytes = RSA.pem) -> tuple[Published, Reason | None]:
    return published(SigningKey.load(pem), Domain.parse(DOMAIN), SELECTOR, resolver)


def answering(outcome: Outcome, reason: Reason | None = None) -> Resolver:
    return ZoneResolver({(KEY_NAME, "TXT"): Answer(KEY_NAME, "TXT", outcome, reason=reason)})


def test_the_record_that_is_to_be_published() -> None:
    assert state(zone(RSA.record), RSA.pem) == YES
    assert state(zone(ED25519.record), ED25519.pem) == YES


@pytest.mark.parametrize(
    "records",
    [
        [P],
        [b"k=rsa; n=words; " + P[:40] + b" " + P[40:] + b";"],
        [b"v=DKIM1; h=sha1:sha256; s=email; t=y:s; " + P],
        [OTHER, RSA.record],
        [b"v=spf1 -all", RSA.record],
        [b"v=DKIM1; p=", RSA.record],
        [b"s=tlsrpt; " + P, RSA.record],
    ],
)
def test_other_records_that_have_the_key(records: list[bytes]) -> None:
    assert state(zone(*records)) == YES


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([], Reason.DKIM_KEY_MISSING),
        ([OTHER], Reason.DKIM_KEY_OTHER),
        ([ED25519.record], Reason.DKIM_KEY_OTHER),
        ([b"v=DKIM1; p="], Reason.DKIM_KEY_REVOKED),
        ([b"v=spf1 -all"], Reason.DKIM_KEY_SYNTAX),
        ([b"k=ed25519; " + P], Reason.DKIM_KEY_SYNTAX),
        ([b"s=tlsrpt; " + P], Reason.DKIM_KEY_SERVICE),
        ([b"h=sha1; " + P], Reason.DKIM_KEY_HASH),
    ],
)
def test_what_is_not_published(records: list[bytes], reason: Reason) -> None:
    assert (Published.NO, reason) == state(zone(*records))


def test_a_name_without_text_records() -> None:
    assert state(answering(Outcome.NODATA)) == (Published.NO, Reason.DKIM_KEY_MISSING)


def test_a_failure_of_dns_says_nothing() -> None:
    """A broken resolver must stop no outbound mail, so that it is told apart."""
    assert state(answering(Outcome.TEMPFAIL, Reason.DNS_TIMEOUT)) == (Published.UNKNOWN, Reason.DNS_TIMEOUT)
