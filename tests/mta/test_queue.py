"""The queue on the disk: what it keeps, what it sets aside, and that no crash loses or doubles a mail."""

import logging
import os
import random
import re
import smtplib
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from filterd.cli.mta import command
from filterd.mta.queue import Queue, QueueBusyError
from filterd.mta.queued_mail import QueuedMail, new_mail

_CONTENT = b"Subject: x\r\n\r\nbody\r\n"
# `filterd mta`, which dies by SIGKILL right before its n-th step towards the disk.
_DYING = """
import os, signal, sys, threading
left, lock = int(sys.argv.pop(1)), threading.Lock()
def dying(step):
    def _step(*arguments, **options):
        global left
        with lock:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments, **options)
    return _step
os.fsync, os.rename, os.unlink = dying(os.fsync), dying(os.rename), dying(os.unlink)
from filterd.cli.mta import command
command()
"""


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    queue = Queue(tmp_path / ".queue")
    os.close(queue.open())
    queue.close()
    return queue


def _accept(queue: Queue, queue_id: str = "1", hold: bytes | None = None) -> QueuedMail:
    return queue.accept(
        new_mail(queue_id, b"a@example.org", [b"b@example.net", "ü@example.net".encode()], hold), _CONTENT
    )


def test_what_was_accepted_is_there(queue: Queue) -> None:
    mail = _accept(queue)

    assert [mail] == list(queue.mails())
    assert queue.get("1") == mail
    assert queue.content("1") == _CONTENT


def test_what_was_removed_is_not(queue: Queue, tmp_path: Path) -> None:
    _accept(queue)
    queue.remove("1")

    assert list(queue.mails()) == []
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("envelope/1", b""),
        ("envelope/1", b"\0" * 100),
        ("envelope/1", b"[" * 100_000),
        ("envelope/1", b'{"queue_id": "1"}'),
        ("envelope/2", b"\xff"),
        ("envelope/some letter.txt", b"foreign"),
        ("content/1", b"cut short"),
        ("content/some letter.txt", b"foreign"),
        ("tmp/some letter.txt", b"foreign"),
    ],
)
def test_what_is_no_mail_is_set_aside_with_one_warning_a_file(
    queue: Queue, tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, content: bytes
) -> None:
    _accept(queue)
    good = _accept(queue, "3")
    (tmp_path / ".queue" / file).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            os.close(queue.open())
            queue.close()
            assert good in list(queue.mails())

    aside = list((tmp_path / ".queue" / "aside").iterdir())
    assert content in [each.read_bytes() for each in aside]
    assert len(aside) == len(caplog.records)


def test_a_folder_in_the_queue_is_no_mail(queue: Queue, tmp_path: Path) -> None:
    (tmp_path / ".queue" / "envelope" / "7").mkdir()

    assert list(queue.mails()) == []


@pytest.mark.parametrize("queue_id", ["", "..", "../envelope/1", "x" * 65, "é"])
def test_a_queue_id_is_no_path(queue: Queue, queue_id: str) -> None:
    assert queue.get(queue_id) is None


def test_one_works_at_a_mail_at_a_time(queue: Queue, tmp_path: Path) -> None:
    mail = _accept(queue)
    with queue.locked("1") as mine:
        assert mine == mail
        with pytest.raises(QueueBusyError), Queue(tmp_path / ".queue").locked("1"):
            pass


def test_one_process_runs_a_queue(queue: Queue, tmp_path: Path) -> None:
    bell = queue.open()
    with pytest.raises(QueueBusyError):
        Queue(tmp_path / ".queue").open()
    os.close(bell)
    queue.close()


class _Process:
    """`filterd mta`; `dies_at` 0 is never."""

    def __init__(self, maildir: Path, dies_at: int = 0) -> None:
        arguments = ["--listen", "127.0.0.1:0", "--maildir", str(maildir), "--hostname", "mx.example.net"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _DYING, str(dies_at), *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        found = re.match(r"listening on 127\.0\.0\.1:(\d+)", self.process.stdout.readline())
        self.port = int(found[1]) if found else None

    def send(self, subject: str, recipients: list[str]) -> bool:
        """Whether it said that it has the mail."""
        if self.port is None:
            return False
        with suppress(OSError, smtplib.SMTPException), smtplib.SMTP("127.0.0.1", self.port, timeout=60) as client:
            client.ehlo()
            for command_ in ("MAIL FROM:<a@example.org>", *(f"RCPT TO:<{each}>" for each in recipients)):
                client.docmd(command_)
            return client.data(f"Subject: {subject}\r\n\r\n")[0] == 250
        return False

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_crash_at_any_step_loses_nothing_and_delivers_nothing_twice(tmp_path: Path) -> None:
    """SIGKILL right before a random step towards the disk, of a delivery or of the recovery from the last crash."""
    chance = random.Random(7)
    recipients = ["b@example.net", "c@example.net"]
    taken = []
    for number in range(16):
        process = _Process(tmp_path, chance.randint(3, 30))
        if process.send(f"mail {number}", recipients):
            taken.append(f"mail {number}")
        process.kill()
    process = _Process(tmp_path)
    _until_empty(Queue(tmp_path / ".queue"))
    process.kill()

    for recipient in recipients:
        mails = [file.read_text() for file in (tmp_path / recipient / "new").iterdir()]
        delivered = [re.findall(r"(?m)^Subject: (.*)$", mail)[0] for mail in mails]
        assert sorted(set(delivered)) == sorted(delivered)
        assert set(taken) <= set(delivered)


def _until_empty(queue: Queue) -> None:
    deadline = time.monotonic() + 120
    while list(queue.mails()):
        assert time.monotonic() < deadline, "mail is still in the queue"
        time.sleep(0.01)


def _ctl(maildir: Path, *arguments: str) -> str:
    result = CliRunner().invoke(command, ["queue", "--maildir", str(maildir), *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_person_holds_releases_flushes_and_deletes_while_it_runs(queue: Queue, tmp_path: Path) -> None:
    _accept(queue, "1", b"smells")
    _accept(queue, "2", b"smells\x1b[31m")
    process = _Process(tmp_path)
    try:
        assert [line.split()[0] for line in _ctl(tmp_path, "list").splitlines()] == ["1", "2"]
        assert '"hold": "smells"' in _ctl(tmp_path, "list", "--json")
        shown = _ctl(tmp_path, "show", "2")
        assert "\x1b" not in shown
        assert "recipient  waiting  <ü@example.net>\n" in shown
        _ctl(tmp_path, "hold", "1")
        _ctl(tmp_path, "flush")
        _ctl(tmp_path, "delete", "2")
        _ctl(tmp_path, "release", "1")
        _until_empty(queue)
    finally:
        process.kill()

    assert len(list((tmp_path / "b@example.net" / "new").iterdir())) == 1
    assert CliRunner().invoke(command, ["queue", "--maildir", str(tmp_path), "show", "1"]).exit_code == 1


def test_a_mailbox_that_cannot_be_written_waits_until_it_can(queue: Queue, tmp_path: Path) -> None:
    (tmp_path / "b@example.net").write_text("in the way")
    process = _Process(tmp_path)
    try:
        assert process.send("x", ["b@example.net", "c@example.net"])
        (mail,) = queue.mails()
        assert [each.address for each in mail.waiting] == ["b@example.net"]
        assert mail.attempts == 1
        listed = _ctl(tmp_path, "list").splitlines()
        assert "  deferred  <a@example.org>  b@example.net" in listed[0]
        assert listed[1:] == ["    <b@example.net> 4.3.0 the mailbox: Not a directory"]
        (tmp_path / "b@example.net").unlink()
        _ctl(tmp_path, "flush", mail.queue_id)
        _until_empty(queue)
    finally:
        process.kill()

    assert [len(list((tmp_path / f"{name}@example.net" / "new").iterdir())) for name in "bc"] == [1, 1]
