"""One user's inbox as POP3 sees it: what was there at login, numbered, until it is deleted at the end.

Reads what `deliver` writes; other programs may move messages from new to cur meanwhile, or delete them.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StoredMail:
    """A message. `uid` stays the same for ever; `size` is in octets, as it is sent, with CRLF."""

    name: str
    uid: str
    size: int


class Maildrop:
    """The messages of a Maildir, oldest first. Raises OSError where the disk does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        names = {path.name.partition(":")[0]: path for part in ("new", "cur") for path in (folder / part).glob("*")}
        mails = []
        for name, path in sorted(names.items()):
            # Who reads by IMAP may have taken it away just now.
            with suppress(FileNotFoundError):
                mails.append(StoredMail(name, sha256(name.encode()).hexdigest()[:32], len(read_mail(path))))
        self.mails: Sequence[StoredMail] = mails

    def content(self, mail: StoredMail) -> bytes:
        """The message, with CRLF. Raises FileNotFoundError where it was deleted meanwhile."""
        return read_mail(self._path(mail))

    def delete(self, mail: StoredMail) -> None:
        """Delete it, if it is still there."""
        with suppress(FileNotFoundError):
            self._path(mail).unlink()

    def _path(self, mail: StoredMail) -> Path:
        # Looked for in this order, it is found wherever it is moved.
        new = self._folder / "new" / mail.name
        return new if new.exists() else next((self._folder / "cur").glob(f"{mail.name}*"), new)


def read_mail(path: Path) -> bytes:
    """A message as it is sent, with CRLF."""
    return path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
