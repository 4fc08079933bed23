"""Postfix's two files as they are and as they were before filterd was attached, so that it can be undone to the octet.

The record lies beside main.cf, for root alone: whoever moves or restores the folder has it, too. It is written before
anything is changed, and each file is changed at once: whenever it is interrupted, each is as before or as after.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filterd.postfix.postconf import FILES, PostfixError

_RECORD = "filterd-attached.json"


@dataclass(frozen=True, slots=True)
class Attached:
    """The files before, and each state that filterd was about to make of them since."""

    before: Mapping[str, str]
    made: Sequence[Mapping[str, str]]

    def covers(self, now: Mapping[str, str]) -> bool:
        """Whether nobody else has changed the files since, however far filterd came."""
        return all(now[name] in [each[name] for each in (self.before, *self.made)] for name in FILES)


def texts(folder: Path) -> dict[str, str]:
    """The files as they are. Raises PostfixError."""
    try:
        # surrogateescape: what is read is written again as it was, whatever it is.
        return {name: (folder / name).read_bytes().decode("utf-8", "surrogateescape") for name in FILES}
    except OSError as error:
        raise PostfixError(f"{error.filename} cannot be read: {error.strerror}") from None


def remembered(folder: Path) -> Attached | None:
    """The record, where there is one that can be read."""
    try:
        data = json.loads((folder / _RECORD).read_bytes())
        before, *made = ({name: str(each[name]) for name in FILES} for each in (data["before"], *data["made"]))
        return Attached(before, made)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(folder: Path, attached: Attached | None) -> None:
    """Keep the record in place of an older one; None is no record. Raises PostfixError."""
    if attached is None:
        (folder / _RECORD).unlink(missing_ok=True)
    else:
        _write(folder / _RECORD, json.dumps(asdict(attached)), like=None)


def install(folder: Path, files: Mapping[str, str], order: Sequence[str] = FILES) -> None:
    """Make the files what they shall be, one after another, with the owner and mode that they have.

    Raises PostfixError.
    """
    for name in order:
        path = (folder / name).resolve()
        _write(path, files[name], like=path)


def _write(path: Path, text: str, like: Path | None) -> None:
    aside = path.with_name(f".{path.name}.filterd")
    try:
        # One may be left by an attach that was killed.
        aside.unlink(missing_ok=True)
        with open(aside, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            if like is not None:
                status = like.stat()
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
                os.fchmod(file.fileno(), status.st_mode & 0o7777)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        root = "" if os.geteuid() == 0 else "; try as root"
        raise PostfixError(f"{path} cannot be written: {error.strerror}{root}") from None
