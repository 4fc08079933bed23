"""Deliver into Maildirs: one folder for every recipient, and one for what is on hold.

When a delivery returns, the mail is on the disk (RFC 5321 6.1). A file's name is made from queue id and recipient, so
that delivering again changes nothing. Files have LF line ends, as every local mailbox on Unix.
"""

import os
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from filterd.mta.mail_object import MailObject

_HOLD = ".hold"
_MAX_FOLDER = 200


class Maildirs:
    """The mailboxes under one root. `hostname` is written into file names, as the Maildir rules ask."""

    def __init__(self, root: Path, hostname: str) -> None:
        self._root = root
        self._hostname = _file_name(hostname)

    def folder(self, recipient: str) -> Path:
        """The Maildir of an address: `local@domain` in lower case, what a path must not have per cent encoded."""
        return self._root / _file_name(recipient.lower())

    def deliver(self, mail: MailObject) -> None:
        """Write the mail into every recipient's mailbox. Raises OSError; then some may have it and some not."""
        content = mail.content
        for recipient in mail.recipients:
            trace = b"Return-Path: <" + mail.sender + b">\r\nDelivered-To: " + recipient + b"\r\n"
            folder = self.folder(recipient.decode("utf-8", "replace"))
            self._write(folder, self._name(mail, recipient), trace + content)

    def hold(self, mail: MailObject) -> None:
        """Keep the mail for a person to look at, with its envelope and the reason on top. Raises OSError."""
        lines = [b"X-Hold-Reason: " + b" ".join((mail.hold or b"").split()), b"X-Envelope-From: <" + mail.sender + b">"]
        lines += [b"X-Envelope-To: <" + recipient + b">" for recipient in mail.recipients]
        trace = b"".join(line + b"\r\n" for line in lines)
        self._write(self._root / _HOLD, self._name(mail, b""), trace + mail.content)

    def _name(self, mail: MailObject, recipient: bytes) -> str:
        return f"{mail.queue_id}.{sha256(recipient).hexdigest()[:12]}.{self._hostname}"

    def _write(self, folder: Path, name: str, content: bytes) -> None:
        self._make(folder)
        if any((folder / "cur").glob(f"{name}*")):
            return
        temporary = folder / "tmp" / name
        with temporary.open("wb") as file:
            file.write(content.replace(b"\r\n", b"\n"))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / "new" / name)
        _sync(folder / "new")

    def _make(self, folder: Path) -> None:
        if (folder / "cur").is_dir():
            return
        for each in ("tmp", "new", "cur"):
            (folder / each).mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(folder)
        _sync(self._root)


def _sync(folder: Path) -> None:
    # A new name is lost in a crash unless its folder is on the disk too.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_name(text: str) -> str:
    name = quote(text, safe="@+=!#$&'^{}~", errors="replace")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _MAX_FOLDER:
        name = f"{name[:_MAX_FOLDER]}~{sha256(text.encode('utf-8', 'replace')).hexdigest()[:16]}"
    return name
