"""One table of scenarios in three MTAs: Postfix, Sendmail and the bundled one answer and deliver alike.

Compared are each reply's code and enhanced status, its words where they are the milter's, what was delivered to whom
from whom, to the octet but for the MTA's own Received, and how many mails are on hold.
"""

import json
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import postfix as real_postfix
from servers import sendmail as real_sendmail
from servers.debian import free_port
from servers.table_milter import TableMilter

from filterd.mta.config import MtaConfig
from filterd.mta.server import running

pytestmark = pytest.mark.system

_TABLE = yaml.safe_load((Path(__file__).parents[1] / "scenarios/three_mtas.yaml").read_text())
_ENVELOPE = ["MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>"]
_MAIL = (
    b"From: a@example.org\r\nSubject: one\r\nTo: b@example.net\r\nSubject: two\r\nX-Fold: a\r\n\tb\r\n c\r\n"
    b"X-Eight: caf\xe9\r\nX-Empty:\r\n\r\nbody\r\n..dot\r\n\xff\r\n"
)
_FAILURES = ("tempfail", "accept", "reject")


@dataclass
class Outcome:
    """What the client and the recipients got."""

    replies: list[str] = field(default_factory=list)
    delivered: list[tuple[str, str, bytes]] = field(default_factory=list)
    held: int = 0


class Mta:
    """One of the three. `addresses` say for each failure the client's address and the server's port."""

    def __init__(self, milter: TableMilter, addresses: dict[str, tuple[str, int]]) -> None:
        self._milter = milter
        self._addresses = addresses
        self._seen: set[Path] = set()
        self._held = 0

    def files(self) -> list[Path]:
        """All delivered mails."""
        raise NotImplementedError

    def held(self) -> int:
        """How many mails are on hold."""
        raise NotImplementedError

    def play(self, row: dict[str, Any]) -> Outcome:
        """Play a scenario."""
        script = row.get("milter", {})
        self._milter.play(script)
        outcome = Outcome(_dialogue(self._addresses[row.get("failure", "tempfail")], row, json.dumps(script)))
        self._milter.told()
        new = [path for path in self.files() if path not in self._seen]
        self._seen.update(new)
        outcome.delivered = sorted(_delivered(path.read_bytes()) for path in new)
        held = self.held()
        outcome.held, self._held = held - self._held, held
        return outcome


class _Postfix(Mta):
    def __init__(
        self, milter: TableMilter, addresses: dict[str, tuple[str, int]], server: real_postfix.Postfix
    ) -> None:
        super().__init__(milter, addresses)
        self._server = server

    def files(self) -> list[Path]:
        self._server.settle()
        return list((self._server.directory / "mail").glob("new/*"))

    def held(self) -> int:
        return len(self._server.held())


class _Sendmail(Mta):
    def __init__(
        self, milter: TableMilter, addresses: dict[str, tuple[str, int]], server: real_sendmail.Sendmail
    ) -> None:
        super().__init__(milter, addresses)
        self._server = server

    def files(self) -> list[Path]:
        self._server.maildir("")
        return list((self._server.directory / "mail/new").iterdir())

    def held(self) -> int:
        return len(self._server.held())


class _Bundled(Mta):
    def __init__(self, milter: TableMilter, addresses: dict[str, tuple[str, int]], maildir: Path) -> None:
        super().__init__(milter, addresses)
        self._maildir = maildir

    def files(self) -> list[Path]:
        return [path for path in self._maildir.glob("*/new/*") if path.parts[-3] != ".hold"]

    def held(self) -> int:
        return len(list(self._maildir.glob(".hold/new/*")))


@contextmanager
def _listening(path: Path) -> Iterator[TableMilter]:
    milter = TableMilter(path)
    try:
        yield milter
    finally:
        milter.close()


@pytest.fixture(scope="module")
def postfix() -> Iterator[Mta]:
    ports = {failure: free_port() for failure in _FAILURES[1:]}
    with ExitStack() as stack:
        # Who fails how is told by where the client comes from.
        rows = " ".join(
            f"{{127.0.0.{number}/32 {{unix:milters/m, default_action={failure}}}}}"
            for number, failure in enumerate(ports, 11)
        )
        settings = {"smtpd_milter_maps": f"cidr:{{ {rows} }}", "smtpd_discard_ehlo_keywords": "chunking,dsn"}
        server = stack.enter_context(real_postfix.running(milters=["unix:milters/m"], settings=settings))
        milter = stack.enter_context(_listening(server.milters / "m"))
        sources = {"tempfail": "127.0.0.1", "accept": "127.0.0.11", "reject": "127.0.0.12"}
        yield _Postfix(milter, {failure: (source, server.port) for failure, source in sources.items()}, server)


@pytest.fixture(scope="module")
def sendmail() -> Iterator[Mta]:
    ports = {failure: free_port() for failure in _FAILURES[1:]}
    more = []
    for failure, port in ports.items():
        flag = ", F=R" if failure == "reject" else ""
        more.append(f"MAIL_FILTER(`{failure}', `S=unix:{{directory}}/milters/m{flag}')")
        more.append(
            f"DAEMON_OPTIONS(`Name={failure}, Family=inet, Addr=127.0.0.1, Port={port}, InputMailFilters={failure}')"
        )
    with ExitStack() as stack:
        server = stack.enter_context(real_sendmail.running(milters=["unix:milters/m, F=T"], more=more))
        milter = stack.enter_context(_listening(server.milters / "m"))
        every = {"tempfail": server.port, **ports}
        yield _Sendmail(milter, {failure: ("127.0.0.1", port) for failure, port in every.items()}, server)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mta]:
    folder = tmp_path_factory.mktemp("bundled")
    with ExitStack() as stack:
        milter = stack.enter_context(_listening(folder / "m"))
        addresses = {}
        for failure in _FAILURES:
            config = MtaConfig("mx.example.org", folder / "mail", (f"unix:{folder}/m",), default_action=failure)
            addresses[failure] = ("127.0.0.1", stack.enter_context(running(config)).port)
        yield _Bundled(milter, addresses, folder / "mail")


@pytest.mark.parametrize("row", _TABLE, ids=[row["name"] for row in _TABLE])
def test_all_three_do_alike(postfix: Mta, sendmail: Mta, bundled: Mta, row: dict[str, Any]) -> None:
    actual = bundled.play(row)
    for name, real in (("postfix", postfix), ("sendmail", sendmail)):
        expected = real.play(row)
        if name in row:
            assert expected != actual, f"{name} does as the bundled one, against the table"
        else:
            assert expected == actual, name


def _dialogue(address: tuple[str, int], row: dict[str, Any], script: str) -> list[str]:
    """The replies, from the greeting to that to QUIT, or to where the server hangs up."""
    source, port = address
    replies: list[str] = []
    with (
        socket.create_connection(("127.0.0.1", port), 60, (source, 0)) as connection,
        connection.makefile("rb") as file,
    ):

        def say(octets: bytes, count: int = 1) -> str:
            connection.sendall(octets)
            for _ in range(count):
                replies.append(_reply(file, script))
            return replies[-1]

        def content() -> str:
            said = say(b"DATA\r\n")
            return say(_MAIL.replace(b"\r\n.", b"\r\n..") + b".\r\n") if said.startswith("354") else said

        try:
            say(b"")
            if replies[0] != "220":
                return replies
            say(b"EHLO client.example\r\n")
            for step in row.get("client", ["mail"]):
                if step == "content":
                    content()
                elif step == "mail":
                    if not all(say(line.encode() + b"\r\n").startswith("250") for line in _ENVELOPE) or not (
                        content().startswith("250")
                    ):
                        say(b"RSET\r\n")
                else:
                    lines: Sequence[str] = step if isinstance(step, list) else [step]
                    say("".join(f"{line}\r\n" for line in lines).encode(), len(lines))
            say(b"QUIT\r\n")
        except ConnectionError:
            replies.append("closed")
    return replies


def _reply(file: Any, script: str) -> str:
    """A reply's code and enhanced status; all of it where the milter has said it."""
    lines = []
    while True:
        line = file.readline()
        if not line:
            raise ConnectionResetError
        lines.append(line.decode("latin-1").rstrip())
        if line[3:4] != b"-":
            break
    words = [re.sub(r"^[0-9]{3}[ -]?(?:[245]\.[0-9]+\.[0-9]+ ?)?", "", line) for line in lines]
    if len(words[0]) > 1 and all(word.replace("%", "%%") in script for word in words):
        return " / ".join(lines)
    found = re.match(r"([0-9]{3})(?:[ -]([245]\.[0-9]+\.[0-9]+)\b)?", lines[0])
    assert found is not None, lines
    return " ".join(filter(None, found.groups()))


def _delivered(mail: bytes) -> tuple[str, str, bytes]:
    """Sender and recipient of the envelope, and the content, with LF."""
    envelope: dict[bytes, str] = {}
    while (found := re.match(rb"(Return-Path|X-Original-To|Delivered-To): (.*)\n", mail)) is not None:
        envelope[found[1]] = found[2].decode("latin-1").lower()
        mail = mail[found.end() :]
    mail = re.sub(rb"(?m)^Received: from (?:.|\n[ \t])*\n", b"Received: OURS\n", mail, count=1)
    return envelope[b"Return-Path"], envelope[b"Delivered-To"], mail
