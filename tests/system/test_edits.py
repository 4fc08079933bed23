"""What rules edit of header and envelope, behind a real Postfix and the bundled MTA: the same delivered octets."""

import re
import smtplib
from pathlib import Path

import pytest
from example_org import HONEST, MAIL, SENDER, policy
from servers.filterd import Filterd, Judging
from servers.postfix import Postfix

from filterd.mta.config import MtaConfig
from filterd.mta.server import running

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("engine")]

RULES = """\
rules:
  - name: edit
    when: has_header("x-junk") && header("subject") == "Käse"
    then:
      - { add_header: { name: X-Result, value: 'spf {spf.result}, subject {header("subject")}' } }
      - { remove_header: { name: x-junk, matching: "^no" } }
      - { rewrite_header: { name: X-Old, value: new } }
      - { subject_prefix: "[Öl]" }
      - { add_recipient: RECIPIENT-archive@example.net }
      - { remove_recipient: RECIPIENT@example.net }
      - { change_sender: bounces@example.net }
      - { score: 7.5 }
  - name: refuse
    when: header("subject") == "refuse"
    then: reject
    reply: |
      550 5.7.1 no, {envelope.sender_domain}
      for 100% sure
"""
SENT = MAIL.replace(
    b"Subject: hello\r\n",
    b"Subject: =?utf-8?q?K=C3=A4se?=\r\nX-Junk: yes\r\nX-Junk: no 1\r\nX-Old: 1\r\nX-Junk: no 2\r\nx-old:  2\r\n",
)
EDITED = (
    b"From: Joe <joe@example.org>\nTo: b@example.net\nSubject: =?utf-8?b?W8OWbF0gS8Okc2U=?=\n"
    b"X-Junk: yes\nX-Old: new\nX-Old: new\n\nText.\n"
)


def edited(mail: bytes) -> tuple[bytes, bytes, bytes]:
    """The envelope sender, the field that was added, and what the client sent, as it was delivered."""
    sender = re.findall(rb"Return-Path: <(.*)>\n", mail)[0]
    added = re.findall(rb"X-Result: .*\n(?:[ \t].*\n)*", mail)[0]
    return sender, added, re.split(rb"\nReceived: .*\n(?:[ \t].*\n)*", mail, maxsplit=1)[1]


EXPECTED = (b"bounces@example.net", b"X-Result: spf pass, subject =?utf-8?b?S8Okc2U=?=\n", EDITED)


def test_postfix_delivers_what_was_edited(postfix: Postfix, judging: Judging, recipient: str) -> None:
    local = recipient.partition("@")[0]
    with judging(RULES.replace("RECIPIENT", local)) as filterd, postfix.connect(HONEST) as smtp:
        smtp.sendmail(SENDER, [recipient], SENT)
        decision = filterd.decision()

    assert [edited(mail) for mail in postfix.maildir(f"{local}-archive@example.net")] == [EXPECTED]
    assert postfix.maildir(recipient) == []
    assert decision["score"] == 7.5


def test_the_bundled_mta_delivers_the_same(tmp_path: Path, dns: str) -> None:
    with Filterd(tmp_path, policy(dns, RULES.replace("RECIPIENT", "b"))) as filterd:
        config = MtaConfig("mx.example.org", tmp_path / "mail", (f"unix:{tmp_path}/milter",))
        with running(config) as mta, smtplib.SMTP("127.0.0.1", mta.port) as smtp:
            smtp.ehlo()
            smtp.docmd("XCLIENT", f"ADDR={HONEST} NAME=[UNAVAILABLE]")
            smtp.ehlo()
            smtp.sendmail(SENDER, ["b@example.net"], SENT)
        assert filterd.events("fault") == []

    # Names with a dot are the MTA's own.
    folders = [path.name for path in (tmp_path / "mail").glob("[!.]*")]
    (file,) = (tmp_path / "mail" / "b-archive@example.net" / "new").iterdir()
    assert folders == ["b-archive@example.net"]
    assert edited(file.read_bytes()) == EXPECTED


def test_a_reply_of_several_lines(postfix: Postfix, judging: Judging, recipient: str) -> None:
    refused = MAIL.replace(b"hello", b"refuse")
    with judging(RULES), postfix.connect(HONEST) as smtp, pytest.raises(smtplib.SMTPDataError) as caught:
        smtp.sendmail(SENDER, [recipient], refused)

    assert (caught.value.smtp_code, caught.value.smtp_error) == (550, b"5.7.1 no, example.org\n5.7.1 for 100? sure")
