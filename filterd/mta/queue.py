"""The queue on the disk: every mail that was accepted and is not yet everywhere it goes (RFC 5321 4.5.4.1).

A mail is two files. Its content is written once. Its envelope is written after it, replaced whole at each change, and
removed before it: so a mail is in the queue exactly where its envelope is, whenever the machine stops. Whoever works at
a mail locks its content, so that several processes may. Knows nothing of where mail goes.
"""

import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filterd.mta.durable import sync_folder, write_durably
from filterd.mta.queued_mail import EnvelopeError, QueuedMail, read_envelope

_log = logging.getLogger("filterd.mta")
_NAME = re.compile(r"[0-9A-Za-z]{1,64}")
_MAX_ENVELOPE = 16 << 20
_PAUSE = 0.02


class QueueBusyError(OSError):
    """Another process runs this queue, or works at this mail."""


class Queue:
    """The queue in a folder. Methods may be called from any thread, and raise OSError where the disk does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._envelopes, self._contents = folder / "envelope", folder / "content"
        self._temporary, self._aside, self._bell = folder / "tmp", folder / "aside", folder / "bell"
        self._running: int | None = None

    def open(self) -> int:
        """Make the folder, and sweep out what a crash has left. Gives a descriptor that has something to read when
        another process has changed the queue. Raises QueueBusyError where another process runs it."""
        for each in (self._envelopes, self._contents, self._temporary):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._running = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._running, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise QueueBusyError(f"another process runs the queue in {self._folder}") from None
        sync_folder(self._folder)
        sync_folder(self._folder.parent)
        self._sweep()
        with suppress(FileExistsError):
            os.mkfifo(self._bell, 0o600)
        # Open for writing too: else it would be at its end whenever nobody else has it open.
        return os.open(self._bell, os.O_RDWR | os.O_NONBLOCK)

    def close(self) -> None:
        """Let another process run it."""
        if self._running is not None:
            os.close(self._running)
            self._running = None

    def ring(self) -> None:
        """Tell the process that runs the queue, if there is one, that it was changed."""
        with suppress(OSError):
            descriptor = os.open(self._bell, os.O_WRONLY | os.O_NONBLOCK)
            with suppress(OSError):
                os.write(descriptor, b"!")
            os.close(descriptor)

    def accept(self, mail: QueuedMail, content: bytes) -> QueuedMail:
        """Put a mail into the queue: when this returns, it is on the disk. Line ends of the content are CRLF.

        Accepting the same queue id again changes nothing but the envelope.
        """
        mail = replace(mail, size=len(content))
        write_durably(self._temporary / f"{mail.queue_id}.content", self._content(mail.queue_id), content)
        self.update(mail)
        return mail

    def update(self, mail: QueuedMail) -> None:
        """Change the envelope. Who does so holds the mail's lock."""
        place = self._envelopes / mail.queue_id
        write_durably(self._temporary / f"{mail.queue_id}.envelope", place, mail.to_json())

    def remove(self, queue_id: str) -> None:
        """Forget a mail. Who does so holds its lock."""
        (self._envelopes / queue_id).unlink(missing_ok=True)
        sync_folder(self._envelopes)
        self._content(queue_id).unlink(missing_ok=True)

    def content(self, queue_id: str) -> bytes:
        """The mail's content."""
        return self._content(queue_id).read_bytes()

    def get(self, queue_id: str) -> QueuedMail | None:
        """The mail of that id; None where there is none. What is no mail is set aside, with a warning."""
        if not _NAME.fullmatch(queue_id):
            return None
        try:
            with (self._envelopes / queue_id).open("rb") as file:
                mail = read_envelope(file.read(_MAX_ENVELOPE))
            if mail.queue_id != queue_id or mail.size != self._content(queue_id).stat().st_size:
                raise EnvelopeError("envelope and content do not belong together")
        except FileNotFoundError:
            if not (self._envelopes / queue_id).exists():
                return None
            problem = "its content is gone"
        except (EnvelopeError, IsADirectoryError) as error:
            problem = str(error)
        else:
            return mail
        self._set_aside(self._envelopes / queue_id, problem)
        self._set_aside(self._content(queue_id), problem)
        return None

    def mails(self) -> Iterator[QueuedMail]:
        """Every mail, the oldest first."""
        for name in sorted(os.listdir(self._envelopes)) if self._envelopes.is_dir() else ():
            if not _NAME.fullmatch(name):
                self._set_aside(self._envelopes / name, "it is not ours")
            elif (mail := self.get(name)) is not None:
                yield mail

    @contextmanager
    def locked(self, queue_id: str, patience: float = 0.0) -> Iterator[QueuedMail | None]:
        """The mail, for nobody else to work at while the block lasts; None where there is none.

        Raises QueueBusyError where somebody else still works at it after `patience` seconds.
        """
        if self.get(queue_id) is None:
            yield None
            return
        try:
            descriptor = os.open(self._content(queue_id), os.O_RDONLY)
        except FileNotFoundError:
            yield None
            return
        try:
            _lock(descriptor, patience)
            # Only now it is sure what stands in it, and that it is still there.
            yield self.get(queue_id)
        finally:
            os.close(descriptor)

    def _content(self, queue_id: str) -> Path:
        return self._contents / queue_id

    def _sweep(self) -> None:
        for each in (*self._temporary.iterdir(), *self._contents.iterdir()):
            if not _NAME.fullmatch(each.name.partition(".")[0]) or not each.is_file():
                self._set_aside(each, "it is not ours")
            elif not (self._envelopes / each.name).exists():
                # Nobody was told that it was accepted, or it is delivered.
                each.unlink()

    def _set_aside(self, file: Path, problem: str) -> None:
        place = self._aside / f"{file.parent.name}-{file.name}-{time.time_ns()}"
        with suppress(FileNotFoundError):
            self._aside.mkdir(mode=0o700, exist_ok=True)
            file.rename(place)
            _log.warning("queue: %s was set aside as %s: %s", file, place.name, problem)


def _lock(descriptor: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise QueueBusyError("somebody works at this mail") from None
            time.sleep(_PAUSE)
        else:
            return
