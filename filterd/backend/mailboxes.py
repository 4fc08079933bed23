"""Stored mails, one at a time: of an mbox, a Maildir, a folder of .eml files, or one file. Memory holds one mail.

Knows nothing of what a mail says. What cannot be read is told in its place, and stops nothing.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: A mail with more octets is told of, and not read.
MAX_MAIL = 64 * 1024 * 1024
_LINE = 65_536
# mboxrd: each quoting adds one, so one is taken away.
_QUOTED = re.compile(rb">+From ")


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored mail. `name` is where it is, `octets` how much of the mailbox was read for it; without `data`, `why`."""

    name: str
    octets: int
    data: bytes | None
    why: str = ""


def size_of(path: Path) -> int:
    """How many octets `mails` is going to read."""
    return sum(_size(file) for file in _files(path))


def mails(path: Path) -> Iterator[Kept]:
    """Every mail below a path, in a stable order. Raises OSError where the path itself cannot be read."""
    if path.is_file():
        yield from _file(path, path.name)
        return
    os.scandir(path).close()
    for file in _files(path):
        yield from _file(file, str(file.relative_to(path)))


def _files(path: Path) -> Iterator[Path]:
    """A file itself; of a folder what new/ and cur/ of Maildirs have, and files that are named as mail is."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        here = Path(folder)
        maildir = here.name in ("new", "cur")
        for name in sorted(names):
            if maildir or name.endswith((".eml", ".mbox")):
                yield here / name


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _file(file: Path, name: str) -> Iterator[Kept]:
    try:
        if not file.is_file():
            yield Kept(name, 0, None, "is no file")
            return
        with file.open("rb") as stream:
            start = stream.read(5)
            stream.seek(0)
            if start == b"From ":
                yield from _mbox(stream, name)
                return
            data = stream.read(MAX_MAIL + 1)
    except OSError as error:
        yield Kept(name, 0, None, f"cannot be read: {error.strerror}")
        return
    if len(data) > MAX_MAIL:
        yield Kept(name, _size(file), None, f"is larger than {MAX_MAIL} octets")
    else:
        yield Kept(name, len(data), data)


def _mbox(stream: IO[bytes], name: str) -> Iterator[Kept]:
    """The mails of an mbox: each begins with a line `From ` at its start or behind an empty line (RFC 4155)."""
    number, octets, size = 0, 0, 0
    lines: list[bytes] = []
    blank = whole = True  # the line before was empty; this one begins a line
    while line := stream.readline(_LINE):
        if whole and blank and line.startswith(b"From ") and octets:
            number += 1
            yield _mail(f"{name}:{number}", octets, size, lines)
            lines, octets, size = [], 0, 0
        begins = octets == 0
        octets += len(line)
        if not begins:  # the From line is no part of the mail
            size += len(line)
            if size <= MAX_MAIL:
                lines.append(line[1:] if whole and _QUOTED.match(line) else line)
            else:
                lines.clear()
        blank = whole and line in (b"\n", b"\r\n")
        whole = line.endswith(b"\n")
    if octets:
        yield _mail(f"{name}:{number + 1}", octets, size, lines)


def _mail(name: str, octets: int, size: int, lines: list[bytes]) -> Kept:
    if size > MAX_MAIL:
        return Kept(name, octets, None, f"is larger than {MAX_MAIL} octets")
    # The empty line before the next From line is the mailbox's.
    if lines and lines[-1] in (b"\n", b"\r\n"):
        lines.pop()
    return Kept(name, octets, b"".join(lines))
