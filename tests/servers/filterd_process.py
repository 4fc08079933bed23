"""`filterd run` as a process of its own, its log, and its workers."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from servers.milter_process import eventually, python_environment

#: What Python runs for the command `filterd`.
COMMAND = ("-c", "from filterd.cli.main import main; main()")
_RUN = (*COMMAND, "run", "-p")
_PATIENCE = 60.0


class FilterdProcess:
    """The daemon with its socket and policy in a folder, for a `with`.

    `server` is what stands in the policy's section besides socket, workers and engine. `program` is what Python runs, which
    logs `ready_line` when it is ready.
    """

    ready_line = "event=ready"
    engine = "native"

    def __init__(
        self,
        folder: Path,
        policy: str = "",
        *,
        address: str | None = None,
        server: str = "",
        workers: int = 2,
        program: Sequence[str] = _RUN,
        ready: bool = True,
    ) -> None:
        self.path = folder / "milter"
        self.address = address or f"unix:{self.path}"
        self._policy = folder / "policy.yaml"
        self._log = folder / "log"
        self._server = f'milter: ["{self.address}"], workers: {workers}, engine: {self.engine}, {server}'
        self._program = program
        self._ready = ready
        self.write(policy)

    def write(self, policy: str) -> None:
        """Change the policy file: what stands behind `version` and `server`."""
        self._policy.write_text(f"version: 1\nserver: {{ {self._server} }}\n{policy}\n")

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self._program, str(self._policy)], stderr=log, env=python_environment()
            )
        if self._ready:
            eventually(lambda: self.ready_line in self.log() or self.process.poll() is not None)
            assert self.process.poll() is None, self.log()
        return self

    def __exit__(self, *_: object) -> None:
        workers = self.workers()
        self.process.kill()
        self.process.wait()
        for pid in workers:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)

    def log(self) -> str:
        """All that was logged."""
        return self._log.read_text()

    def workers(self) -> list[int]:
        """The processes that it started, those included that it lets go."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == self.process.pid]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; returns the exit status."""
        return self.process.wait(_PATIENCE)


def alive(pid: int) -> bool:
    """Whether the process runs: a dead one that nobody waited for does not."""
    return _parent(pid) is not None


def _parent(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The program's name stands in parentheses, and may have anything in it.
    state, parent = status.rpartition(")")[2].split()[:2]
    return None if state == "Z" else int(parent)
