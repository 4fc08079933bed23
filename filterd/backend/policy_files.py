"""Policy files from disk."""

import os
import stat
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from filterd.backend.keys import load_key
from filterd.backend.public_suffixes import load_public_suffixes
from filterd.policy.errors import PolicyError, PolicyErrors
from filterd.policy.load import load
from filterd.policy.nodes import MAX_SIZE, Document
from filterd.policy.policy_tests import MAX_FILE
from filterd.policy.rules import Policy
from filterd.policy.schema import Server


def load_policy(path: Path) -> Policy:
    """Read and compile a policy file. Raises PolicyErrors, also where the file cannot be read."""
    return load(
        _text(path),
        str(path),
        lambda file: load_key(path.parent / file),
        load_public_suffixes,
        cache(lambda file: _read(path.parent / file)),
    )


def load_server(path: Path) -> Server:
    """The server section of a policy file, whatever is wrong with the rest. Raises PolicyErrors."""
    document = Document(_text(path), str(path))
    section = document.data.get("server") if isinstance(document.data, dict) else None
    try:
        return Server.model_validate(section or {})
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise PolicyErrors([document.error(("server",), problem)]) from None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_SIZE + 1).decode("utf-8")
    except OSError as error:
        raise PolicyErrors([PolicyError(str(path), 1, 1, "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PolicyErrors([PolicyError(str(path), line, 1, "", "is not UTF-8 text")]) from None


def _read(path: Path) -> bytes:
    """What a test's file has. Raises ValueError."""
    try:
        # O_NONBLOCK: a FIFO would keep us waiting for its writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError(f"{path}: is no regular file")
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise ValueError(f"{path}: is larger than {MAX_FILE // 1024} KiB")
    return data
