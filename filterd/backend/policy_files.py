"""Policy files from disk."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from glob import glob, has_magic
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from filterd.backend.keys import load_key
from filterd.backend.public_suffixes import load_public_suffixes
from filterd.policy.errors import PolicyError, PolicyErrors
from filterd.policy.load import load
from filterd.policy.nodes import MAX_SIZE, Document
from filterd.policy.policy_tests import MAX_FILE
from filterd.policy.rules import Policy
from filterd.policy.schema import Server
from filterd.policy.shadow import Candidate

_MAX_SECRET = 4096
# Five million addresses.
_MAX_LIST = 128 * 1024 * 1024


def load_policy(path: Path) -> Policy:
    """Read and compile a policy file, and the one in its shadow. Raises PolicyErrors, also where the file cannot be
    read; what is wrong with the one in shadow is no error of this one."""
    policy = _load(path)
    if policy.settings.shadow is None:
        return policy
    beside = path.parent / policy.settings.shadow
    try:
        return replace(policy, shadow=Candidate(str(beside), _load(beside)))
    except PolicyErrors as errors:
        return replace(policy, shadow=Candidate(str(beside), errors=errors.errors))


def _load(path: Path) -> Policy:
    return load(
        _text(path),
        str(path),
        lambda file: load_key(path.parent / file),
        load_public_suffixes,
        cache(lambda file: _read(path.parent / file, MAX_FILE)),
        lambda pattern: _included(path.parent, pattern),
        lambda file: _secret(path.parent / file),
        lambda file: _read(path.parent / file, _MAX_LIST),
    )


def load_server(path: Path) -> Server:
    """The server section of a policy file, whatever is wrong with the rest. Raises PolicyErrors."""
    document = read_document(path)
    section = document.data.get("server") if isinstance(document.data, dict) else None
    try:
        # Whoever asks where the daemon is may be one who may not read its passwords.
        return Server.model_validate(section or {}, context={"read_secret": lambda _: ""})
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise PolicyErrors([document.error(("server",), problem)]) from None


def read_document(path: Path) -> Document:
    """A policy file and what it includes, with the place of everything. Raises PolicyErrors."""
    return Document(_text(path), str(path), lambda pattern: _included(path.parent, pattern))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _decoded(path, file.read(MAX_SIZE + 1))
    except OSError as error:
        raise PolicyErrors([PolicyError(str(path), 0, 0, "", f"cannot be read: {error.strerror}")]) from None


def _decoded(path: Path, octets: bytes) -> str:
    """Raises PolicyErrors for what is no text."""
    try:
        # A cut character at the end of what is too large anyway is no matter.
        return octets.decode("utf-8", "strict" if len(octets) <= MAX_SIZE else "replace")
    except UnicodeDecodeError as error:
        before = octets[: error.start]
        line, column = before.count(b"\n") + 1, len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        raise PolicyErrors([PolicyError(str(path), line, column, "", "is not UTF-8 text")]) from None


def _included(folder: Path, pattern: str) -> list[tuple[str, str]]:
    """The files that a pattern means, by name; a pattern may mean none. Raises ValueError and PolicyErrors."""
    if not pattern or "\0" in pattern:
        raise ValueError("here stands the name of a file, or a pattern such as rules.d/*.yaml")
    path = folder / pattern
    found = sorted(Path(each) for each in glob(str(path))) if has_magic(pattern) else [path]
    try:
        return [(str(each), _include(each)) for each in found]
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from None


def _include(path: Path) -> str:
    with _opened(path) as file:
        return _decoded(path, file.read(MAX_SIZE + 1))


def _secret(path: Path) -> str:
    """The one line of a file that others cannot read. Raises ValueError."""
    try:
        with _opened(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            octets = file.read(_MAX_SECRET + 1)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from None
    if mode & stat.S_IRWXO:
        raise ValueError(f"{path} is open to everybody (mode {mode:04o}); chmod 0600 is right, or 0640")
    secret = octets.decode("utf-8", "replace").removesuffix("\n")
    if not secret or len(octets) > _MAX_SECRET or not secret.isprintable():
        raise ValueError(f"{path} has no secret: one line of text")
    return secret


def _read(path: Path, limit: int) -> bytes:
    """What a file has that the policy names. Raises ValueError."""
    try:
        with _opened(path) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > limit:
        raise ValueError(f"{path}: is larger than {limit // 1024} KiB")
    return data


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file that the policy names. Raises OSError."""
    # O_NONBLOCK: a FIFO would keep us waiting for its writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        yield file
