"""One table of scenarios in three MTAs: Postfix, Sendmail and the bundled one answer and deliver alike.

Compared are each reply's code and enhanced status, its words where they are the milter's, what was delivered to whom
from whom, to the octet but for the MTA's own Received, and how many mails are on hold; with Postfix their content, too.
"""

import json
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import postfix as real_postfix
from servers import sendmail as real_sendmail
from servers.debian import free_port
from servers.table_milter import TableMilter

from filterd.mta.config import MtaConfig
from filterd.mta.queue import Queue
from filterd.mta.server import running

pytestmark = pytest.mark.system

_TABLE = yaml.safe_load((Path(__file__).parents[1] / "scenarios/three_mtas.yaml").read_text())
_ENVELOPE = ["MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>"]
_MAIL = (
    b"From: a@example.org\r\nSubject: one\r\nTo: b@example.net\r\nSubject: two\r\nX-Fold: a\r\n\tb\r\n c\r\n"
    b"X-Eight: caf\xe9\r\nX-Empty:\r\n\r\nbody\r\n..dot\r\n\xff\r\n"
)
#: Where clients are treated otherwise, besides "tempfail", and where they come from in Postfix.
_DOORS = {
    "accept": "127.0.0.11",
    "reject": "127.0.0.12",
    "absent": "127.0.0.13",
    "two": "127.0.0.14",
    "policy": "127.0.0.15",
    "hurried": "127.0.0.16",
}


@dataclass
class Outcome:
    """What the client and the recipients got."""

    replies: list[str] = field(default_factory=list)
    delivered: list[tuple[str, str, bytes]] = field(default_factory=list)
    held: list[bytes] = field(default_factory=list)


class Mta:
    """One of the three. `addresses` say for each door the client's address and the server's port."""

    def __init__(self, milters: tuple[TableMilter, TableMilter], addresses: dict[str, tuple[str, int]]) -> None:
        self._milters = milters
        self._addresses = addresses
        self._seen: set[Path] = set()
        self._held: set[str] = set()

    def files(self) -> list[Path]:
        """All delivered mails."""
        raise NotImplementedError

    def held(self) -> list[str]:
        """The queue ids of mails on hold."""
        raise NotImplementedError

    def content(self, queue_id: str) -> bytes:
        """The content of a mail on hold, with LF."""
        raise NotImplementedError

    def play(self, row: dict[str, Any]) -> Outcome:
        """Play a scenario."""
        script = row.get("milter", {})
        second = row.get("second", {})
        for milter, words in zip(self._milters, (script, second), strict=True):
            milter.play(words)
        address = self._addresses[row.get("door", "tempfail")]
        outcome = Outcome(_dialogue(address, row, json.dumps([script, second])))
        for milter in self._milters:
            milter.told()
        new = [path for path in self.files() if path not in self._seen]
        self._seen.update(new)
        outcome.delivered = sorted(_delivered(path.read_bytes()) for path in new)
        held = [each for each in self.held() if each not in self._held]
        self._held.update(held)
        outcome.held = sorted(_masked(self.content(each)) for each in held)
        return outcome


class _Postfix(Mta):
    def __init__(
        self,
        milters: tuple[TableMilter, TableMilter],
        addresses: dict[str, tuple[str, int]],
        server: real_postfix.Postfix,
    ) -> None:
        super().__init__(milters, addresses)
        self._server = server

    def files(self) -> list[Path]:
        self._server.settle()
        return list((self._server.directory / "mail").glob("new/*"))

    def held(self) -> list[str]:
        return [entry["queue_id"] for entry in self._server.held()]

    def content(self, queue_id: str) -> bytes:
        return self._server.contents(queue_id)


class _Sendmail(Mta):
    def __init__(
        self,
        milters: tuple[TableMilter, TableMilter],
        addresses: dict[str, tuple[str, int]],
        server: real_sendmail.Sendmail,
    ) -> None:
        super().__init__(milters, addresses)
        self._server = server

    def files(self) -> list[Path]:
        self._server.maildir("")
        return list((self._server.directory / "mail/new").iterdir())

    def held(self) -> list[str]:
        return sorted(path.name for path in (self._server.directory / "queue").glob("hf*"))

    def content(self, queue_id: str) -> bytes:
        # It keeps a header in a form of its own, so that only the number is compared.
        return b""


class _Bundled(Mta):
    def __init__(
        self, milters: tuple[TableMilter, TableMilter], addresses: dict[str, tuple[str, int]], maildir: Path
    ) -> None:
        super().__init__(milters, addresses)
        self._maildir = maildir

    def files(self) -> list[Path]:
        return list(self._maildir.glob("*/new/*"))

    def held(self) -> list[str]:
        return [mail.queue_id for queue in self._queues() for mail in queue.mails() if mail.hold is not None]

    def content(self, queue_id: str) -> bytes:
        (queue,) = (each for each in self._queues() if each.get(queue_id) is not None)
        return queue.content(queue_id).replace(b"\r\n", b"\n")

    def _queues(self) -> list[Queue]:
        return [Queue(folder) for folder in self._maildir.glob(".*")]


@contextmanager
def _listening(folder: Path) -> Iterator[tuple[TableMilter, TableMilter]]:
    milters = TableMilter(folder / "m"), TableMilter(folder / "m2")
    try:
        yield milters
    finally:
        for milter in milters:
            milter.close()


@pytest.fixture(scope="module")
def postfix() -> Iterator[Mta]:
    filters = {
        "accept": "{unix:milters/m, default_action=accept}",
        "reject": "{unix:milters/m, default_action=reject}",
        "absent": "unix:milters/none",
        "two": "unix:milters/m unix:milters/m2",
        "hurried": "{unix:milters/m, command_timeout=1s}",
    }
    rows = " ".join(f"{{{_DOORS[door]}/32 {each}}}" for door, each in filters.items())
    settings = {
        "smtpd_milter_maps": f"cidr:{{ {rows} }}",
        "smtpd_restriction_classes": "asking",
        "asking": "check_policy_service unix:milters/none",
        "smtpd_recipient_restrictions": f"check_client_access cidr:{{ {{{_DOORS['policy']}/32 asking}} }}",
        "smtpd_discard_ehlo_keywords": "chunking,dsn",
    }
    with ExitStack() as stack:
        server = stack.enter_context(real_postfix.running(milters=["unix:milters/m"], settings=settings))
        milters = stack.enter_context(_listening(server.milters))
        sources = {"tempfail": "127.0.0.1", **_DOORS}
        yield _Postfix(milters, {door: (source, server.port) for door, source in sources.items()}, server)


@pytest.fixture(scope="module")
def sendmail() -> Iterator[Mta]:
    filters = {
        "accept": "m",
        "reject": "m, F=R",
        "absent": "none, F=T",
        "second": "m2, F=T",
        "hurried": "m, F=T, T=S:1s;R:1s",
    }
    more = [f"MAIL_FILTER(`{name}', `S=unix:{{directory}}/milters/{each}')" for name, each in filters.items()]
    ports = {}
    for door, names in {
        "accept": "accept",
        "reject": "reject",
        "absent": "absent",
        "two": "milter0;second",
        "hurried": "hurried",
    }.items():
        ports[door] = free_port()
        options = f"Name={door}, Family=inet, Addr=127.0.0.1, Port={ports[door]}, InputMailFilters={names}"
        more.append(f"DAEMON_OPTIONS(`{options}')")
    with ExitStack() as stack:
        server = stack.enter_context(real_sendmail.running(milters=["unix:milters/m, F=T"], more=more))
        milters = stack.enter_context(_listening(server.milters))
        every = {"tempfail": server.port, "policy": server.port, **ports}
        yield _Sendmail(milters, {door: ("127.0.0.1", port) for door, port in every.items()}, server)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mta]:
    folder = tmp_path_factory.mktemp("bundled")
    first, second, none = (f"unix:{folder}/{name}" for name in ("m", "m2", "none"))
    plain = MtaConfig("mx.example.org", folder / "mail", (first,), policy_retry_delay=0.0)
    configs = {
        "tempfail": plain,
        "accept": replace(plain, default_action="accept"),
        "reject": replace(plain, default_action="reject"),
        "absent": replace(plain, milters=(none,)),
        "two": replace(plain, milters=(first, second)),
        "policy": replace(plain, policy_services=(none,)),
        "hurried": replace(plain, milter_command_timeout=1.0),
    }
    with ExitStack() as stack:
        milters = stack.enter_context(_listening(folder))
        addresses = {}
        for door, config in configs.items():
            server = stack.enter_context(running(replace(config, queue=folder / "mail" / f".{door}")))
            addresses[door] = ("127.0.0.1", server.port)
        yield _Bundled(milters, addresses, folder / "mail")


@pytest.mark.parametrize("row", _TABLE, ids=[row["name"] for row in _TABLE])
def test_all_three_do_alike(postfix: Mta, sendmail: Mta, bundled: Mta, row: dict[str, Any]) -> None:
    actual = bundled.play(row)
    for name, real in (("postfix", postfix), ("sendmail", sendmail)):
        expected = real.play(row)
        if name == "sendmail" and len(expected.held) == len(actual.held):
            expected.held = actual.held
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
    return envelope[b"Return-Path"], envelope[b"Delivered-To"], _masked(mail)


def _masked(mail: bytes) -> bytes:
    """A mail with one word for the MTA's own Received."""
    return re.sub(rb"(?m)^Received: from (?:.|\n[ \t])*\n", b"Received: OURS\n", mail, count=1)
