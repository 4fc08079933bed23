"""The filters that are measured: filterd and those that it replaces, each as its package has it, on a unix socket.

What a filter does is a job: verify (SPF, DKIM, DMARC as far as it can) or sign. All run as root, as some insist on it
to begin with, and ask the name server of the benchmark: who reads /etc/resolv.conf is shown another one.
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
_TOOLS = _HOME / ".tools"
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
def filterd(job: Job, setting: Setting, workers: int = 2) -> Iterator[Filter]:
    """filterd, with the rules of its default policy."""
    socket = setting.folder / "milter.sock"
    policy = setting.folder / "policy.yaml"
    keys = f"{{ selector: {SELECTOR}, file: {setting.key} }}"
    ours = f'networks: {{ trusted: ["192.0.2.0/24"] }}\nsign: [{{ domains: [{DOMAIN}], keys: [{keys}] }}]\n'
    policy.write_text(
        f'version: 1\nserver: {{ milter: ["unix:{socket}"], workers: {workers} }}\n'
        f'identity: {{ authserv_id: mx.example.net }}\ndns: {{ servers: ["{setting.nameserver}:53"] }}\n'
        f"{ours if job is Job.SIGN else ''}{_RULES}"
    )
    environment = {**os.environ, "PYTHONPATH": str(_HOME)}
    command = [sys.executable, "-c", "from filterd.cli.main import main; main()", "run", "-p", str(policy)]
    wants = "dmarc=pass" if job is Job.VERIFY else "d=example.org"
    with _running("filterd", command, socket, setting, wants, environment) as running:
        yield running


@contextmanager
def opendkim(job: Job, setting: Setting) -> Iterator[Filter]:
    """OpenDKIM: verifies or signs DKIM."""
    socket, config = setting.folder / "opendkim.sock", setting.folder / "opendkim.conf"
    lines = ["Syslog no", "UserID root", "AuthservID mx.example.net", f"Nameservers {setting.nameserver}"]
    if job is Job.SIGN:
        lines += ["Mode s", f"Domain {DOMAIN}", f"Selector {SELECTOR}", f"KeyFile {setting.key}"]
        lines += ["Canonicalization relaxed/relaxed", "InternalHosts 192.0.2.0/24", "RequireSafeKeys no"]
    else:
        lines += ["Mode v", "MaximumSignaturesToVerify 10"]
    config.write_text("\n".join(lines) + "\n")
    command = [str(_TOOLS / "opendkim/usr/sbin/opendkim"), "-f", "-x", str(config), "-p", f"local:{socket}"]
    wants = "dkim=pass" if job is Job.VERIFY else "d=example.org"
    with _running("OpenDKIM", command, socket, setting, wants) as running:
        yield running


@contextmanager
def opendmarc(setting: Setting) -> Iterator[Filter]:
    """OpenDMARC: SPF by itself, DMARC."""
    socket, config = setting.folder / "opendmarc.sock", setting.folder / "opendmarc.conf"
    config.write_text(
        f"Syslog false\nSocket local:{socket}\nAuthservID mx.example.net\nSPFSelfValidate true\nSPFIgnoreResults true\n"
        f"UserID root\nPidFile {setting.folder}/opendmarc.pid\n"
    )
    command = _resolving(setting, [str(_TOOLS / "opendmarc/usr/sbin/opendmarc"), "-f", "-c", str(config)])
    with _running("OpenDMARC", command, socket, setting, "dmarc=pass") as running:
        yield running


@contextmanager
def dkimpy_milter(job: Job, setting: Setting) -> Iterator[Filter]:
    """dkimpy-milter: verifies or signs DKIM, in Python."""
    socket, config = setting.folder / "dkimpy.sock", setting.folder / "dkimpy.conf"
    lines = ["Syslog no", "UserID root", "AuthservID mx.example.net", f"Socket local:{socket}"]
    lines += [f"PidFile {setting.folder}/dkimpy.pid"]
    if job is Job.SIGN:
        lines += ["Mode s", f"Domain {DOMAIN}", f"Selector {SELECTOR}", f"KeyFile {setting.key}"]
        lines += ["Canonicalization relaxed/relaxed", "InternalHosts 192.0.2.0/24"]
    else:
        lines += ["Mode v"]
    config.write_text("\n".join(lines) + "\n")
    packages = ("dkimpy-milter", "python3-dkim", "python3-authres", "python3-milter", "python3-nacl",
                "python3-cffi-backend", "python3-dnspython")  # fmt: skip
    environment = dict(os.environ)
    environment["PYTHONPATH"] = ":".join(str(_TOOLS / each / "usr/lib/python3/dist-packages") for each in packages)
    program = f"import sys; sys.argv[1:] = ['{config}']; from dkimpy_milter import main; main()"
    command = _resolving(setting, ["/usr/bin/python3", "-c", program])
    wants = "dkim=pass" if job is Job.VERIFY else "d=example.org"
    with _running("dkimpy-milter", command, socket, setting, wants, environment) as running:
        yield running


def _resolving(setting: Setting, command: list[str]) -> list[str]:
    """The command, with an /etc/resolv.conf of its own."""
    (setting.folder / "resolv.conf").write_text(f"nameserver {setting.nameserver}\n")
    bind = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    return ["unshare", "-m", "sh", "-c", bind, str(setting.folder / "resolv.conf"), *command]


@contextmanager
def _running(
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
