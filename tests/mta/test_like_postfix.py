"""The bundled MTA beside the real Postfix: the same client and the same milter, and nobody can tell which it was.

Compared are every reply, all that the milter saw with its macros, and what was delivered or held.
"""

import re
import smtplib
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from servers import postfix as real

from filterd.mta.config import MtaConfig
from filterd.mta.queue import Queue
from filterd.mta.server import running

pytestmark = pytest.mark.system

_MAIL = (
    b"From: a@example.org\r\nSubject: one\r\nTo: b@example.net\r\nSubject:two\r\nX-Fold: a\r\n\tb\r\n c\r\n\r\nbody\r\n"
)
_SENDER, _RECIPIENT = "a@example.org", "b@example.net"
# What is each MTA's own to say.
_OWN = {"v", "{mail_mailer}", "{daemon_port}"}


@dataclass
class Observed:
    """All that can be told from outside."""

    replies: list[str] = field(default_factory=list)
    seen: list[list[Any]] = field(default_factory=list)
    delivered: list[bytes] = field(default_factory=list)
    held: int = 0


class Say:
    """The client's side, which writes down each reply."""

    def __init__(self, client: smtplib.SMTP, observed: Observed) -> None:
        self._client = client
        self._observed = observed

    def __call__(self, command: str) -> int:
        return self._note(*self._client.docmd(command))

    def data(self, content: bytes) -> int:
        if (code := self("DATA")) != 354:
            return code
        self._client.send(content + b".\r\n")
        return self._note(*self._client.getreply())

    def mail(self, content: bytes = _MAIL, recipients: tuple[str, ...] = (_RECIPIENT,)) -> None:
        if self(f"MAIL FROM:<{_SENDER}>") == 250:
            codes = [self(f"RCPT TO:<{recipient}>") for recipient in recipients]
            if 250 in codes and self.data(content) in (250, 421):
                return
        self("RSET")

    def _note(self, code: int, text: bytes) -> int:
        # Which words go with these, and which extensions there are, is each MTA's own.
        own = code in (354, 500, 502, 503, 221) or text.startswith(b"mx.example.org")
        said = b"" if own else re.sub(rb"queued as \w+", b"queued as ID", text)
        self._observed.replies.append(f"{500 if code == 502 else code} {said.decode()}".strip())
        return code


def _one(say: Say) -> None:
    say.mail()


def _two(say: Say) -> None:
    say.mail()
    say.mail(b"Subject: second\r\n\r\n")


def _several_recipients(say: Say) -> None:
    say.mail(recipients=("no@example.net", "b@example.net", "c@example.net"))


def _reset(say: Say) -> None:
    say(f"MAIL FROM:<{_SENDER}>")
    say("RSET")
    say.mail()


def _helo_again(say: Say) -> None:
    say(f"MAIL FROM:<{_SENDER}>")
    say(f"RCPT TO:<{_RECIPIENT}>")
    say("EHLO again.example")
    say(f"RCPT TO:<{_RECIPIENT}>")
    say.mail()
    say("HELO third.example")
    say.mail()


def _parameters(say: Say) -> None:
    say("MAIL FROM:<a@example.org> SIZE=100 BODY=8BITMIME")
    say(f"RCPT TO:<{_RECIPIENT}>")
    say.data(_MAIL)
    say("MAIL FROM:<>")
    say("RCPT TO:<b@example.net>")
    say.data(b"\r\n")


def _unknown(say: Say) -> None:
    say("FROB nicate")
    say.mail()


def _shapes(say: Say) -> None:
    for content in (
        b"",
        b"\r\n",
        b"no header\r\n",
        b"Subject: x\r\n",
        b"Subject: x\r\nno header\r\n",
        b"Subject : x\r\n\r\n..dot\r\n",
        b"Bcc: x@example.com\r\nSubject: x\r\n\r\n",
        b"A:x\r\nB:  x\r\nC:\tx\r\nD:\r\nE: \r\n\r\n",
        b"Subject: caf\xe9\r\n\r\n\xff\xfe\r\n",
        b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 10_000,
    ):
        say.mail(content)


_EDITS = {
    "add": [["addheader", "X-New", "v"]],
    "insert at 0": [["addheader", "X-New", "v", 0]],
    "insert at 1": [["addheader", "X-New", "v", 1]],
    "insert at 3": [["addheader", "X-New", "v", 3]],
    "insert past the end": [["addheader", "X-New", "v", 99]],
    "several inserts": [["addheader", "X-A", "1", 0], ["addheader", "X-B", "2", 1], ["addheader", "X-C", "3", 0]],
    "insert after add": [["addheader", "X-A", "1"], ["addheader", "X-B", "2", 99], ["addheader", "X-C", "3", 6]],
    "change": [["chgheader", "Subject", 2, "new"]],
    "change 0": [["chgheader", "Subject", 0, "new"]],
    "change by another case": [["chgheader", "sUBJECT", 1, "new"]],
    "change what is not there": [["chgheader", "X-Not-There", 1, "new"]],
    "delete": [["chgheader", "Subject", 1, ""]],
    "delete descending": [["chgheader", "Subject", 2, ""], ["chgheader", "Subject", 1, ""]],
    "delete ascending": [["chgheader", "Subject", 1, ""], ["chgheader", "Subject", 2, ""]],
    "delete what is not there": [["chgheader", "X-Not-There", 1, ""]],
    "delete our received": [["chgheader", "Received", 1, ""]],
    "delete a folded one": [["chgheader", "X-Fold", 1, ""]],
    "change what was added": [["addheader", "X-A", "1"], ["chgheader", "X-A", 1, "2"]],
    "delete what was inserted": [["addheader", "X-A", "1", 0], ["chgheader", "X-A", 1, ""]],
    "several lines": [["addheader", "X-New", "a\n\tb\n c\nSubject: x", 1], ["chgheader", "To", 1, "x\n\ty"]],
    "replace the body": [["replacebody", "new\r\nlines\nand an end"]],
    "replace the body by much": [["replacebody", "0123456789abcdef\r\n" * 10_000]],
    "replace the body twice": [["replacebody", "one\r\n"], ["replacebody", "two\r\n"]],
    "replace the body after a header": [["addheader", "X-A", "1"], ["replacebody", "one\r\n"]],
    "add a recipient": [["addrcpt", "<c@example.net>"], ["addrcpt", "c@example.net"]],
    "add with parameters": [["addrcpt", "<c@example.net>", "NOTIFY=NEVER"]],
    "remove a recipient": [["delrcpt", "<b@example.net>"], ["addrcpt", "<c@example.net>"]],
    "remove all recipients": [["delrcpt", "<b@example.net>"]],
    "change the sender": [["chgfrom", "<x@example.com>"]],
    "change the sender to none": [["chgfrom", "<>"]],
    "quarantine": [["quarantine", "smells"]],
    "progress": [["progress"], ["addheader", "X-A", "1"], ["progress"]],
}  # fmt: skip
_ANSWERS = {
    "accept": ["ACCEPT"],
    "reject": ["REJECT"],
    "tempfail": ["TEMPFAIL"],
    "discard": ["DISCARD"],
    "5xx": [["setreply", "554", "5.7.9", "no %% thanks"], "REJECT"],
    "4xx": [["setreply", "450", "4.2.1", "one", "two"], "TEMPFAIL"],
    "421": [["setreply", "421", "4.7.0", "bye"], "TEMPFAIL"],
}  # fmt: skip
_STAGES = ["connect", "hello", "envfrom", "envrcpt", "data", "header", "eoh", "body", "eom"]
_NOREPLY = {"noreply": ["header", "eoh", "body"]}

_CASES: list[tuple[str, dict[str, Any], Callable[[Say], None]]] = [
    *((name, {"eom": [*edits, "CONTINUE"]}, _one) for name, edits in _EDITS.items()),
    *(
        (f"{name}, leading space", {"eom": [*edits, "ACCEPT"], "flags": {"leading_space": True}}, _one)
        for name, edits in _EDITS.items()
        if edits[0][0] in ("addheader", "chgheader")
    ),
    *(
        (f"{name} at {stage}", {stage: answer}, _two)
        for stage in _STAGES
        for name, answer in _ANSWERS.items()
        if not (stage in ("connect", "hello") and name in ("discard", "421"))
    ),
    *((f"dies at {stage}", {stage: [["die"], "CONTINUE"]}, _two) for stage in _STAGES),
    ("one recipient refused", {"envrcpt": {"<no@example.net>": ["REJECT"]}}, _several_recipients),
    ("reset", {}, _reset),
    ("ehlo again", {}, _helo_again),
    ("parameters", {}, _parameters),
    ("unknown", {}, _unknown),
    ("unknown, deferred", {"unknown": ["TEMPFAIL"]}, _unknown),
    ("shapes", {}, _shapes),
    ("shapes, leading space", {"flags": {"leading_space": True, **_NOREPLY}}, _shapes),
    ("no replies", {"flags": {"noreply": _STAGES[:-1]}, "eom": [["addheader", "X-A", "1"], "CONTINUE"]}, _two),
    ("nothing sent", {"flags": {"nocallback": _STAGES[:-1]}, "eom": [["addheader", "X-A", "1"], "CONTINUE"]}, _two),
    ("skip", {"body": ["SKIP"]}, _shapes),
    (
        "macros",
        {"flags": {"macros": {"M_CONNECT": "{client_addr} {client_port} {client_name} j", "M_EOM": "i j"}}},
        _one,
    ),
]


@pytest.fixture(scope="module")
def postfix() -> Iterator[real.Postfix]:
    settings = {"smtpd_discard_ehlo_keywords": "chunking,dsn", "milter_connect_timeout": "5s"}
    with real.running(milters=["unix:milters/m0.sock"], settings=settings) as running_postfix:
        yield running_postfix


@pytest.mark.parametrize(("script", "dialogue"), [case[1:] for case in _CASES], ids=[case[0] for case in _CASES])
def test_it_is_as_postfix(
    postfix: real.Postfix,
    tmp_path: Path,
    milter_at: Callable[..., Any],
    script: dict[str, Any],
    dialogue: Callable[[Say], None],
) -> None:
    with ExitStack() as stack:
        before, held = len(_postfix_mails(postfix)), len(postfix.held())
        milter = milter_at(postfix.milters, "m0", script)
        expected = _observe(postfix.port, milter, dialogue)
        expected.delivered = _postfix_mails(postfix)[before:]
        expected.held = len(postfix.held()) - held
        milter.stop()

        milter = milter_at(tmp_path, "m0", script)
        config = MtaConfig("mx.example.org", tmp_path / "mail", (milter.socket,))
        actual = _observe(stack.enter_context(running(config)).port, milter, dialogue)
        files = sorted(config.maildir.glob("*/new/*"), key=lambda file: file.stat().st_mtime_ns)
        actual.delivered = [file.read_bytes() for file in files]
        actual.held = sum(mail.hold is not None for mail in Queue(config.queue_folder).mails())

    assert expected.replies == actual.replies
    assert expected.seen == actual.seen
    assert sorted(map(_comparable, expected.delivered)) == sorted(map(_comparable, actual.delivered))
    assert expected.held == actual.held


def _observe(port: int, milter: Any, dialogue: Callable[[Say], None]) -> Observed:
    observed = Observed()
    client = smtplib.SMTP(local_hostname="client.example")
    client.sock, client.file = socket.create_connection(("127.0.0.1", port), timeout=60), None
    say = Say(client, observed)
    try:
        observed.replies.append(str(client.getreply()[0]))
        observed.replies.append(str(client.docmd("XCLIENT NAME=h.example ADDR=192.0.2.7 PORT=1234 LOGIN=alice")[0]))
        client.ehlo()
        dialogue(say)
        say("QUIT")
    except smtplib.SMTPServerDisconnected:
        observed.replies.append("disconnected")
    finally:
        client.close()
    milter.wait_for("close", times=2)  # the session before XCLIENT, and that after
    of_another = [event for event in milter.seen if event[0] == "connect" and event[1] != "h.example"]
    observed.seen = [
        _comparable_event(event)
        for event in milter.seen
        if event[0] not in ("close", "abort") and event not in of_another
    ]
    return observed


def _comparable_event(event: list[Any]) -> list[Any]:
    *what, macros = event
    return [*what, {name: "ID" if name == "i" else value for name, value in macros.items() if name not in _OWN}]


def _postfix_mails(postfix: real.Postfix) -> list[bytes]:
    postfix.settle()
    new = postfix.directory / "mail" / "new"
    files = sorted(new.iterdir(), key=lambda file: file.stat().st_mtime_ns) if new.is_dir() else []
    return [file.read_bytes() for file in files]


def _comparable(mail: bytes) -> bytes:
    mail = re.sub(rb"(?m)^X-Original-To: .*\n", b"", mail, count=1)
    return re.sub(rb"Received: from [^\n]*\n\tby mx.example.org (?:[^\n]|\n\t)*", b"Received: OURS", mail, count=1)
