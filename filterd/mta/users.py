"""Who may log in: a file with one NAME:HASH a line. Passwords are kept as scrypt (RFC 7914) hashes only.

A hash reads `$scrypt$ln=14,r=8,p=5$SALT$KEY`, salt and key in base64 without padding, as the PHC string format has it.
"""

import binascii
import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping

# 16 MiB and some 0.2 s for each guess (OWASP's least for scrypt).
_LOG_N, _R, _P = 14, 8, 5
# What a file may ask for: four times as much memory, ten times as much time.
_MAX_MEMORY = 64 << 20
_MAX_WORK = 10 * (_R * _P << _LOG_N)
_HASH = re.compile(
    r"\$scrypt\$ln=(?P<ln>[0-9]{1,2}),r=(?P<r>[0-9]{1,2}),p=(?P<p>[0-9]{1,2})"
    r"\$(?P<salt>[A-Za-z0-9+/]{11,86})\$(?P<key>[A-Za-z0-9+/]{22,86})"
)
_MAX_NAME = 255


class UserFileError(ValueError):
    """A line of the file is wrong; `line` counts from 1."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


class HashedUsers:
    """Names and the hashes of their passwords. Called with a name and a password, it tells whether they go together."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = hashes
        # A name that is not known costs as much time as one that is.
        self._nobody = hash_password(secrets.token_hex())

    def __len__(self) -> int:
        return len(self._hashes)

    def __call__(self, name: str, password: str) -> bool:
        known = self._hashes.get(name)
        return _matches(known or self._nobody, password) and known is not None


def read_users(text: str) -> dict[str, str]:
    """The names and hashes of a file; empty lines and those that begin with # are left out. Raises UserFileError."""
    users: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, hashed = line.strip().partition(":")
        if not colon or not is_name(name):
            raise UserFileError(number, "a line reads NAME:HASH, as `filterd mta passwd` writes it")
        if not _is_hash(hashed):
            raise UserFileError(number, "behind the name stands no scrypt hash; `filterd mta passwd` makes one")
        if name in users:
            raise UserFileError(number, f"{name} stands in the file twice")
        users[name] = hashed
    return users


def is_name(name: str) -> bool:
    """Whether the name can be in a file of users, in a macro and in a log."""
    return 0 < len(name) <= _MAX_NAME and name.isprintable() and not set(name) & set(" :#")


def hash_password(password: str) -> str:
    """The hash of a password, with a salt of its own."""
    salt = secrets.token_bytes(16)
    key = _scrypt(password, salt, _LOG_N, _R, _P, 32)
    return f"$scrypt$ln={_LOG_N},r={_R},p={_P}${_base64(salt)}${_base64(key)}"


def _is_hash(text: str) -> bool:
    found = _HASH.fullmatch(text)
    if found is None:
        return False
    n, r, p = 1 << int(found["ln"]), int(found["r"]), int(found["p"])
    if n < 2 or not r or not p or 128 * n * r > _MAX_MEMORY or n * r * p > _MAX_WORK:
        return False
    try:
        return bool(_octets(found["salt"]) and _octets(found["key"]))
    except binascii.Error:
        return False


def _matches(hashed: str, password: str) -> bool:
    found = _HASH.fullmatch(hashed)
    assert found is not None, "read_users lets in hashes alone"
    key = _octets(found["key"])
    made = _scrypt(password, _octets(found["salt"]), int(found["ln"]), int(found["r"]), int(found["p"]), len(key))
    return hmac.compare_digest(made, key)


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int, length: int) -> bytes:
    octets = password.encode("utf-8", "surrogateescape")
    return hashlib.scrypt(octets, salt=salt, n=1 << log_n, r=r, p=p, maxmem=2 * _MAX_MEMORY, dklen=length)


def _base64(octets: bytes) -> str:
    return b64encode(octets).decode().rstrip("=")


def _octets(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4))
