"""The bundled MTA with a milter by libmilter beside it, and a client that looks at every reply."""

import json
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from filterd.mta.config import MtaConfig
from filterd.mta.queued_mail import QueuedMail
from filterd.mta.server import BundledMta, running

_SCRIPTED = Path(__file__).with_name("scripted_milter.py")
MESSAGE = b"From: a@example.org\r\nSubject: one\r\nTo: b@example.net\r\nSubject: two\r\n\r\nbody\r\n"


class Script:
    """A scripted milter: its socket, its process, and what it saw."""

    def __init__(self, folder: Path, name: str, script: dict[str, Any]) -> None:
        self.path = folder / f"{name}.sock"
        self._log = folder / f"{name}.log"
        self._log.write_bytes(b"")
        (folder / f"{name}.json").write_text(json.dumps(script))
        arguments = [self.socket, str(folder / f"{name}.json"), str(self._log)]
        self.process = subprocess.Popen([sys.executable, str(_SCRIPTED), *arguments])
        _until(self._answers)

    @property
    def socket(self) -> str:
        return f"unix:{self.path}"

    def _answers(self) -> bool:
        assert self.process.poll() is None, "the scripted milter ended"
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.path)) == 0

    @property
    def seen(self) -> list[list[Any]]:
        """Each callback: its name, its arguments, the macros that were known."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    @property
    def events(self) -> list[str]:
        return [event for event, *_ in self.seen]

    def arguments(self, event: str) -> list[list[Any]]:
        return [arguments for name, *arguments, _ in self.seen if name == event]

    def macros(self, event: str) -> list[dict[str, str]]:
        return [macros for name, *_, macros in self.seen if name == event]

    def wait_for(self, event: str, times: int = 1) -> None:
        """Wait until the callback was called so often, or the milter has died."""
        _until(lambda: self.events.count(event) >= times or self.process.poll() is not None)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@dataclass
class Mta:
    """A running MTA, its milters, and an SMTP client that has said EHLO."""

    server: BundledMta
    maildir: Path
    milters: list[Script]
    stack: ExitStack

    @property
    def milter(self) -> Script:
        return self.milters[0]

    def client(self, ehlo: str = "client.example") -> smtplib.SMTP:
        """A new connection; the greeting's code is not looked at."""
        client = smtplib.SMTP(local_hostname=ehlo)
        client.sock = socket.create_connection(("127.0.0.1", self.server.port), timeout=60)
        client.file = None
        self.stack.callback(client.close)
        client.greeting = client.getreply()  # type: ignore[attr-defined]
        client.ehlo()
        return client

    def send(
        self,
        message: bytes = MESSAGE,
        sender: str = "a@example.org",
        recipients: tuple[str, ...] = ("b@example.net",),
        client: smtplib.SMTP | None = None,
    ) -> list[tuple[int, bytes]]:
        """The replies to MAIL, each RCPT and the content, up to the first that refuses."""
        client = client or self.client()
        replies = [client.docmd(f"MAIL FROM:<{sender}>")]
        if replies[-1][0] == 250:
            replies += [client.docmd(f"RCPT TO:<{recipient}>") for recipient in recipients]
        if replies[-1][0] == 250:
            replies.append(client.docmd("DATA"))
        if replies[-1][0] == 354:
            client.send(message + b".\r\n")
            replies[-1] = client.getreply()
        return replies

    def mails(self, recipient: str = "b@example.net") -> list[bytes]:
        """The delivered mails, oldest first."""
        return [file.read_bytes() for file in sorted((self.maildir / recipient / "new").glob("*"))]

    def mail(self, recipient: str = "b@example.net") -> bytes:
        """The one delivered mail, from its first header field after our trace fields."""
        (mail,) = self.mails(recipient)
        return mail

    @property
    def held(self) -> list[QueuedMail]:
        """The mails that wait for a person to release them."""
        return [mail for mail in self.server.queue.mails() if mail.hold is not None]

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.maildir.rglob("*") if path.is_file())


Start = Callable[..., Mta]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start an MTA with a scripted milter for each script; `settings` are of MtaConfig."""
    with ExitStack() as stack:

        def _start(*scripts: dict[str, Any], **settings: Any) -> Mta:
            milters = [Script(tmp_path, f"m{number}", script) for number, script in enumerate(scripts)]
            for milter in milters:
                stack.callback(milter.stop)
            settings.setdefault("milters", tuple(milter.socket for milter in milters))
            maildir = tmp_path / "mail"
            server = stack.enter_context(running(MtaConfig("mx.example.net", maildir, **settings)))
            return Mta(server, maildir, milters, stack)

        yield _start


@pytest.fixture
def milter_at() -> Iterator[Callable[[Path, str, dict[str, Any]], Script]]:
    """Start a scripted milter in a folder, under a name."""
    with ExitStack() as stack:

        def _start(folder: Path, name: str, script: dict[str, Any]) -> Script:
            milter = Script(folder, name, script)
            stack.callback(milter.stop)
            return milter

        yield _start
