"""Reading a Postfix by its own programs, `postconf` and `postfix`, and seeing what changes would make of it.

What is changed is a copy, by `postconf -e`, `-P` and `-X`; `attached` puts it in place.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filterd.postfix.config import Config, Service
from filterd.postfix.plan import Change

#: The files that are changed. main.cf comes first: master.cf may name what it sets.
FILES = ("main.cf", "master.cf")
_PATIENCE = 120.0  # seconds
_TWICE = ": overriding earlier entry: "


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
        name, kind, _, _, chroot, _, _, command, *words = line.split()
        held = chroot == "y" or (chroot == "-" and chroot_by_default)
        key = f"{name}/{kind}"
        services.append(
            Service(name, kind, held, command, tuple(words), written.get(key, {}), values.get(key, {})),
        )
    return Config(str(folder), _settings(folder, "-n"), _settings(folder, "-x"), tuple(services))


@contextmanager
def changed(folder: Path, changes: Sequence[Change]) -> Iterator[Path]:
    """A copy of the configuration, changed so. Raises PostfixError."""
    with tempfile.TemporaryDirectory(prefix="filterd-postfix-") as name:
        copy = Path(name)
        for file in FILES:
            shutil.copyfile(folder / file, copy / file)
        for each in changes:
            _settle(copy)
            setting = f"{each.service}/{each.name}" if each.service else each.name
            if each.after is None:
                _postconf(copy, "-PX" if each.service else "-X", setting)
            else:
                _postconf(copy, "-P" if each.service else "-e", f"{setting}={each.after}")
        _settle(copy)
        yield copy


def _settle(folder: Path) -> None:
    """Postfix reads a file that changed within the last second again, until it is older."""
    os.utime(folder / "main.cf", (0, 0))


def complaints(folder: Path) -> list[str]:
    """What `postfix check` complains of: nothing, if all is well. Of settings that stand twice it always does."""
    done = _run(["postfix", "-c", str(folder), "check"])
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip() and _TWICE not in line]
    return said or ([] if done.returncode == 0 else [f"postfix check ends with {done.returncode}"])


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
        said = done.stderr.splitlines()
        wrong = [line for line in said if ": fatal: " in line or ": error: " in line] or said
        raise PostfixError("\n".join(wrong) or f"postconf ended with {done.returncode}")
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
