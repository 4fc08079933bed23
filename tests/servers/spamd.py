"""Debian's spamd, private to a test: its own port or socket, the rules of the package, no network tests."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from servers.debian import free_port, unpacked
from servers.milter_process import eventually

#: SpamAssassin's test string: any mail that has it is spam.
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


class SpamdServer:
    """A spamd for a `with`. It can be stopped, paused and started again, at the same place.

    `path` is a unix socket to listen at instead of a port of 127.0.0.1. `options` are more of spamd's own.
    """

    def __init__(self, folder: Path, path: Path | None = None, *options: str) -> None:
        self.port = free_port()
        self.path = path
        #: as a policy has it
        self.address = f"unix:{path}" if path else f"inet:{self.port}@127.0.0.1"
        self._folder = folder
        self._home = Path(tempfile.mkdtemp(prefix="filterd-spamd-"))
        # As root, spamd becomes nobody, who may not be let into the folder of the project.
        self._home.chmod(0o755)
        for package in ("spamassassin", "libio-socket-ssl-perl"):
            shutil.copytree(unpacked(package), self._home / "installed", symlinks=True, dirs_exist_ok=True)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "SpamdServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._home)

    def start(self) -> None:
        program = unpacked("spamd") / "usr/sbin/spamd"
        rules = self._home / "installed"
        where = [f"--socketpath={self.path}"] if self.path else ["-i", "127.0.0.1", "-p", str(self.port)]
        log = self._folder / "spamd.log"
        before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            # -L: local tests alone. -x: no preferences out of home directories. It runs in taint mode: no PERL5LIB.
            self._process = subprocess.Popen(
                [
                    "perl",
                    "-T",
                    f"-I{rules}/usr/share/perl5",
                    str(program),
                    "-L",
                    "-x",
                    "--max-children=2",
                    f"--configpath={rules}/usr/share/spamassassin",
                    f"--siteconfigpath={rules}/etc/spamassassin",
                    f"--helper-home-dir={self._home}",
                    "--syslog=stderr",
                    *(["--username=nobody"] if os.geteuid() == 0 else []),
                    *where,
                    *self._options,
                ],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        eventually(lambda: b"prefork: child states" in log.read_bytes()[before:] or self._process.poll() is not None)
        assert self._process.poll() is None, log.read_text()

    def stop(self) -> None:
        """At once, with all its children, as by kill -9."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Connections are taken by the kernel, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)
