"""What a Postfix's files were before filterd was attached, so that it can be undone to the octet.

The record lies beside main.cf, for root alone: whoever moves or restores the folder has it, too.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filterd.postfix.postconf import FILES, PostfixError

_RECORD = "filterd-attached.json"


@dataclass(frozen=True, slots=True)
class Attached:
    """The files before and after."""

    before: Mapping[str, str]
    after: Mapping[str, str]


def texts(folder: Path) -> dict[str, str]:
    """The files as they are. Raises PostfixError."""
    try:
        # surrogateescape and newline: what is read is written again as it was, whatever it is.
        return {name: _read(folder / name) for name in FILES}
    except OSError as error:
        raise PostfixError(f"{error.filename} cannot be read: {error.strerror}") from None


def remembered(folder: Path) -> Attached | None:
    """The record, where there is one that can be read."""
    try:
        data = json.loads((folder / _RECORD).read_bytes())
        return Attached(dict(data["before"]), dict(data["after"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(folder: Path, attached: Attached) -> None:
    """Keep the record; an older one is replaced."""
    _write(folder / _RECORD, json.dumps(asdict(attached)), like=None)


def forget(folder: Path) -> None:
    with suppress(FileNotFoundError):
        (folder / _RECORD).unlink()


def restore(folder: Path, files: Mapping[str, str]) -> None:
    """Make the files what they were, each at once, with the owner and mode that they have."""
    for name in FILES:
        _write(folder / name, files[name], like=folder / name)


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _write(path: Path, text: str, like: Path | None) -> None:
    aside = path.with_name(f".{path.name}.filterd")
    with suppress(FileNotFoundError):
        aside.unlink()
    with open(aside, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text.encode("utf-8", "surrogateescape"))
        if like is not None:
            status = like.stat()
            os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.fchmod(file.fileno(), status.st_mode & 0o7777)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
