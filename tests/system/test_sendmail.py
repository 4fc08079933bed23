"""filterd behind a real Sendmail: the main scenes, over both milter engines."""

import re
import smtplib
from collections.abc import Iterator

import pytest
from dkim_mail import dkimpy_signed, rsa_pair
from example_org import MAIL, SENDER, about, by_subject, content, policy, results
from servers import nsd
from servers.filterd import Filterd
from servers.sendmail import Sendmail, running

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("engine")]

#: Clients are told apart by the loopback address that they come from: Sendmail has no XCLIENT.
HONEST, STRANGER, OURS = "127.0.0.5", "127.0.0.6", "127.0.0.7"
NETWORKS = f'networks: {{ trusted: ["{OURS}"] }}'
_KEY = rsa_pair().record.decode()
ZONE = f"""$TTL 300
example                  IN TXT "v=spf1 ip4:{HONEST} -all"
_dmarc.example           IN TXT "v=DMARC1; p=reject"
sel._domainkey.example   IN TXT "{_KEY[:250]}" "{_KEY[250:]}"
"""
RULES = """
dmarc: { on_multiple_authors: reject }
rules:
- { name: forged, when: dmarc.result == "fail" && envelope.sender == "forged@example.org", then: reject, reply: 550 5.7.1 no }
- { name: junk, when: dmarc.result == "fail" && envelope.sender == "junk@example.org", then: quarantine }
- { name: odd, when: dmarc.result == "fail" && envelope.sender == "odd@example.org", then: tag }
- { name: later, when: envelope.sender == "held@example.org", then: hold, at: end_of_message }
- { name: not-now, when: envelope.sender == "deferred@example.org", then: defer, at: end_of_message }
- { name: unknown, when: envelope.recipient == "no@example.net", then: reject, reply: 550 5.1.1 not him }
"""


@pytest.fixture(scope="module")
def sendmail() -> Iterator[Sendmail]:
    """Its milter is the socket "milter" in its folder for milters."""
    with running(milters=["unix:milters/milter, F=T"]) as process:
        yield process


@pytest.fixture(scope="module")
def dns() -> Iterator[str]:
    with nsd.running({"org": ZONE}) as (host, port):
        yield f"{host}:{port}"


@pytest.fixture
def filterd(sendmail: Sendmail, dns: str) -> Iterator[Filterd]:
    """The daemon beside Sendmail. It must neither report a fault of its own nor lose a worker."""
    key = sendmail.directory / "key.pem"
    key.write_bytes(rsa_pair().pem)
    key.chmod(0o600)
    sign = f"sign: [{{ domains: [example.org], keys: [{{ selector: sel, file: {key} }}] }}]"
    with Filterd(sendmail.milters, policy(dns, f"{NETWORKS}\n{sign}\n{RULES}"), access='mode: "0600"') as process:
        yield process
        assert process.events("fault") == []
        assert process.events("worker ended") == []


def test_mails_of_one_connection_are_judged_each_for_itself(
    sendmail: Sendmail, filterd: Filterd, recipient: str
) -> None:
    signed = dkimpy_signed(about("signed"), rsa_pair())
    replies = {}
    with sendmail.connect(STRANGER) as smtp:
        for subject, mail in {
            "signed": signed,
            **{subject: about(subject) for subject in ("forged", "junk", "odd", "held", "deferred", "plain")},
        }.items():
            try:
                replies[subject] = smtp.sendmail(f"{subject}@example.org", [recipient], mail)
            except smtplib.SMTPDataError as refused:
                replies[subject] = refused.smtp_code, refused.smtp_error
        decisions = filterd.wait_for("judged", 7)

    assert replies == {
        "forged": (550, b"5.7.1 no"),
        "deferred": (451, b"4.7.1 try again later (not-now)"),
        **{taken: {} for taken in ("signed", "junk", "odd", "held", "plain")},
    }
    delivered = by_subject(sendmail.maildir(recipient))
    assert {subject: results(mail) for subject, mail in delivered.items()} == {
        "signed": "spf=fail dkim=pass dmarc=pass",
        **dict.fromkeys(("junk", "odd", "plain"), "spf=fail dkim=none dmarc=fail"),
    }
    assert content(delivered["signed"]) == signed
    marks = {subject: re.findall(rb"\n(X-Filterd-.*)", mail) for subject, mail in delivered.items()}
    assert marks == {
        "signed": [],
        "junk": [b"X-Filterd-Quarantine: junk"],
        "odd": [b"X-Filterd-Tag: odd"],
        "plain": [],
    }
    (held,) = [envelope for envelope in sendmail.held() if f"<{recipient}>" in envelope]
    # Sendmail's queue file: the reason that the milter gave, and the fields that it added.
    assert "\nqlater\n" in held
    assert "Authentication-Results: mx.example;" in held
    assert {decision["client"] for decision in decisions} == {STRANGER}
    # Sendmail's queue id, by which an operator finds both logs' lines.
    for decision in decisions:
        assert re.fullmatch("[0-9A-Za-z]{14}", decision["queue_id"])


def test_an_honest_mail_passes_and_claims_to_be_us_go(sendmail: Sendmail, filterd: Filterd, recipient: str) -> None:
    """RFC 8601 5: all fields in our name go, though Sendmail's own Received is not among those that we are shown."""
    claims = (
        b"Authentication-Results: mx.example; spf=pass smtp.mailfrom=joe@example.org\r\n",
        b"Authentication-Results: (us) other.example; dkim=pass\r\n",
        b"Authentication-Results:\r\n\tMX.Example 1;\r\n\tdmarc=pass\r\n",
        b"X-Filterd-Tag: a\r\nx-filterd-tag: b\r\n",
    )
    with sendmail.connect(HONEST) as smtp:
        smtp.sendmail(SENDER, [recipient], b"".join(claims) + MAIL)

    (delivered,) = sendmail.maildir(recipient)
    assert results(delivered) == "spf=pass dkim=none dmarc=pass"
    assert content(delivered) == claims[1] + MAIL


def test_two_authors_are_refused(sendmail: Sendmail, filterd: Filterd, recipient: str) -> None:
    with sendmail.connect(HONEST) as smtp, pytest.raises(smtplib.SMTPDataError) as refused:
        smtp.sendmail(SENDER, [recipient], b"From: joe@example.com\r\n" + MAIL)
    assert refused.value.smtp_code == 550
    assert filterd.decision()["verdict"] == "reject"


def test_a_rule_refuses_one_recipient_of_two(sendmail: Sendmail, filterd: Filterd, recipient: str) -> None:
    with sendmail.connect(HONEST) as smtp:
        refused = smtp.sendmail(SENDER, ["no@example.net", recipient], MAIL)
    assert refused == {"no@example.net": (550, b"5.1.1 <no@example.net>... not him")}
    assert [results(mail) for mail in sendmail.maildir(recipient)] == ["spf=pass dkim=none dmarc=pass"]
    assert sendmail.maildir("no@example.net") == []


def test_what_was_reset_is_forgotten(sendmail: Sendmail, filterd: Filterd, recipient: str) -> None:
    with sendmail.connect(HONEST) as smtp:
        smtp.mail("joe@unknown.example.org")
        smtp.rcpt("nobody@example.net")
        smtp.rset()
        smtp.rset()
        smtp.sendmail(SENDER, [recipient], MAIL)
        decision = filterd.decision()
    assert [results(mail) for mail in sendmail.maildir(recipient)] == ["spf=pass dkim=none dmarc=pass"]
    assert (decision["from"], decision["rcpts"]) == (SENDER, 1)


def test_our_mail_leaves_signed_and_whoever_gets_it_can_verify(
    sendmail: Sendmail, filterd: Filterd, recipient: str
) -> None:
    with sendmail.connect(OURS) as smtp:
        smtp.sendmail(SENDER, [recipient], MAIL)
    (delivered,) = sendmail.maildir(recipient)
    to, sender, sent = delivered.split(b"\n", 2)
    assert to.startswith(b"Delivered-To: ")
    assert sender.startswith(b"Return-Path: ")
    assert sent.startswith(b"DKIM-Signature: v=1; a=rsa-sha256; ")

    with sendmail.connect(STRANGER) as smtp:
        smtp.sendmail(SENDER, [f"forwarded-{recipient}"], sent.replace(b"\n", b"\r\n"))
    (forwarded,) = sendmail.maildir(f"forwarded-{recipient}")
    assert results(forwarded) == "spf=fail dkim=pass dmarc=pass"


SHAPES = {
    "no space behind the colon": b"From:joe@example.org\r\nSubject:x\r\n\r\nText.\r\n",
    "white space": b"From:  joe@example.org \r\nSubject:\tx\t\r\n\r\nText. \r\n\t\r\n\r\n\r\n",
    "folds": b"From: joe@example.org\r\nSubject: a\r\n\tb\r\n   c\r\n \t d \r\n\r\nText.\r\n",
    "8-bit octets": b"From: Joe <joe@example.org>\r\nSubject: caf\xe9 \xff\r\nX: \xc3\xa9\r\n\r\n\xff\x80\r\n",
    "dots": b"From: joe@example.org\r\nSubject: .\r\n .\r\n\r\n.\r\n..\r\n.text\r\n",
    "1,000 fields": b"X-Field: 1\r\n" * 1000 + MAIL,
    "2 MB": MAIL + b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n" * (1 << 15),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_octet_is_seen(sendmail: Sendmail, filterd: Filterd, recipient: str, shape: str) -> None:
    """A signature over the octets themselves (RFC 6376 3.4.1, 3.4.3) holds in filterd's eyes."""
    mail = dkimpy_signed(SHAPES[shape], rsa_pair(), "simple", "simple", include_headers=[b"From", b"Subject", b"X"])
    with sendmail.connect(STRANGER) as smtp:
        smtp.sendmail(SENDER, [recipient], mail)
    assert filterd.decision()["dkim"] == "pass:example.org"
