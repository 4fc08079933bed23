"""The private Postfix does what the system tests count on."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers import header_milter
from servers.postfix import running

pytestmark = pytest.mark.system

MAIL = b"From: a@example.com\r\nSubject: hello\r\n\r\nText.\r\n"


@contextmanager
def the_header_milter(socket: Path) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, header_milter.__file__, socket])
    try:
        while not socket.exists():
            assert process.poll() is None
            time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.wait()


def test_mail_of_a_client_that_is_not_this_machine_is_delivered() -> None:
    with running() as postfix:
        with postfix.connect("203.0.113.9", "mail.example.com", helo="helo.example.com") as smtp:
            smtp.sendmail("a@example.com", ["b@example.org", "c@example.net"], MAIL)
        (delivered,) = postfix.maildir("b@example.org")
        assert b"Received: from helo.example.com (mail.example.com [203.0.113.9])\n" in delivered
        assert delivered.endswith(b"\nFrom: a@example.com\nSubject: hello\n\nText.\n")
        assert len(postfix.maildir("C@example.net")) == 1
        assert postfix.maildir("d@example.org") == []
        assert postfix.queue() == []
        assert "client=mail.example.com[203.0.113.9]" in postfix.log


@pytest.mark.parametrize("chroot", [False, True])
def test_a_milter_sees_the_client_and_its_header_is_delivered(chroot: bool) -> None:
    with (
        running(milters=["unix:milters/header"], chroot=chroot) as postfix,
        the_header_milter(postfix.milters / "header"),
        postfix.connect("2001:db8::9") as smtp,
    ):
        smtp.sendmail("a@example.com", ["b@example.org"], MAIL)
        (delivered,) = postfix.maildir("b@example.org")
        above, _, _ = delivered.partition(b"\nReceived: ")
        assert above.endswith(b"\nX-Saw: client=2001:db8::9 user=None")


def test_an_authenticated_user_is_told_to_the_milter() -> None:
    with (
        running(milters=["unix:milters/header"]) as postfix,
        the_header_milter(postfix.milters / "header"),
        postfix.connect("203.0.113.9", user="alice@example.org") as smtp,
    ):
        smtp.sendmail("alice@example.org", ["b@example.org"], MAIL)
        (delivered,) = postfix.maildir("b@example.org")
        assert b"\nX-Saw: client=203.0.113.9 user=alice@example.org\n" in delivered


def test_what_a_milter_quarantines_is_held() -> None:
    with (
        running(milters=["unix:milters/header"]) as postfix,
        the_header_milter(postfix.milters / "header"),
        postfix.connect("203.0.113.9") as smtp,
    ):
        smtp.sendmail("a@example.com", ["b@example.org"], MAIL.replace(b"hello", b"hold me"))
        (held,) = postfix.held()
        assert held["recipients"] == [{"address": "b@example.org"}]
        assert b"X-Saw: client=203.0.113.9" in postfix.contents(held["queue_id"])
        assert postfix.maildir("b@example.org") == []


def test_a_milter_that_is_away_defers() -> None:
    with running(milters=["unix:milters/nobody"]) as postfix, postfix.connect("203.0.113.9") as smtp:
        assert smtp.mail("a@example.com")[0] == 451


def test_mail_for_a_domain_that_is_not_delivered_here_is_refused() -> None:
    """Even a client that may relay gets nothing out of this machine."""
    settings = {"virtual_mailbox_domains": "example.org", "mynetworks": "203.0.113.0/24"}
    with running(settings=settings) as postfix, postfix.connect("203.0.113.9") as smtp:
        refused = smtp.sendmail("a@example.com", ["b@example.org", "c@elsewhere.example"], MAIL)
        assert refused.keys() == {"c@elsewhere.example"}
        assert len(postfix.maildir("b@example.org")) == 1


def test_two_run_at_once_and_leave_nothing() -> None:
    with running() as one, running() as other:
        for postfix in (one, other):
            with postfix.connect() as smtp:
                smtp.sendmail("a@example.com", [f"b@{postfix.port}.example"], MAIL)
        for postfix in (one, other):
            assert len(postfix.maildir(f"b@{postfix.port}.example")) == 1
    assert not one.directory.exists()
    assert not other.directory.exists()
