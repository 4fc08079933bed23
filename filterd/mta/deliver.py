"""Deliver into Maildirs: one folder for every recipient.

When a delivery returns, the mail is on the disk (RFC 5321 6.1). A file's name is made from queue id and recipient, so
that delivering again changes nothing. Files have LF line ends, as every local mailbox on Unix.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from filterd.mta.durable import sync_folder, write_durably
from filterd.mta.queued_mail import Fate, QueuedMail, QueuedRecipient

_log = logging.getLogger("filterd.mta")
_MAX_FOLDER = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Maildirs:
    """The mailboxes under one root. `hostname` is written into file names, as the Maildir rules ask."""

    def __init__(self, root: Path, hostname: str) -> None:
        self._root = root
        self._hostname = _file_name(hostname)

    def folder(self, recipient: str) -> Path:
        """The Maildir of an address: `local@domain` in lower case, what a path must not have per cent encoded."""
        return self._root / _file_name(recipient.lower())

    def made(self, recipient: str) -> Path:
        """The Maildir of an address, which is made where there is none. Raises OSError."""
        folder = self.folder(recipient)
        if not (folder / "cur").is_dir():
            for each in ("tmp", "new", "cur"):
                (folder / each).mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(folder)
            sync_folder(self._root)
        return folder

    def deliver(
        self, mail: QueuedMail, recipients: Sequence[QueuedRecipient], content: bytes
    ) -> Iterator[QueuedRecipient]:
        """Write the mail into these recipients' mailboxes, and say what came of each."""
        content = content.replace(b"\r\n", b"\n")
        for each in recipients:
            trace = f"Return-Path: <{_in_line(mail.sender)}>\nDelivered-To: {_in_line(each.address)}\n".encode()
            try:
                self._write(self.made(each.address), self._name(mail, each.address), trace + content)
            except OSError as error:
                _log.error("delivery to %s: %s", each.address, error)
                yield QueuedRecipient(each.address, Fate.WAITING, "4.3.0", f"the mailbox: {error.strerror}")
            else:
                yield QueuedRecipient(each.address, Fate.DELIVERED, "2.0.0", "delivered to the mailbox")

    def _name(self, mail: QueuedMail, recipient: str) -> str:
        return f"{mail.queue_id}.{sha256(recipient.encode()).hexdigest()[:12]}.{self._hostname}"

    def _write(self, folder: Path, name: str, content: bytes) -> None:
        # It may have been delivered before a crash. Readers move mail from new to cur: looked for in this order, it is
        # found wherever it is.
        if (folder / "new" / name).exists() or any((folder / "cur").glob(f"{name}*")):
            return
        write_durably(folder / "tmp" / name, folder / "new" / name, content)


def _in_line(address: str) -> str:
    # A milter may have put anything into it.
    return _CONTROL.sub("?", address)


def _file_name(text: str) -> str:
    name = quote(text, safe="@+=!#$&'^{}~", errors="replace")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _MAX_FOLDER:
        name = f"{name[:_MAX_FOLDER]}~{sha256(text.encode('utf-8', 'replace')).hexdigest()[:16]}"
    return name
