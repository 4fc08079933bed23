"""Reading and changing a Postfix by its own programs, `postconf` and `postfix`; nothing else touches its files."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filterd.postfix.config import Config, Service
from filterd.postfix.plan import Change

#: The files that are changed.
FILES = ("main.cf", "master.cf")
_PATIENCE = 120.0


class PostfixError(Exception):
    """Postfix cannot be asked, or does not do what it was told; the message says why."""


def read(directory: Path | None) -> Config:
    """How the Postfix with this configuration directory is configured; None is the machine's. Raises PostfixError."""
    folder = directory or Path(_postconf(None, "-dh", "config_directory").strip())
    if not (folder / "main.cf").is_file():
        raise PostfixError(f"{folder}: there is no main.cf, so no Postfix is configured there")
    chroot_by_default = _postconf(folder, "-h", "compatibility_level").partition(".")[0].strip() in ("", "0")
    written, values = _overrides(folder, "-P"), _overrides(folder, "-Px")
    services = []
    for line in _postconf(folder, "-M").splitlines():
        name, kind, _, _, chroot, _, _, command, *_ = line.split()
        held = chroot == "y" or (chroot == "-" and chroot_by_default)
        key = f"{name}/{kind}"
        services.append(Service(name, kind, held, command, written.get(key, {}), values.get(key, {})))
    return Config(str(folder), _settings(folder, "-n"), _settings(folder, "-x"), tuple(services))


@contextmanager
def scratch(folder: str) -> Iterator[Path]:
    """A copy of the configuration, to see what changes would make of it."""
    with tempfile.TemporaryDirectory(prefix="filterd-postfix-") as name:
        for file in FILES:
            shutil.copy2(Path(folder) / file, name)
        yield Path(name)


def change(folder: Path, changes: Sequence[Change]) -> None:
    """Carry them out. Raises PostfixError."""
    for each in changes:
        name = f"{each.service}/{each.name}" if each.service else each.name
        if each.after is None:
            _postconf(folder, "-PX" if each.service else "-X", name)
        else:
            _postconf(folder, "-P" if each.service else "-e", f"{name}={each.after}")


def check(folder: Path) -> str:
    """What `postfix check` complains of: nothing, if all is well."""
    done = _run(["postfix", "-c", str(folder), "check"])
    return (done.stdout + done.stderr).strip() or ("" if done.returncode == 0 else f"status {done.returncode}")


def _settings(folder: Path, option: str) -> dict[str, str]:
    lines = (line.partition("=") for line in _postconf(folder, option).splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in lines}


def _overrides(folder: Path, option: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, value in _settings(folder, option).items():
        service, _, parameter = name.rpartition("/")
        found.setdefault(service, {})[parameter] = value
    return found


def _postconf(folder: Path | None, *words: str) -> str:
    where = [] if folder is None else ["-c", str(folder)]
    done = _run(["postconf", *where, *words])
    if done.returncode != 0:
        raise PostfixError(done.stderr.strip() or f"postconf ended with {done.returncode}")
    return done.stdout


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # Users' PATHs often lack the folders of administration.
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    program = shutil.which(command[0], path=path)
    if program is None:
        raise PostfixError(f"there is no {command[0]} on this machine")
    try:
        return subprocess.run(  # noqa: S603 - the program is Postfix's, the words are no shell's
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            env={**os.environ, "PATH": path},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PostfixError(f"{command[0]}: {error}") from None
