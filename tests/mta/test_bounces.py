"""Bounces: who is told of what, in which form, and that no crash loses or doubles one."""

import email
import email.policy
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.mta.bounce import bounce_of, can_bounce
from filterd.mta.config import MtaConfig
from filterd.mta.queue import Queue
from filterd.mta.queued_mail import Fate, QueuedMail, QueuedRecipient, new_mail
from filterd.mta.server import running

_CONTENT = b"From: a@example.org\r\nSubject: caf\xe9\r\nX-Folded: a\r\n b\r\n\r\nbody\r\n"
_FAILED = QueuedRecipient("c@example.net", Fate.FAILED, "5.1.1", "550 5.1.1 no such user", "mx.example.com")


def _mail(*recipients: QueuedRecipient, sender: str = "a@example.org") -> QueuedMail:
    return replace(new_mail("1A", sender.encode(), []), recipients=recipients, attempts=2)


def _read(mail: QueuedMail, content: bytes = _CONTENT) -> EmailMessage:
    read = email.message_from_bytes(bounce_of(mail, content, "mx.example.net")[1], policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    return read


def test_a_bounce_has_the_null_sender_and_goes_to_the_sender() -> None:
    bounce, content = bounce_of(_mail(_FAILED), _CONTENT, "mx.example.net")

    assert (bounce.queue_id, bounce.sender, bounce.cause) == ("1Ab2", "", "1A")
    assert [each.address for each in bounce.recipients] == ["a@example.org"]
    assert content.count(b"\n") == content.count(b"\r\n")


def test_a_bounce_is_a_report_of_three_parts() -> None:
    """RFC 6522 3, RFC 3464 2."""
    message = _read(_mail(_FAILED, QueuedRecipient("b@example.net", Fate.DELIVERED)))
    text, status, header = message.iter_parts()
    of_mail, of_recipient = status.get_payload()

    assert message.get_content_type() == "multipart/report"
    assert message["Content-Type"].params["report-type"] == "delivery-status"
    assert message["Auto-Submitted"] == "auto-replied"
    assert "<c@example.net>\n    mx.example.com said: 550 5.1.1 no such user\n" in text.get_content().replace("\r", "")
    assert status.get_content_type() == "message/delivery-status"
    assert of_mail["Reporting-MTA"] == "dns; mx.example.net"
    assert dict(of_recipient) == {
        "Final-Recipient": "rfc822; c@example.net",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.example.com",
        "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
    }
    assert header.get_content_type() == "text/rfc822-headers"
    assert header.get_payload(decode=True) == _CONTENT.partition(b"\r\n\r\n")[0] + b"\r\n"


def test_what_another_server_says_begins_no_field() -> None:
    message = _read(_mail(replace(_FAILED, reply="550 no\r\nAction: delivered\n\nBcc: x", host="mx\nAction: relayed")))
    _, status, _ = message.iter_parts()
    (_, of_recipient) = status.get_payload()

    assert of_recipient.get_all("Action") == ["failed"]
    assert message["Bcc"] is None


def test_addresses_beyond_ascii() -> None:
    """RFC 6533 3: in a report that is ASCII they are escaped."""
    message = _read(_mail(replace(_FAILED, address="ü\\@example.net"), sender="ä@example.org"))
    _, status, _ = message.iter_parts()

    assert message["To"] == "ä@example.org"
    assert status.get_payload()[1]["Final-Recipient"] == r"utf-8; \x{FC}\x{5C}@example.net"


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=200), st.binary(max_size=200))
def test_whatever_is_in_a_mail_it_can_bounce(sender: str, address: str, reply: str, content: bytes) -> None:
    mail = _mail(QueuedRecipient(address, Fate.FAILED, "5.0.0", reply, address), sender=f"{sender}@example.org")
    if can_bounce(mail):
        bounce, written = bounce_of(mail, content, "mx.example.net")
        assert email.message_from_bytes(written).get_content_type() == "multipart/report"
        assert bounce.sender == ""


@pytest.mark.parametrize("sender", ["", "a", "a\r\nBcc: x@example.org", "@", "a b@example.org"])
def test_who_cannot_be_told(sender: str) -> None:
    assert not can_bounce(_mail(_FAILED, sender=sender))


def _cleared(tmp_path: Path, mail: QueuedMail, expire: float = 0.0) -> list[bytes]:
    """What the sender gets of a mail in the queue, once that is empty; c@example.net has no mailbox."""
    (tmp_path / "c@example.net").write_text("in the way")
    queue = Queue(tmp_path / ".queue")
    os.close(queue.open())
    queue.accept(mail, _CONTENT)
    queue.close()
    with running(MtaConfig("mx.example.net", tmp_path, expire=expire)):
        _until(lambda: not list(queue.mails()))
    return [file.read_bytes() for file in (tmp_path / "a@example.org" / "new").glob("*")]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, "mail is still in the queue"
        time.sleep(0.01)


def test_what_waits_too_long_goes_back_to_its_sender(tmp_path: Path) -> None:
    (bounce,) = _cleared(tmp_path, new_mail("1", b"a@example.org", [b"b@example.net", b"c@example.net"]))

    assert bounce.startswith(b"Return-Path: <>\nDelivered-To: a@example.org\n")
    assert b"\nFinal-Recipient: rfc822; c@example.net\n" in bounce
    assert b"b@example.net" not in bounce
    assert len(list((tmp_path / "b@example.net" / "new").iterdir())) == 1


def test_a_bounce_does_not_bounce(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        bounces = _cleared(tmp_path, new_mail("1", b"", [b"c@example.net"]))

    assert bounces == []
    assert "queue: 1: nobody is told of it: it has no sender" in caplog.messages


def test_a_bounce_waits_until_the_disk_says_that_its_mail_has_bounced(tmp_path: Path) -> None:
    """Else a crash between the two would make it once more."""
    queue = Queue(tmp_path / ".queue")
    os.close(queue.open())
    queue.close()
    mail = replace(_mail(_FAILED), attempts=1)
    queue.accept(mail, _CONTENT)
    queue.accept(*bounce_of(mail, _CONTENT, "mx.example.net"))
    queue.accept(new_mail("2A", b"", [b"b@example.net"]), _CONTENT)
    with ExitStack() as stack, queue.locked("1A"):
        stack.enter_context(running(MtaConfig("mx.example.net", tmp_path)))
        _until(lambda: queue.get("2A") is None)
        assert queue.get("1Ab1") is not None
    with running(MtaConfig("mx.example.net", tmp_path)):
        _until(lambda: not list(queue.mails()))

    assert len(list((tmp_path / "a@example.org" / "new").iterdir())) == 1


def test_no_crash_loses_or_doubles_a_bounce(tmp_path: Path) -> None:
    """SIGKILL right before each single step of recovering a queue in which every kind of mail was left half done."""
    state = tmp_path / "state"
    queue = Queue(state / ".queue")
    os.close(queue.open())
    queue.close()
    (state / "c@example.net").write_text("in the way")

    def mail(queue_id: str, *fates: Fate, sender: bytes = b"a@example.org") -> QueuedMail:
        made = new_mail(queue_id, sender, [b"b@example.net", b"c@example.net"])
        recipients = zip(made.recipients, fates, strict=False)
        return queue.accept(made.after(replace(each, fate=fate) for each, fate in recipients), _CONTENT)

    mail("FRESH")
    mail("NOSENDER", sender=b"")
    failed = replace(mail("FAILED", Fate.DELIVERED, Fate.FAILED), attempts=1)
    queue.update(failed)
    told = replace(mail("TOLD", Fate.WAITING, Fate.FAILED), attempts=1)
    queue.update(told)
    queue.accept(*bounce_of(told, _CONTENT, "mx.example.net"))
    bounced = replace(mail("BOUNCED", Fate.WAITING, Fate.BOUNCED), attempts=1)
    queue.update(bounced)
    (state / ".queue/content/GONE").write_bytes(_CONTENT)
    (state / ".queue/tmp/GONE.content").write_bytes(_CONTENT)
    script = Path(__file__).with_name("recovering_mta.py")
    work = tmp_path / "work"
    work.mkdir()

    result = subprocess.run([sys.executable, script, state, work], check=True, stdout=subprocess.PIPE, text=True)

    outcomes = {
        tuple(sorted(file.name.split(".")[0] for file in maildir.glob("*/new/*"))): maildir
        for maildir in work.iterdir()
    }
    expected = ("BOUNCED", "FAILEDb1", "FRESH", "FRESHb1", "NOSENDER", "TOLD", "TOLDb1")
    assert outcomes == {expected: outcomes.get(expected)}
    assert {len(list(each.glob(".queue/*/*"))) for each in work.iterdir()} == {0}
    assert int(result.stdout) > 30, "steps"
