"""Programs of Debian packages that `make servers` unpacked into .tools, and what it takes to run one from there.

The packages are not installed: a server that is would start with the machine, and Postfix would take the place of the
MTA that is there. So each program is told where its own files are, and nothing of /etc is read or written.
"""

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

_TOOLS = Path(__file__).parents[2] / ".tools"


def unpacked(package: str) -> Path:
    """The folder that holds the package's files as / would, or a RuntimeError that says what to do."""
    folder = _TOOLS / package
    if not folder.is_dir():
        raise RuntimeError(f"{folder} is missing: run `make servers`")
    return folder


def as_root(command: Sequence[str | Path]) -> list[str]:
    """The command line that runs `command` as root: by sudo for others than root, and never with a question."""
    words = [str(word) for word in command]
    if os.geteuid() == 0:
        return words
    if shutil.which("sudo") is None:
        raise RuntimeError(f"only root can run {words[0]}, and there is no sudo")
    return ["sudo", "-n", *words]


def run_as_root(*command: str | Path) -> str:
    """What the command printed; raises CalledProcessError, with stderr in its notes, if it failed."""
    done = subprocess.run(as_root(command), capture_output=True, text=True, errors="surrogateescape")
    if done.returncode != 0:
        error = subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
        error.add_note(done.stderr)
        raise error
    return done.stdout


def free_port() -> int:
    """A port of 127.0.0.1 that nothing uses now, neither by TCP nor by UDP.

    It is below the range out of which the kernel serves clients, so that no connection of another test takes it before
    the server does; and drawn, so that two test runs at once hardly meet.
    """
    draw = random.SystemRandom()
    while True:
        port = draw.randrange(20_000, 32_000)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        ):
            try:
                stream.bind(("127.0.0.1", port))
                datagram.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
