"""filterd behind a real Postfix: mail of every shape, clients of every habit, verdicts of every kind."""

import os
import re
import smtplib

import pytest
from dkim_mail import dkimpy_signed, rsa_pair
from example_org import HONEST, MAIL, SENDER, STRANGER, UNKNOWN, about, by_subject, content, policy, results
from servers.filterd import Filterd, Judging
from servers.postfix import OWNER, Postfix, running

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("engine")]


def say(smtp: smtplib.SMTP, lines: bytes, replies: int) -> list[int]:
    """Send it all at once, then read so many replies."""
    smtp.send(lines)
    return [smtp.getreply()[0] for _ in range(replies)]


def test_mails_of_one_connection_are_judged_each_for_itself(postfix: Postfix, judging: Judging, recipient: str) -> None:
    signed = dkimpy_signed(about("signed"), rsa_pair())
    with judging() as filterd, postfix.connect(HONEST) as smtp:
        for sender, mail in ((SENDER, signed), (UNKNOWN, about("other sender")), (SENDER, about("plain"))):
            smtp.sendmail(sender, [recipient], mail)
        decisions = filterd.wait_for("judged", 3)

    delivered = by_subject(postfix.maildir(recipient))
    assert {subject: results(mail) for subject, mail in delivered.items()} == {
        "signed": "spf=pass dkim=pass dmarc=pass",
        "other sender": "spf=none dkim=none dmarc=fail",
        "plain": "spf=pass dkim=none dmarc=pass",
    }
    assert [decision["from"] for decision in decisions] == [SENDER, UNKNOWN, SENDER]
    # The MTA's queue id, by which an operator finds both logs' lines.
    for decision in decisions:
        assert f"{decision['queue_id']}: from=<{decision['from']}>" in postfix.log


def test_what_was_reset_is_forgotten(postfix: Postfix, judging: Judging, recipient: str) -> None:
    with judging() as filterd, postfix.connect(HONEST) as smtp:
        smtp.mail(UNKNOWN)
        smtp.rcpt("nobody@example.net")
        smtp.rset()
        smtp.rset()
        smtp.sendmail(SENDER, [recipient], MAIL)
        decision = filterd.decision()

    assert [results(mail) for mail in postfix.maildir(recipient)] == ["spf=pass dkim=none dmarc=pass"]
    assert (decision["from"], decision["rcpts"]) == (SENDER, 1)
    assert len(filterd.events("judged")) == 1


def test_commands_may_come_at_once(postfix: Postfix, judging: Judging, recipient: str) -> None:
    """RFC 2920: what follows the end of one mail is the next one's."""
    envelope = f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()
    with judging(), postfix.connect(HONEST) as smtp:
        first = say(smtp, envelope, 3)
        second = say(smtp, about("one") + b".\r\n" + envelope, 4)
        third = say(smtp, about("two") + b".\r\nRSET\r\nQUIT\r\n", 3)

    assert [*first, *second, *third] == [250, 250, 354, 250, 250, 250, 354, 250, 250, 221]
    delivered = by_subject(postfix.maildir(recipient))
    assert sorted(delivered) == ["one", "two"]
    assert {results(mail) for mail in delivered.values()} == {"spf=pass dkim=none dmarc=pass"}


def test_a_client_that_goes_in_the_middle_leaves_nothing(postfix: Postfix, judging: Judging, recipient: str) -> None:
    with judging() as filterd:
        for sent in ("", f"MAIL FROM:<{SENDER}>\r\n", f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n"):
            smtp = postfix.connect(HONEST)
            say(smtp, sent.encode(), sent.count("\n"))
            smtp.send(MAIL if "DATA" in sent else b"")
            smtp.close()
        with postfix.connect(STRANGER) as smtp:
            smtp.sendmail(UNKNOWN, [recipient], MAIL)
        decision = filterd.decision()

    assert [results(mail) for mail in postfix.maildir(recipient)] == ["spf=none dkim=none dmarc=fail"]
    assert decision["client"] == STRANGER
    assert len(filterd.events("judged")) == 1


@pytest.mark.parametrize(
    ("mail", "found"),
    [
        (b"", "spf=fail dkim=none dmarc=permerror"),
        (b"no field\r\nText.\r\n", "spf=fail dkim=none dmarc=permerror"),
        (b"\r\nText.\r\n", "spf=fail dkim=none dmarc=permerror"),
    ],
    ids=["nothing", "text alone", "body alone"],
)
def test_mail_without_header(postfix: Postfix, judging: Judging, recipient: str, mail: bytes, found: str) -> None:
    with judging(), postfix.connect(STRANGER) as smtp:
        smtp.sendmail(SENDER, [recipient], mail)

    (delivered,) = postfix.maildir(recipient)
    assert results(delivered) == found
    assert content(delivered).endswith(mail)


SHAPES = {
    "no body": b"From: joe@example.org\r\nSubject: x\r\n\r\n",
    "no empty line": b"From: joe@example.org\r\nSubject: x\r\n",
    "no space behind the colon": b"From:joe@example.org\r\nSubject:x\r\nX-Empty:\r\n\r\nText.\r\n",
    "white space": b"From:  joe@example.org \r\nSubject:\tx\t\r\nX-Empty: \r\n\r\nText. \r\n\t\r\n\r\n\r\n",
    "folds": b"From:\r\n joe@example.org\r\nSubject: a\r\n\tb\r\n   c\r\n \t d \r\nX-Odd: a\r\n \r\n b\r\n\r\nText.\r\n",
    "8-bit octets": b"From: \xe9 <joe@example.org>\r\nSubject: caf\xe9 \xff\r\nX: \xc3\xa9\xe2\x82\xac\r\n\r\n\xff\x80\r\n",
    "dots": b"From: joe@example.org\r\nSubject: .\r\n .\r\n\r\n.\r\n..\r\n.text\r\n",
    "long lines": b"From: joe@example.org\r\nSubject: " + b"x" * 5000 + b"\r\n\r\n" + b"y" * 100_000 + b"\r\n",
    "1,000 fields": b"X-Field: 1\r\n" * 1000 + MAIL,
    # Short of where mail is refused for them: no honest mail has a tenth of it.
    "4,990 fields": b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(4_990)) + MAIL,
    "20 MB": MAIL + b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n" * (20 << 14),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_octet_is_seen_and_delivered(postfix: Postfix, judging: Judging, recipient: str, shape: str) -> None:
    """A signature over the octets themselves (RFC 6376 3.4.1, 3.4.3) holds: in filterd's eyes, and after delivery."""
    names = [b"From", b"Subject", b"X-Empty", b"X-Odd", b"X", b"X-Field", b"X-4989"]
    mail = dkimpy_signed(SHAPES[shape], rsa_pair(), "simple", "simple", include_headers=names)
    with judging(), postfix.connect(STRANGER) as smtp:
        smtp.sendmail(SENDER, [recipient], mail)

    (delivered,) = postfix.maildir(recipient)
    assert results(delivered) == "spf=fail dkim=pass dmarc=pass"
    assert content(delivered) == mail


FOLDED = b"From:\r\n joe@example.org\r\nSubject: a\r\n\tb\r\n   c\r\nTo:b@example.net\r\n\r\nText.\r\n"
CHANGES = {
    "nothing": (b"", b""),
    "a fold less": (b"\r\n joe", b" joe"),
    "a fold more": (b"To:b", b"To:\r\n b"),
    "a space for a tab": (b"\r\n\tb", b"\r\n b"),
    "a space more": (b"\r\n   c", b"\r\n    c"),
    "a space behind the colon": (b"To:b", b"To: b"),
    "a space at the end": (b"a\r\n", b"a \r\n"),
    "a letter's case": (b"Subject:", b"subject:"),
}


def test_white_space_in_fields_is_the_senders(postfix: Postfix, judging: Judging, recipient: str) -> None:
    """RFC 6376 3.4.1: "simple" sees each change; 3.4.2: "relaxed" sees none of these."""
    signed = {form: dkimpy_signed(FOLDED, rsa_pair(), form, form) for form in ("simple", "relaxed")}
    sent = [(form, change) for form in signed for change in CHANGES]
    with judging() as filterd, postfix.connect(STRANGER) as smtp:
        for form, change in sent:
            own, mail = signed[form][: -len(FOLDED)], FOLDED.replace(*CHANGES[change], 1)
            smtp.sendmail(SENDER, [recipient], own + mail)
        decisions = filterd.wait_for("judged", len(sent))

    found = {case: decision["dkim"] for case, decision in zip(sent, decisions, strict=True)}
    assert found == {
        (form, change): "pass:example.org" if form == "relaxed" or change == "nothing" else "fail:example.org"
        for form, change in sent
    }


def test_an_international_sender_is_judged_by_its_a_labels(postfix: Postfix, judging: Judging, recipient: str) -> None:
    """RFC 6531, 8616 4."""
    mail = "From: Jörg <jörg@bücher.example.org>\r\nSubject: grüße\r\n\r\nText.\r\n".encode()
    with judging(), postfix.connect(HONEST) as smtp:
        smtp.sendmail("jörg@bücher.example.org", [recipient], mail, ["SMTPUTF8", "BODY=8BITMIME"])

    (delivered,) = postfix.maildir(recipient)
    assert results(delivered) == "spf=pass dkim=none dmarc=pass"
    assert b" header.from=xn--bcher-kva.example.org " in delivered
    assert content(delivered) == mail


def test_whoever_claims_to_be_us_is_not_believed(postfix: Postfix, judging: Judging, recipient: str) -> None:
    """RFC 8601 5: all fields in our name go, however they are written; those of others stay, in their order."""
    claims = (
        b"Authentication-Results: mx.example; spf=pass smtp.mailfrom=joe@example.org\r\n",
        b"Authentication-Results: amx.example; spf=pass\r\n",
        b"AUTHENTICATION-RESULTS:\r\n\tMX.Example 1;\r\n\tdmarc=pass\r\n",
        b"Authentication-Results: (us) other.example; dkim=pass\r\n",
        b'authentication-results:(a (b) c)"mx.example" ; dmarc=pass\r\n',
        b"Authentication-Results:\r\n other.example; none\r\n",
        b"Authentication-Results: mx.example; none\r\n",
        b"X-Filterd-Quarantine: no\r\nX-Filterd-Tag: a\r\nx-filterd-tag: b\r\n",
    )
    with judging(), postfix.connect(STRANGER) as smtp:
        smtp.sendmail(SENDER, [recipient], b"".join(claims) + MAIL)

    (delivered,) = postfix.maildir(recipient)
    assert results(delivered) == "spf=fail dkim=none dmarc=fail"
    assert content(delivered) == claims[1] + claims[3] + claims[5] + MAIL


def test_a_rule_refuses_one_recipient_of_two(postfix: Postfix, judging: Judging, recipient: str) -> None:
    rule = """{ name: no, when: 'envelope.recipient == "no@example.net"', then: reject, reply: "550 5.1.1 not him" }"""
    with judging(f"rules: [{rule}]") as filterd, postfix.connect(HONEST) as smtp:
        refused = smtp.sendmail(SENDER, ["no@example.net", recipient], MAIL)
        decision = filterd.decision()

    assert refused == {"no@example.net": (550, b"5.1.1 not him")}
    assert [results(mail) for mail in postfix.maildir(recipient)] == ["spf=pass dkim=none dmarc=pass"]
    assert postfix.maildir("no@example.net") == []
    assert (decision["rcpts"], decision["verdict"]) == (1, "accept")


ACTIONS = ("reject", "defer", "discard", "hold", "quarantine", "accept", "tag")
VERDICTS = "rules:\n" + "".join(
    f"""- {{ name: {then}-{at}, when: 'envelope.sender == "{then}-{at}@example.org"', then: {then}, at: {at} }}\n"""
    for then in ACTIONS
    for at in ("mail", "data", "end_of_headers", "end_of_message")
)


@pytest.mark.parametrize("at", ["mail", "data", "end_of_headers", "end_of_message"])
def test_every_verdict_is_carried_out(postfix: Postfix, judging: Judging, recipient: str, at: str) -> None:
    replies = {}
    with judging(VERDICTS) as filterd, postfix.connect(HONEST) as smtp:
        for then in ACTIONS:
            smtp.rset()
            try:
                replies[then] = smtp.sendmail(f"{then}-{at}@example.org", [recipient], about(then))
            except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as refused:
                replies[then] = refused.smtp_code, refused.smtp_error
        decisions = filterd.wait_for("judged", 7)

    assert replies == {
        "reject": (550, f"5.7.1 refused by policy (reject-{at})".encode()),
        "defer": (451, f"4.7.1 try again later (defer-{at})".encode()),
        **{taken: {} for taken in ("discard", "hold", "quarantine", "accept", "tag")},
    }
    assert [decision["verdict"] for decision in decisions] == [*ACTIONS[:-1], "accept"]
    delivered = by_subject(postfix.maildir(recipient))
    assert sorted(delivered) == ["accept", "quarantine", "tag"]
    assert {results(mail) for mail in delivered.values()} == {"spf=pass dkim=none dmarc=pass"}
    marks = {subject: re.findall(rb"\n(X-Filterd-.*)", mail) for subject, mail in delivered.items()}
    assert marks == {
        "accept": [],
        "quarantine": [f"X-Filterd-Quarantine: quarantine-{at}".encode()],
        "tag": [f"X-Filterd-Tag: tag-{at}".encode()],
    }
    held = [entry for entry in postfix.held() if entry["recipients"][0]["address"] == recipient]
    assert [entry["sender"] for entry in held] == [f"hold-{at}@example.org"]
    assert results(postfix.contents(held[0]["queue_id"])) == "spf=pass dkim=none dmarc=pass"


def test_a_rule_that_says_connect_refuses_there(postfix: Postfix, judging: Judging) -> None:
    rules = """
rules:
- { name: at-connect, when: 'client.ip == "192.0.2.66"', then: reject, at: connect }
- { name: at-mail, when: 'client.ip == "192.0.2.77"', then: reject }
"""
    with judging(rules) as filterd:
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            postfix.connect("192.0.2.66")
        with postfix.connect("192.0.2.77") as smtp:
            assert smtp.mail(SENDER) == (550, b"5.7.1 refused by policy (at-mail)")
        decisions = filterd.wait_for("judged", 2)

    assert refused.value.smtp_code == 554
    assert [decision["rule"] for decision in decisions] == ["at-connect", "at-mail"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a socket to a group that it is not in")
def test_a_chrooted_smtpd_of_another_user_reaches_the_socket(dns: str, recipient: str) -> None:
    """As on Debian: the socket is in the queue directory, and open to Postfix's group alone."""
    with (
        running(milters=["unix:milters/milter"], chroot=True) as postfix,
        Filterd(postfix.milters, policy(dns), access=f'group: {OWNER}, mode: "0660"'),
        postfix.connect(HONEST) as smtp,
    ):
        smtp.sendmail(SENDER, [recipient], MAIL)
        assert [results(mail) for mail in postfix.maildir(recipient)] == ["spf=pass dkim=none dmarc=pass"]
