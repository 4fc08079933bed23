"""SpamAssassin's spamd for the demonstration: Debian's, installed or unpacked into .tools, by its local rules alone.

It listens at a unix socket, asks nobody on the network, and learns nothing.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

_PATIENCE = 60.0  # seconds; it reads hundreds of rules
_UNPACKED = Path(__file__).parents[2] / ".tools"
_ROOT = Path("/")


class SpamdError(Exception):
    """There is no spamd here, or it does not work; the message says which."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Where spamd is, and SpamAssassin's modules and rules; each folder is laid out as a machine's root."""

    spamd: Path
    spamassassin: Path

    @property
    def complete(self) -> bool:
        """Whether both are there."""
        return (self.spamd / "usr/sbin/spamd").is_file() and (self.spamassassin / "usr/share/spamassassin").is_dir()


#: Where it is looked for.
PLACES = (Installation(_UNPACKED / "spamd", _UNPACKED / "spamassassin"), Installation(_ROOT, _ROOT))


@contextmanager
def running(folder: Path, places: tuple[Installation, ...] = PLACES) -> Iterator[Path]:
    """Run it with its socket and log in a folder; yields the socket. Raises SpamdError."""
    found = next((each for each in places if each.complete), None)
    perl = shutil.which("perl")
    if found is None or perl is None:
        raise SpamdError("there is no spamd on this machine; Debian's packages spamd and spamassassin have it")
    path, log = folder / "spamd.sock", folder / "spamd.log"
    with ExitStack() as stack:
        # Started by root, spamd becomes nobody, who may read neither the checkout nor the demonstration's folder.
        home = Path(stack.enter_context(TemporaryDirectory(prefix="filterd-spamd-")))
        home.chmod(0o755)
        if found.spamassassin != _ROOT:
            shutil.copytree(found.spamassassin, home / "spamassassin", symlinks=True)
            found = replace(found, spamassassin=home / "spamassassin")
        output = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(  # noqa: S603 # found above
            [perl, "-T", *_arguments(found, path, home)],
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the demonstration, which ends its parts in order
        )
        stack.callback(_stop, process)
        _wait_until_ready(process, path, log)
        yield path


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with its children
        process.wait()


def _arguments(found: Installation, path: Path, home: Path) -> list[str]:
    # -L: local tests alone. -x: no preferences out of home directories.
    return [
        f"-I{found.spamassassin}/usr/share/perl5",  # in taint mode, Perl reads no PERL5LIB
        f"{found.spamd}/usr/sbin/spamd",
        "-L",
        "-x",
        "--max-children=2",
        f"--configpath={found.spamassassin}/usr/share/spamassassin",
        f"--siteconfigpath={found.spamassassin}/etc/spamassassin",
        f"--helper-home-dir={home}",
        "--cf=score RCVD_ILLEGAL_IP 0",  # clients here have addresses that are for documentation alone
        "--syslog=stderr",
        f"--socketpath={path}",
        *(["--username=nobody"] if os.geteuid() == 0 else []),
    ]


def _wait_until_ready(process: "subprocess.Popen[bytes]", path: Path, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_PATIENCE)
            client.connect(str(path))
            client.sendall(b"PING SPAMC/1.5\r\n\r\n")
            if b"PONG" in client.recv(100):
                return
        time.sleep(0.05)
    raise SpamdError(
        f"spamd did not start; its log: {log}\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}"
    )
