"""A milter written in C against libmilter meets the bundled MTA: all callbacks, all that smfi_* offers."""

import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers.milter_process import eventually

from filterd.mta.config import MtaConfig
from filterd.mta.queue import Queue
from filterd.mta.server import running

_MAIL = b"From: a@example.org\r\nSubject: one\r\nSubject: two\r\nX-Fold: a\r\n\tb\r\n\r\nbody\r\n"


@dataclass
class Stage:
    """The MTA's port, where it delivers, and what the milter has written down."""

    port: int
    maildir: Path
    log: Path

    def play(self, sender: str, recipients: tuple[str, ...] = ("b@example.net",), content: bytes = _MAIL) -> list[str]:
        """The replies to a mail of `sender`, in a session of its own."""
        with smtplib.SMTP("127.0.0.1", self.port, "client.example", 60) as client:
            client.ehlo()
            replies = [client.docmd(f"MAIL FROM:<{sender}@example.org> SIZE=100")]
            replies += [client.docmd(f"RCPT TO:<{recipient}>") for recipient in recipients]
            replies.append(client.data(content))
        eventually(lambda: "close" in self.told())
        return [f"{code} {text.decode()}".partition(": queued")[0] for code, text in replies]

    def told(self) -> list[str]:
        return self.log.read_text().splitlines()

    def mails(self, recipient: str) -> list[bytes]:
        """The mails delivered to a recipient."""
        return [path.read_bytes() for path in (self.maildir / recipient).glob("new/*")]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("c") / "c_milter"
    source = Path(__file__).with_name("c_milter.c")
    subprocess.run(["gcc", "-o", binary, source, "-lmilter", "-lpthread"], check=True)
    return binary


@pytest.fixture
def stage(program: Path, tmp_path: Path) -> Iterator[Stage]:
    socket, log = tmp_path / "m.sock", tmp_path / "log"
    with ExitStack() as stack:
        milter = subprocess.Popen([program, f"unix:{socket}", log], stdout=subprocess.PIPE, text=True)
        stack.callback(milter.communicate)
        stack.callback(milter.kill)
        assert milter.stdout is not None
        assert milter.stdout.readline() == "ready\n"
        config = MtaConfig("mx.example.net", tmp_path / "mail", (f"unix:{socket}",))
        yield Stage(stack.enter_context(running(config)).port, config.maildir, log)


def test_every_callback_is_called_with_the_macros_that_were_asked_for(stage: Stage) -> None:
    """{rcpt_mailer} is sent by default, and is not where the milter names others."""
    assert stage.play("a") == ["250 2.1.0 Ok", "250 2.1.5 Ok", "250 2.0.0 Ok"]
    assert stage.told() == [
        "negotiate actions=1ff steps=1fffff",
        "connect localhost address j=mx.example.net {client_addr}=127.0.0.1",
        "helo client.example",
        "mail <a@example.org> SIZE=100 i=- {mail_addr}=a@example.org",
        "rcpt <b@example.net> {rcpt_addr}=b@example.net {rcpt_mailer}=-",
        "data",
        "header From: a@example.org",
        "header Subject: one",
        "header Subject: two",
        "header X-Fold: a",
        "\tb",
        "eoh",
        "body 6",
        "eom",
        "close",
    ]


def test_it_hears_of_unknown_commands_and_of_what_is_given_up(stage: Stage) -> None:
    with smtplib.SMTP("127.0.0.1", stage.port, "client.example", 60) as client:
        client.ehlo()
        client.docmd("FROB")
        client.docmd("MAIL FROM:<gone@example.org>")
        client.docmd("RSET")
    eventually(lambda: "close" in stage.told())
    assert [line.split()[0] for line in stage.told()[3:]] == ["unknown", "mail", "abort", "close"]


def test_every_edit_is_made(stage: Stage) -> None:
    assert stage.play("edit") == ["250 2.1.0 Ok", "250 2.1.5 Ok", "250 2.0.0 Ok"]

    assert not [line for line in stage.told() if "failed" in line]
    assert stage.mails("b@example.net") == []
    for recipient in ("c@example.net", "d@example.net"):
        (mail,) = stage.mails(recipient)
        trace, _, rest = mail.partition(b"X-Top: 0\n")
        received, _, content = rest.partition(b"From: ")
        assert trace == f"Return-Path: <x@example.com>\nDelivered-To: {recipient}\n".encode()
        assert received.startswith(b"Received: ")
        assert content == b"a@example.org\nSubject: changed\nX-Fold: a\n\tb\nX-Added: a\n\tb\n\nnew\nbody\n"


def test_quarantine_puts_on_hold(stage: Stage) -> None:
    assert stage.play("quarantine")[-1] == "250 2.0.0 Ok"
    assert stage.mails("b@example.net") == []
    assert [mail.hold is not None for mail in Queue(stage.maildir / ".queue").mails()] == [True]


def test_replies_are_the_milters(stage: Stage) -> None:
    replies = stage.play("reply", ("no@example.net", "b@example.net"))
    assert replies[1:] == ["550 5.1.1 nobody\n5.1.1 100% sure", "250 2.1.5 Ok", "452 4.3.1 no room"]
    assert stage.mails("b@example.net") == []


def test_skip_ends_the_body_chunks(stage: Stage) -> None:
    large = _MAIL + b"0123456789abcdef\r\n" * 10_000
    assert stage.play("skip", content=large)[-1] == "250 2.0.0 Ok"
    assert [line for line in stage.told() if line.startswith(("body", "eom"))] == ["body 65535", "eom"]
