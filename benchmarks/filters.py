"""A filter that is measured, on a unix socket, and filterd as one.

What a filter does is a job: verify (SPF, DKIM, DMARC as far as it can) or sign. All run as root, as some insist on it
to begin with, and ask the name server of the benchmark.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mails import DOMAIN, SELECTOR

_HOME = Path(__file__).parents[1]
_PATIENCE = 60.0  # seconds
_RULES = """\
rules:
  - name: refuse-forgery
    when: dmarc.result == "fail" && dmarc.policy == "reject" && !message.indirect
    then: reject
  - name: quarantine-forgery
    when: dmarc.result == "fail" && dmarc.policy in ["reject", "quarantine"]
    then: quarantine
  - name: unauthenticated
    when: dmarc.result != "pass" && spf.result != "pass" && dkim.result != "pass"
    then: tag
"""


class Job(StrEnum):
    """What the mail is for."""

    VERIFY = "verify"
    SIGN = "sign"


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a filter runs: its folder, the name server's address (port 53), the private key."""

    folder: Path
    nameserver: str
    key: Path


@dataclass(frozen=True, slots=True)
class Filter:
    """One that runs. `wants` is what it has to add to each mail, or the figures are of something else."""

    name: str
    socket: str
    pid: int
    wants: str


@contextmanager
def filterd(job: Job, setting: Setting, workers: int = 2, more: str = "") -> Iterator[Filter]:
    """filterd, with the rules of its default policy and `more` of the policy."""
    socket = setting.folder / "milter.sock"
    policy = setting.folder / "policy.yaml"
    keys = f"{{ selector: {SELECTOR}, file: {setting.key} }}"
    ours = f'networks: {{ trusted: ["192.0.2.0/24"] }}\nsign: [{{ domains: [{DOMAIN}], keys: [{keys}] }}]\n'
    policy.write_text(
        f'version: 1\nserver: {{ milter: ["unix:{socket}"], workers: {workers} }}\n'
        f'identity: {{ authserv_id: mx.example.net }}\ndns: {{ servers: ["{setting.nameserver}:53"] }}\n'
        f"{ours if job is Job.SIGN else ''}{_RULES}{more}"
    )
    environment = {**os.environ, "PYTHONPATH": str(_HOME)}
    command = [sys.executable, "-c", "from filterd.cli.main import main; main()", "run", "-p", str(policy)]
    wants = "dmarc=pass" if job is Job.VERIFY else "d=example.org"
    with running("filterd", command, socket, setting, wants, environment) as started:
        yield started


@contextmanager
def running(
    name: str, command: list[str], socket: Path, setting: Setting, wants: str, environment: dict[str, str] | None = None
) -> Iterator[Filter]:
    log = setting.folder / f"{name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: S603 # ours
            command, stdout=output, stderr=output, env=environment, start_new_session=True
        )
        try:
            end = time.monotonic() + _PATIENCE
            while not socket.is_socket():
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{name} does not start:\n{log.read_text()}")
                time.sleep(0.05)
            yield Filter(name, f"unix:{socket}", process.pid, wants)
        finally:
            # Asked to end, libmilter takes five seconds to think about it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(_PATIENCE)
            socket.unlink(missing_ok=True)
