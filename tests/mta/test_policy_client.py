"""The bundled MTA asks policy services as the real Postfix does: same questions, same replies, same mails."""

import os
import re
import smtplib
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import fields, replace
from pathlib import Path

import pytest
from servers import postfix as real

from filterd.mta.config import MtaConfig, PolicyService
from filterd.mta.queue import Queue
from filterd.mta.server import running
from filterd.wire.access_policy import Action, Answer, Request, RequestReader

pytestmark = pytest.mark.system

#: What the service says, by the local part of the recipient. Nothing: it hangs up.
ANSWERS = {
    "dunno": b"DUNNO",
    "ok": b"OK",
    "reject": b"REJECT",
    "text": b"REJECT not you",
    "status": b"REJECT 5.1.6 moved",
    "defer": b"DEFER",
    "class": b"DEFER 5.2.0 of another class",
    "put-off": b"defer_if_permit",
    "put-off-text": b"DEFER_IF_PERMIT 4.2.0 later",
    "if-reject": b"DEFER_IF_REJECT later",
    "code": b"550 5.7.9 by code",
    "code-plain": b"452 full",
    "hang-up": b"421 4.7.0 bye",
    "hold": b"HOLD smells",
    "discard": b"DISCARD",
    "prepend": b"PREPEND X-Mark: one two",
    "prepend-nothing": b"PREPEND",
    "prepend-no-field": b"PREPEND no field",
    "warn": b"WARN careful",
    "info": b"INFO so",
    "away": b"",
}
_MAIL = b"From: a@example.org\r\nSubject: one\r\n\r\nbody\r\n"
_KNOWN_TO_BOTH = [
    each.name
    for each in fields(Request)
    if each.name not in ("instance", "server_port", "mail_version", "compatibility_level", "policy_context", "queue_id")
]


class Service:
    """A scripted policy service at a socket. `asked` are the questions, `connections` how many it took."""

    def __init__(self, path: Path) -> None:
        self.asked: list[Request] = []
        self.connections = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o666)
        self._listener.listen(50)
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        # The thread must wake, or it takes connections for whoever is given the number of the descriptor next.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = RequestReader()
        with connection, suppress(OSError):
            while octets := connection.recv(65536):
                for request in reader.feed(octets):
                    self.asked.append(request)
                    answer = ANSWERS[request.recipient.partition("@")[0]]
                    if not answer:
                        return
                    connection.sendall(b"action=" + answer + b"\n\n")


@pytest.fixture(scope="module")
def postfix() -> Iterator[real.Postfix]:
    settings = {
        "smtpd_recipient_restrictions": "check_policy_service unix:milters/policy",
        "smtpd_discard_ehlo_keywords": "chunking,dsn",
    }
    with real.running(settings=settings) as running_postfix:
        yield running_postfix


def observe(port: int, service: Service, recipients: list[str]) -> tuple[list[object], list[Request], bool]:
    """Every reply; every question, but for what is each MTA's own; whether one instance is one mail."""
    smtp = smtplib.SMTP("127.0.0.1", port, local_hostname="client.example", timeout=60)
    smtp.ehlo()
    replies: list[object] = [smtp.docmd("XCLIENT NAME=h.example ADDR=192.0.2.7 PORT=1234 LOGIN=alice")[0]]
    smtp.ehlo()
    with suppress(smtplib.SMTPServerDisconnected):
        replies.append(smtp.docmd("MAIL FROM:<a@example.org> SIZE=99")[0])
        answers = [smtp.docmd(f"RCPT TO:<{each}@example.net>") for each in recipients]
        replies += [(code, text) for code, text in answers]
        if 250 in [code for code, _ in answers]:
            smtp.docmd("DATA")
            smtp.send(_MAIL + b".\r\n")
            replies.append(smtp.getreply()[0])
        smtp.quit()
    smtp.close()
    asked = [
        Request(each.protocol_state, **{name: getattr(each, name) for name in _KNOWN_TO_BOTH[1:]})
        for each in service.asked
    ]
    ids = {(each.instance != "", each.queue_id != "") for each in service.asked}
    return replies, [replace(each, sasl_method=each.sasl_method.lower()) for each in asked], (True, True) in ids


def mails(maildir: list[Path]) -> list[bytes]:
    """What was delivered, but for the trace fields that are each MTA's own."""
    found = [re.sub(rb"(?m)^X-Original-To: .*\n", b"", file.read_bytes(), count=1) for file in maildir]
    return sorted(
        re.sub(rb"Received: from [^\n]*\n\t(?:[^\n]|\n\t)*", b"Received: OURS", each, count=1) for each in found
    )


CASES = [[name] for name in ANSWERS] + [
    ["dunno", "reject", "dunno"],
    ["prepend", "prepend"],
    ["hold", "prepend"],
    ["hold", "dunno", "reject"],
    ["discard", "dunno"],
    ["dunno", "discard"],
    ["put-off", "dunno"],
    ["dunno", "away", "dunno"],
]


@pytest.fixture(scope="module")
def asked_by_postfix(postfix: real.Postfix) -> Iterator[Service]:
    """One for all tests, as Postfix keeps its connection."""
    service = Service(postfix.milters / "policy")
    yield service
    service.close()


@pytest.mark.parametrize("recipients", CASES, ids="+".join)
def test_it_asks_and_obeys_as_postfix(
    postfix: real.Postfix, asked_by_postfix: Service, tmp_path: Path, recipients: list[str]
) -> None:
    with ExitStack() as stack:
        new = postfix.directory / "mail" / "new"
        before, held = set(new.glob("*")), len(postfix.held())
        asked_by_postfix.asked.clear()
        expected = observe(postfix.port, asked_by_postfix, recipients)
        postfix.settle()
        expected_mails, expected_held = mails(list(set(new.glob("*")) - before)), len(postfix.held()) - held

        service = Service(tmp_path / "policy")
        stack.callback(service.close)
        config = MtaConfig("mx.example.org", tmp_path / "mail", policy_services=(f"unix:{tmp_path}/policy",))
        actual = observe(stack.enter_context(running(config)).port, service, recipients)
        delivered = list(config.maildir.glob("*/new/*"))

    assert expected == actual
    assert expected_mails == mails(delivered)
    assert expected_held == sum(mail.hold is not None for mail in Queue(config.queue_folder).mails())


def test_nobody_is_asked_about_the_postmaster(tmp_path: Path) -> None:
    config = MtaConfig(
        "mx.example.org", tmp_path / "mail", policy_services=("unix:/nonexistent/policy",), policy_retry_delay=0
    )
    with running(config) as mta, smtplib.SMTP("127.0.0.1", mta.port, timeout=60) as smtp:
        smtp.ehlo()
        smtp.mail("a@example.org")
        assert smtp.rcpt("postmaster")[0] == 250
        assert smtp.rcpt("b@example.net") == (
            451,
            b"4.3.5 <b@example.net>: Recipient address rejected: Server configuration problem",
        )


def test_a_service_has_its_own_answer_for_when_it_is_away(tmp_path: Path) -> None:
    away = PolicyService("unix:/nonexistent/policy", default_action=Answer(Action.DUNNO))
    config = MtaConfig("mx.example.org", tmp_path / "mail", policy_services=(away,), policy_retry_delay=0)
    with running(config) as mta, smtplib.SMTP("127.0.0.1", mta.port, timeout=60) as smtp:
        smtp.ehlo()
        smtp.mail("a@example.org")
        assert smtp.rcpt("b@example.net")[0] == 250


def test_one_connection_serves_a_session_and_is_opened_anew(tmp_path: Path) -> None:
    service = Service(tmp_path / "policy")
    config = MtaConfig(
        "mx.example.org", tmp_path / "mail", policy_services=(f"unix:{tmp_path}/policy",), policy_retry_delay=0
    )
    with running(config) as mta, smtplib.SMTP("127.0.0.1", mta.port, timeout=60) as smtp:
        smtp.ehlo()
        smtp.mail("a@example.org")
        for _ in range(3):
            smtp.rcpt("dunno@example.net")
        assert service.connections == 1
        smtp.rcpt("away@example.net")
        assert service.connections == 2
        assert smtp.rcpt("dunno@example.net")[0] == 250
        assert service.connections == 3
    service.close()
    os.unlink(tmp_path / "policy")


def test_several_services_are_asked_in_order_until_one_decides(tmp_path: Path) -> None:
    services = [Service(tmp_path / f"policy{number}") for number in range(2)]
    config = MtaConfig(
        "mx.example.org", tmp_path / "mail", policy_services=tuple(f"unix:{tmp_path}/policy{n}" for n in range(2))
    )
    with running(config) as mta, smtplib.SMTP("127.0.0.1", mta.port, timeout=60) as smtp:
        smtp.ehlo()
        smtp.mail("a@example.org")
        for name in ("dunno", "ok", "reject", "prepend"):
            smtp.rcpt(f"{name}@example.net")
        smtp.data(b"Subject: x\r\n\r\n")
    for service in services:
        service.close()

    assert [[each.recipient.partition("@")[0] for each in service.asked] for service in services] == [
        ["dunno", "ok", "reject", "prepend"],
        ["dunno", "prepend"],
    ]
    (mail,) = (tmp_path / "mail").glob("ok@example.net/new/*")
    assert mail.read_bytes().count(b"X-Mark: one two\n") == 2
