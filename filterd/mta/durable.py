"""Files that survive a crash: when these functions return, what they did is on the disk."""

import os
from pathlib import Path


def write_durably(temporary: Path, place: Path, content: bytes) -> None:
    """Make `place` have this content, whole or not at all; `temporary` is on the same file system. Raises OSError."""
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(place)
    sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk: a new one is lost in a crash else. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
