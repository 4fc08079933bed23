"""Private keys on disk: read with care, made, written where nobody else can read them.

Which key signs what, and whether DNS has it, is not known here.
"""

import grp
import os
import pwd
import stat
from base64 import b64decode
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from filterd.dkim.key_record import KeyType
from filterd.dkim.sign import SigningKey, SigningKeyError

#: Larger files are no keys, and are not read.
MAX_SIZE = 64 * 1024
# What a key's mode must not have. The group may read: so root can own the keys of a daemon that is not root.
_TOO_OPEN = stat.S_IRWXO | stat.S_IWGRP

Owner = tuple[int, int]  # user and group


class KeyFileError(ValueError):
    """A key file cannot be used or written. The message names the file, and says what to do."""


def load_key(path: Path) -> SigningKey:
    """The key in a PEM file of at most 64 KiB which only its owner can change, and others cannot read.

    Raises KeyFileError.
    """
    pem, mode = _read(path)
    if mode & _TOO_OPEN:
        raise KeyFileError(f"{path}: is open to more than its owner (mode {mode:04o}); chmod 0600 is right, or 0640")
    return parse_key(pem, path)


def read_key(path: Path) -> bytes:
    """The PEM text of a file, whatever its mode, and whatever is in it. Raises KeyFileError."""
    return _read(path)[0]


def parse_key(pem: bytes, path: Path) -> SigningKey:
    """The key in a PEM text; `path` is what the error names. Raises KeyFileError."""
    try:
        return SigningKey.load(pem)
    except SigningKeyError as error:
        raise KeyFileError(f"{path}: {error}") from None


def pem_of(text: str, place: str) -> bytes:
    """PEM of a key that is written as PEM or as base64 of DER; `place` is what the error names. Raises KeyFileError."""
    if text.startswith("-----BEGIN"):
        return text.encode("utf-8")
    try:
        key = load_der_private_key(b64decode(text, validate=True), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError(f"{place}: this is no unencrypted private key") from None
    return _pem(key)


def new_key(kind: KeyType, bits: int = 2048) -> bytes:
    """A new key as PEM (PKCS #8). `bits` is for RSA."""
    if kind is KeyType.RSA:
        return _pem(generate_private_key(public_exponent=65537, key_size=bits))
    return _pem(Ed25519PrivateKey.generate())


def make_folder(path: Path) -> None:
    """Make a folder for keys, unless it exists. Raises KeyFileError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None


def owner_for(directory: Path, named: str | None) -> Owner | None:
    """Whose a key in that folder shall be: USER or USER:GROUP as named; else, if we are root, the folder's owner.

    None is ourselves. Raises KeyFileError.
    """
    try:
        if named is None:
            status = directory.stat()
            return (status.st_uid, status.st_gid) if os.geteuid() == 0 else None
        user, _, group = named.partition(":")
        account = pwd.getpwnam(user)
        return account.pw_uid, grp.getgrnam(group).gr_gid if group else account.pw_gid
    except KeyError:
        raise KeyFileError(f"{named}: there is no such user or group here") from None
    except OSError as error:
        raise KeyFileError(f"{directory}: {error.strerror}") from None


def write_key(path: Path, pem: bytes, owner: Owner | None = None) -> None:
    """Write a new file of mode 0600, and have it on disk when this returns. Nothing is ever overwritten.

    Raises KeyFileError; nothing is left behind then.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path}: exists already, and is not overwritten") from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            if owner is not None:
                os.fchown(descriptor, *owner)
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise KeyFileError(f"{path}: cannot be written: {error.strerror}") from None


def _pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read(path: Path) -> tuple[bytes, int]:
    try:
        # O_NONBLOCK: a FIFO would keep us waiting for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError:
        raise KeyFileError(f"{str(path)!r}: is no file name") from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"{path}: is no regular file")
        if status.st_size > MAX_SIZE:
            raise KeyFileError(f"{path}: is larger than {MAX_SIZE // 1024} KiB, so it is no key")
        return os.read(descriptor, MAX_SIZE), stat.S_IMODE(status.st_mode)
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    # The file's name is on disk only when its folder is (fsync(2)).
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
