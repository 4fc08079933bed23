"""The parts of the demonstration, each as in real life: a DNS server, spamd, `filterd run`, a mail server, Maildirs."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from filterd.demo import spamd
from filterd.demo.cast import DELAY, HOST, PASSWORD, RATE, READER, SEALER, USER, zone
from filterd.demo.nameserver import Nameserver
from filterd.dkim.sign import SigningKey
from filterd.mta.config import MtaConfig
from filterd.mta.server import running

_PATIENCE = 30.0  # seconds for a part to start, or for a line of the log


class StageError(Exception):
    """A part did not do its work; the message says which, and where to look."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The running parts. `folder` holds the policy, the log and the Maildirs; `zone` is what the name server says.

    `unscanned` says why no spamd is among the parts.
    """

    folder: Path
    key: SigningKey
    zone: str
    dns: tuple[str, int]
    smtp: tuple[str, int]
    milter: str
    unscanned: str | None = None

    @property
    def log(self) -> Path:
        """The decision log: one JSON line a mail."""
        return self.folder / "filterd.log"

    @property
    def maildir(self) -> Path:
        return self.folder / "mail" / READER

    def decisions(self) -> list[dict[str, Any]]:
        """The log's judgements so far."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [line for line in map(_json, lines) if line.get("event") == "judged"]

    def decision(self, number: int) -> dict[str, Any]:
        """The n-th judgement (from 0). The log is written beside the mail's path, so it may take a moment."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            found = self.decisions()
            if len(found) > number:
                return found[number]
            time.sleep(0.02)
        raise StageError(f"the log has no line for mail {number + 1}: {self.log}")


@contextmanager
def set_up(folder: Path, policy: Path) -> Iterator[Stage]:
    """Start all parts on free ports of loopback; stop them at the end. Without spamd it goes on. Raises StageError."""
    pem = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = SigningKey.load(pem)
    with ExitStack() as parts:
        published = zone(key)
        dns = parts.enter_context(Nameserver(published)).address
        milter = f"unix:{folder / 'milter.sock'}"
        (folder / "demo.pem").write_bytes(pem)
        (folder / "demo.pem").chmod(0o600)
        # What an earlier demonstration counted is over.
        for file in folder.glob("state.db*"):
            file.unlink()
        unscanned = None
        more = _more(folder, milter, dns)
        try:
            more += _scanning(parts.enter_context(spamd.running(folder)))
        except spamd.SpamdError as error:
            unscanned = str(error)
        own = folder / "policy.yaml"
        own.write_text(policy.read_text(encoding="utf-8") + more, encoding="utf-8")
        parts.enter_context(_daemon(own, folder / "filterd.log", folder / "milter.sock"))
        config = MtaConfig(HOST, folder / "mail", (milter,), {USER: PASSWORD})
        mta = parts.enter_context(running(config))
        yield Stage(folder, key, published, dns, ("127.0.0.1", mta.port), milter, unscanned)


def _more(folder: Path, milter: str, dns: tuple[str, int]) -> str:
    """What stands below the shipped policy. The clients are told by XCLIENT, so loopback is no us."""
    host, port = dns
    return f"""
server: {{ milter: ["{milter}"], workers: 2, state: "sqlite:{folder}/state.db" }}
identity: {{ authserv_id: {HOST} }}
arc: {{ trusted_sealers: [{SEALER}] }}
dns: {{ servers: ["{host}:{port}"] }}
sign: [{{ domains: [home.example], keys: [{{ selector: demo, file: demo.pem }}] }}]
greylist: {{ when: 'spf.result != "pass" && helo.kind == "unqualified"', delay: {DELAY}s }}
limits:
  - name: per-user
    when: client.authenticated
    key: client.user
    rate: {RATE} recipients per 1h
    reply: "451 4.7.1 {{client.user}} has sent {RATE} mails within an hour"
"""


def _scanning(socket: Path) -> str:
    return f"""\
spamd: {{ address: "unix:{socket}", timeout: 60s, on_error: defer }}
score: {{ tag: 5, quarantine: 10, reject: 15, reply: "550 5.7.1 spam of {{spam.score}} points" }}
"""


@contextmanager
def _daemon(policy: Path, log: Path, socket: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "filterd", "run", "-p", str(policy), "--log-format", "json"]
    # A log of an earlier demonstration says "ready" of a daemon that is gone.
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:  # noqa: S603 # our own command
        try:
            _wait_until_ready(process, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        if any(_json(line).get("event") == "ready" for line in log.read_text(encoding="utf-8").splitlines()):
            return
        time.sleep(0.02)
    raise StageError(f"filterd did not start; its log: {log}\n{log.read_text(encoding='utf-8')[-2000:]}")


def _json(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
