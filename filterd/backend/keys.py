"""Private keys on disk."""

import stat
from pathlib import Path

from filterd.dkim.sign import SigningKey, SigningKeyError

_MAX_SIZE = 64 * 1024


class KeyFileError(ValueError):
    """A key file cannot be used; the message names it and says why."""


def load_key(path: Path) -> SigningKey:
    """Read a private key that nobody else can read. Raises KeyFileError."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            pem = file.read(_MAX_SIZE)
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from None
    if mode & 0o027:
        raise KeyFileError(f"{path}: others can read or change it (mode {mode:04o}); chmod 600 {path}")
    try:
        return SigningKey.load(pem)
    except SigningKeyError as error:
        raise KeyFileError(f"{path}: {error}") from None
