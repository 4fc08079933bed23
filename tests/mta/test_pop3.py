"""POP3: what came is read, deleted at QUIT only, and by its owner alone; by poplib, and by octets where that is too kind."""

import poplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from servers.certificate import certificate

from filterd.mta.config import Listener, Service

Start = Callable[..., Any]
_USERS = {"b@example.net": "secret", "c": "other secret"}
_LISTENERS = (Listener(), Listener(service=Service.POP3), Listener(service=Service.POP3S))
_MESSAGE = b"From: a@example.org\r\nSubject: one\r\n\r\n.dot\r\n..\r\nlast\r\n"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


class Place:
    """An MTA, and readers of its mail."""

    def __init__(self, mta: Any, trusted: ssl.SSLContext, stack: ExitStack) -> None:
        self.mta = mta
        self.trusted = trusted
        self._stack = stack

    def send(self, content: bytes = _MESSAGE, recipient: str = "b@example.net") -> None:
        stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
        assert self.mta.send(stuffed, recipients=(recipient,))[-1][0] == 250

    def reader(self) -> poplib.POP3:
        reader = poplib.POP3("127.0.0.1", self.mta.server.listeners[1].port, timeout=60)
        self._stack.callback(reader.close)
        return reader

    def logged_in(self, user: str = "b@example.net") -> poplib.POP3:
        reader = self.reader()
        reader.user(user)
        reader.pass_(_USERS[user])
        return reader


@pytest.fixture
def place(start: Start, chain: Path) -> Iterator[Callable[..., Place]]:
    with ExitStack() as stack:

        def _place(**settings: Any) -> Place:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(chain)
            settings = {"users": _USERS, "listeners": _LISTENERS, "tls": context, **settings}
            return Place(start(**settings), ssl.create_default_context(cafile=str(chain)), stack)

        yield _place


def test_mail_is_read_as_it_was_delivered(place: Callable[..., Place]) -> None:
    here = place()
    here.send()
    reader = here.logged_in()

    count, size = reader.stat()
    _, lines, _ = reader.retr(1)
    content = b"\r\n".join(lines) + b"\r\n"
    assert (count, size) == (1, len(content))
    assert content == here.mta.mail().replace(b"\n", b"\r\n")
    assert content.endswith(_MESSAGE)
    assert reader.list()[1] == [b"1 %d" % size]
    assert reader.top(1, 1)[1][-2:] == [b"", b".dot"]
    assert reader.top(1, 0)[1][-1] == b""
    assert len(reader.uidl()[1]) == 1


def test_what_is_deleted_is_gone_after_quit_only(place: Callable[..., Place]) -> None:
    here = place()
    here.send(b"Subject: one\r\n\r\n")
    here.send(b"Subject: two\r\n\r\n")
    first = here.logged_in()
    first.dele(1)
    with pytest.raises(poplib.error_proto, match="no such message"):
        first.retr(1)
    assert first.stat()[0] == 1
    first.rset()
    assert first.stat()[0] == 2
    first.dele(1)
    first.close()

    second = here.logged_in()
    (_, uid), _ = (line.split() for line in second.uidl()[1])
    second.dele(2)
    second.quit()
    third = here.logged_in()
    assert [line.split()[1] for line in third.uidl()[1]] == [uid]
    assert b"Subject: one" in third.retr(1)[1]


def test_a_message_that_another_program_moved_or_deleted(place: Callable[..., Place]) -> None:
    here = place()
    here.send()
    here.send()
    reader = here.logged_in()
    folder = here.mta.maildir / "b@example.net"
    first, second = sorted((folder / "new").iterdir())
    first.rename(folder / "cur" / f"{first.name}:2,S")
    second.unlink()

    assert reader.retr(1)[1][-1] == b"last"
    with pytest.raises(poplib.error_proto, match="deleted"):
        reader.retr(2)
    reader.dele(1)
    reader.dele(2)
    reader.quit()
    assert here.logged_in().stat() == (0, 0)


def test_a_mailbox_is_read_by_its_owner_and_one_client_at_a_time(place: Callable[..., Place]) -> None:
    here = place()
    here.send()
    here.send(recipient="c@mx.example.net")
    reader = here.logged_in()

    assert here.logged_in("c").stat()[0] == 1
    with pytest.raises(poplib.error_proto, match="IN-USE"):
        here.logged_in()
    reader.quit()
    assert here.logged_in().stat()[0] == 1


def test_who_does_not_know_the_password_reads_nothing(place: Callable[..., Place]) -> None:
    here = place(auth_failure_limit=4)
    reader = here.reader()
    for _ in range(3):
        reader.user("b@example.net")
        with pytest.raises(poplib.error_proto, match="AUTH"):
            reader.pass_("guess")
    with pytest.raises((poplib.error_proto, OSError)):
        reader.noop()
    second = here.reader()
    second.user("../b@example.net")
    with pytest.raises(poplib.error_proto, match="AUTH"):
        second.pass_("secret")
    second.user("b@example.net")
    with pytest.raises(poplib.error_proto, match="AUTH"):
        second.pass_("secret")


def test_passwords_go_through_tls_only(place: Callable[..., Place]) -> None:
    here = place(auth_without_tls=False)
    here.send()
    reader = here.reader()
    assert "USER" not in reader.capa()
    with pytest.raises(poplib.error_proto, match="TLS"):
        reader.user("b@example.net")
    port = here.mta.server.listeners[1].port
    starting = poplib.POP3("localhost", port, timeout=60)
    starting.stls(here.trusted)
    encrypted = poplib.POP3_SSL("localhost", here.mta.server.listeners[2].port, timeout=60, context=here.trusted)
    for client, user in ((starting, "b@example.net"), (encrypted, "c")):
        assert "USER" in client.capa()
        assert "STLS" not in client.capa()
        client.user(user)
        client.pass_(_USERS[user])
        assert client.stat()[0] == (user != "c")
        client.quit()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (b"STAT\r\n", b"-ERR log in first"),
        (b"PASS secret\r\n", b"-ERR USER comes first"),
        (b"USER\r\n", b"-ERR USER goes"),
        (b"APOP a b\r\n", b"-ERR there is no such command"),
        (b"\r\n", b"-ERR there is no such command"),
        (b"NO\0OP\r\n", b"-ERR a command has no control characters"),
        (b"NOOP\n", b"-ERR bare <LF> received"),
        (b"x" * 200_000 + b"\r\n", b"-ERR line too long"),
        (b"USER b@example.net\r\nPASS secret\r\nRETR 1\r\n", b"-ERR there is no such message"),
        (b"USER b@example.net\r\nPASS secret\r\nRETR -1\r\n", b"-ERR here stands the number"),
        (b"USER b@example.net\r\nPASS secret\r\nDELE \xb2\r\n", b"-ERR here stands the number"),
        (b"USER b@example.net\r\nPASS secret\r\nTOP 1\r\n", b"-ERR TOP goes"),
        (b"USER b@example.net\r\nPASS secret\r\nUSER b\r\n", b"-ERR logged in already"),
        (b"USER b@example.net\r\nPASS secret\r\nSTLS\r\n", b"-ERR logged in already"),
    ],
)
def test_what_is_no_command_here(place: Callable[..., Place], lines: bytes, says: bytes) -> None:
    here = place()
    with (
        socket.create_connection(("127.0.0.1", here.mta.server.listeners[1].port), timeout=60) as client,
        client.makefile("rb") as replies,
    ):
        client.sendall(lines)
        found = [replies.readline() for _ in range(lines.count(b"\n") + 1)]

    assert found[-1].startswith(says)


def test_stls_forgets_what_was_pipelined(place: Callable[..., Place]) -> None:
    here = place()
    with socket.create_connection(("127.0.0.1", here.mta.server.listeners[1].port), timeout=60) as plain:
        assert plain.recv(100).startswith(b"+OK")
        plain.sendall(b"USER b@example.net\r\nSTLS\r\nPASS secret\r\n")
        with plain.makefile("rb", buffering=0) as replies:
            assert [replies.readline()[:3], replies.readline()[:3]] == [b"+OK", b"+OK"]
        with here.trusted.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"PASS secret\r\n")
            assert client.recv(100) == b"-ERR USER comes first\r\n"
