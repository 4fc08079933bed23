"""TLS, logging in, and what a session may not do: by octets, as an attacker would write them."""

import smtplib
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from servers.certificate import certificate

from filterd.mta.config import Listener, Service
from filterd.mta.routes import Relay, Route, Via
from filterd.mta.users import HashedUsers, hash_password

Start = Callable[..., Any]
_LISTENERS = tuple(Listener(service=each) for each in (Service.SMTP, Service.SUBMISSION, Service.SUBMISSIONS))
_USERS = HashedUsers({"alice": hash_password("secret")})


class Client:
    """Octets as they are, before and within TLS."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, silent: bool = False) -> None:
        self.tls = tls
        self._plain = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket = self._plain
        self._file = self.socket.makefile("rb")
        self.greeting = b"" if silent else self.reply()

    def reply(self) -> bytes:
        """A whole reply, empty where the connection has ended."""
        lines = [self._file.readline()]
        while lines[-1][3:4] == b"-":
            lines.append(self._file.readline())
        return b"".join(lines)

    def say(self, line: bytes, end: bytes = b"\r\n") -> bytes:
        self.socket.sendall(line + end)
        return self.reply()

    def encrypt(self) -> None:
        assert self.tls is not None
        self._file.close()
        self.socket = self.tls.wrap_socket(self._plain, server_hostname="localhost")
        self._file = self.socket.makefile("rb")

    def ended(self) -> bool:
        return self._file.read() == b""

    def close(self) -> None:
        self._file.close()
        self.socket.close()
        self._plain.close()


class Place:
    """An MTA with all three services, and clients of it."""

    def __init__(self, mta: Any, trusted: ssl.SSLContext, stack: ExitStack) -> None:
        self.mta = mta
        self.trusted = trusted
        self._stack = stack

    def client(self, service: Service, silent: bool = False) -> Client:
        port = next(each.port for each in self.mta.server.listeners if each.service is service)
        client = Client(port, self.trusted, silent)
        self._stack.callback(client.close)
        return client

    def encrypted(self, service: Service) -> Client:
        """A client that speaks TLS and has said EHLO."""
        client = self.client(service, silent=service is Service.SUBMISSIONS)
        if service is Service.SUBMISSIONS:
            client.encrypt()
            assert client.reply().startswith(b"220 ")
        else:
            client.say(b"EHLO x")
            assert client.say(b"STARTTLS").startswith(b"220 2.0.0 ")
            client.encrypt()
        client.say(b"EHLO x")
        return client


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def place(start: Start, chain: Path) -> Iterator[Callable[..., Place]]:
    with ExitStack() as stack:

        def _place(*scripts: dict[str, Any], **settings: Any) -> Place:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(chain)
            settings = {"users": _USERS, "auth_without_tls": False, "tls": context, **settings}
            mta = start(*scripts, listeners=_LISTENERS, **settings)
            return Place(mta, ssl.create_default_context(cafile=str(chain)), stack)

        yield _place


def plain(user: str, password: str, act_for: str = "") -> bytes:
    return b"AUTH PLAIN " + b64encode(f"{act_for}\0{user}\0{password}".encode())


@pytest.mark.parametrize("service", [Service.SUBMISSION, Service.SUBMISSIONS])
def test_users_send_after_they_have_logged_in(place: Callable[..., Place], service: Service) -> None:
    relay = Relay(routes=(Route(("elsewhere.example",), Via.MAILDIR),))
    here = place({}, domains=frozenset({"example.net"}), relay=relay)
    client = here.encrypted(service)

    assert client.say(b"MAIL FROM:<a@example.org>") == b"530 5.7.0 Authentication required\r\n"
    assert client.say(plain("alice", "secret")).startswith(b"235 2.7.0 ")
    assert client.say(b"MAIL FROM:<a@example.org>").startswith(b"250 ")
    assert client.say(b"RCPT TO:<b@elsewhere.example>").startswith(b"250 ")
    client.say(b"DATA")
    assert client.say(b"Subject: x\r\n\r\n.").startswith(b"250 2.0.0 Ok: queued as ")
    assert b"with ESMTPSA id" in here.mta.mail("b@elsewhere.example")
    (macros,) = here.mta.milter.macros("envfrom")
    assert {"{auth_authen}": "alice", "{auth_type}": "PLAIN"}.items() <= macros.items()
    helo = here.mta.milter.macros("hello")[-1]
    assert {"{tls_version}": "TLSv1.3", "{cipher_bits}": "256", "{cipher}": "TLS_AES_256_GCM_SHA384"}.items() <= (
        helo.items()
    )


def test_a_standard_client_submits(place: Callable[..., Place]) -> None:
    here = place()
    port = here.mta.server.listeners[1].port
    with smtplib.SMTP("localhost", port, timeout=60) as client:
        client.starttls(context=here.trusted)
        client.login("alice", "secret")
        client.sendmail("a@example.org", ["b@example.net"], b"Subject: x\r\n\r\n")
    with smtplib.SMTP_SSL("localhost", here.mta.server.listeners[2].port, timeout=60, context=here.trusted) as client:
        client.login("alice", "secret")
        client.sendmail("a@example.org", ["b@example.net"], b"Subject: x\r\n\r\n")

    assert len(here.mta.mails()) == 2


def test_what_was_pipelined_before_tls_was_never_said(place: Callable[..., Place]) -> None:
    """The STARTTLS injection of CVE-2011-0411: octets behind the command are thrown away."""
    client = place().client(Service.SUBMISSION)
    client.say(b"EHLO x")

    assert client.say(b"STARTTLS", end=b"\r\nEHLO injected\r\nMAIL FROM:<a@example.org>\r\n").startswith(b"220 ")
    client.encrypt()
    assert client.say(b"NOOP") == b"250 2.0.0 Ok\r\n"
    assert client.say(b"MAIL FROM:<a@example.org>").startswith(b"503 5.5.1 ")


def test_tls_forgets_who_the_client_was(place: Callable[..., Place]) -> None:
    here = place(auth_without_tls=True)
    client = here.client(Service.SMTP)
    client.say(b"EHLO x")
    client.say(plain("alice", "secret"))
    client.say(b"MAIL FROM:<a@example.org>")
    client.say(b"STARTTLS")
    client.encrypt()

    assert client.say(b"MAIL FROM:<a@example.org>").startswith(b"503 5.5.1 ")
    offered = client.say(b"EHLO x")
    assert b"AUTH PLAIN LOGIN" in offered
    assert b"STARTTLS" not in offered
    assert client.say(b"STARTTLS").startswith(b"554 5.5.1 ")
    assert client.say(plain("alice", "secret")).startswith(b"235 ")


def test_no_password_goes_through_the_network_as_it_is(place: Callable[..., Place]) -> None:
    client = place().client(Service.SUBMISSION)

    assert b"AUTH" not in client.say(b"EHLO x")
    assert client.say(plain("alice", "secret")).startswith(b"538 5.7.11 ")
    assert client.say(b"MAIL FROM:<a@example.org>") == b"530 5.7.0 Issue STARTTLS first\r\n"


def test_a_client_that_speaks_no_tls_ends_its_own_connection(place: Callable[..., Place]) -> None:
    here = place()
    client = here.client(Service.SUBMISSION)
    client.say(b"EHLO x")
    client.say(b"STARTTLS")
    client.socket.sendall(b"EHLO x\r\n" * 10)
    try:
        while client.socket.recv(4096):
            pass
    except ConnectionError:
        pass

    assert here.encrypted(Service.SUBMISSION).say(b"NOOP").startswith(b"250 ")


@pytest.mark.parametrize(
    ("answers", "reply"),
    [
        ((b"AUTH PLAIN", b"AGFsaWNlAHNlY3JldA=="), b"235"),
        ((b"auth plain AGFsaWNlAHNlY3JldA==",), b"235"),
        ((plain("alice", "secret", act_for="alice"),), b"235"),
        ((b"AUTH LOGIN", b64encode(b"alice"), b64encode(b"secret")), b"235"),
        ((b"AUTH LOGIN " + b64encode(b"alice"), b64encode(b"secret")), b"235"),
        ((plain("alice", "Secret"),), b"535"),
        ((plain("alice", ""),), b"535"),
        ((plain("", ""),), b"535"),
        ((plain("bob", "secret"),), b"535"),
        ((plain("alice", "secret", act_for="bob"),), b"501"),
        ((b"AUTH LOGIN", b"*"), b"501"),
        ((b"AUTH LOGIN =", b64encode(b"secret")), b"535"),
        ((b"AUTH PLAIN ="), b"501"),
        ((b"AUTH PLAIN AGFsaWNlAHNlY3JldA",), b"501"),
        ((b"AUTH PLAIN !!!!",), b"501"),
        ((b"AUTH PLAIN \xff\xff",), b"501"),
        ((b"AUTH PLAIN " + b64encode(b"\0\xff\0\xff"),), b"501"),
        ((b"AUTH PLAIN " + b64encode(b"\0a\0b\0c"),), b"501"),
        ((b"AUTH PLAIN", b"x" * 13_000), b"500"),
        ((b"AUTH CRAM-MD5",), b"504"),
        ((b"AUTH",), b"504"),
    ],
)
def test_an_exchange(place: Callable[..., Place], answers: tuple[bytes, ...] | bytes, reply: bytes) -> None:
    client = place().encrypted(Service.SUBMISSION)
    said = [client.say(each) for each in ((answers,) if isinstance(answers, bytes) else answers)]

    assert [each[:3] for each in said] == [*[b"334"] * (len(said) - 1), reply]


def test_nobody_logs_in_twice_or_in_the_middle_of_a_mail(place: Callable[..., Place]) -> None:
    client = place(auth_without_tls=True).client(Service.SMTP)

    assert client.say(plain("alice", "secret")).startswith(b"503 ")
    client.say(b"EHLO x")
    client.say(b"MAIL FROM:<a@example.org>")
    assert client.say(plain("alice", "secret")).startswith(b"503 ")
    client.say(b"RSET")
    assert client.say(plain("alice", "secret")).startswith(b"235 ")
    assert client.say(plain("alice", "secret")).startswith(b"503 ")


def test_who_guesses_is_stopped_over_all_connections(place: Callable[..., Place]) -> None:
    here = place(auth_failure_limit=4)
    first = here.encrypted(Service.SUBMISSION)

    assert [first.say(plain("alice", f"guess{number}"))[:3] for number in range(3)] == [b"535", b"535", b"421"]
    assert first.ended()
    second = here.encrypted(Service.SUBMISSION)
    assert second.say(plain("alice", "guess"))[:3] == b"535"
    assert second.say(plain("alice", "secret")) == b"421 4.7.0 Error: too many failed logins\r\n"
    assert second.ended()


def test_a_good_login_gives_no_more_guesses(place: Callable[..., Place]) -> None:
    here = place(auth_failure_limit=2)
    for password, reply in (("guess", b"535"), ("secret", b"235"), ("guess", b"535"), ("secret", b"421")):
        assert here.encrypted(Service.SUBMISSION).say(plain("alice", password))[:3] == reply


def test_mail_for_others_is_taken_from_users_and_our_networks(place: Callable[..., Place]) -> None:
    here = place(domains=frozenset({"example.net"}), networks=(ip_network("192.0.2.0/24"),))
    client = here.client(Service.SMTP)
    client.say(b"EHLO x")
    client.say(b"MAIL FROM:<a@example.org>")

    assert client.say(b"RCPT TO:<b@Example.NET>").startswith(b"250 ")
    assert client.say(b"RCPT TO:<postmaster>").startswith(b"250 ")
    refusal = b"554 5.7.1 <b@elsewhere.example>: Relay access denied\r\n"
    assert client.say(b"RCPT TO:<b@elsewhere.example>") == refusal
    client.say(b"RSET")
    client.say(b"XCLIENT ADDR=192.0.2.7")
    client.say(b"EHLO x")
    client.say(b"MAIL FROM:<a@example.org>")
    assert client.say(b"RCPT TO:<b@elsewhere.example>").startswith(b"250 ")


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"NOOP\n", b"521 5.5.2 Error: bare <LF> received\r\n"),
        (b"NO\rOP\r\n", b"500 5.5.2 Error: a command has no control characters\r\n"),
        (b"NOOP\0\r\n", b"500 5.5.2 Error: a command has no control characters\r\n"),
        (b"NOOP " + b"x" * 13_000 + b"\r\n", b"500 5.5.2 Error: line too long\r\n"),
        (b"NOOP " + b"x" * 1_000_000 + b"\r\n", b"500 5.5.2 Error: line too long\r\n"),
        (b"\r\n", b"500 5.5.2 Error: bad syntax\r\n"),
        (b"GET / HTTP/1.1\r\n", b"521 5.5.1 Error: this is no web server\r\n"),
        (b"MAILFROM\r\n", b"500 5.5.2 Error: command not recognized\r\n"),
        (b"\xff\xfe\r\n", b"500 5.5.2 Error: command not recognized\r\n"),
    ],
)
def test_lines_that_are_none_of_smtp(place: Callable[..., Place], line: bytes, reply: bytes) -> None:
    client = place().client(Service.SMTP)

    assert client.say(line, end=b"") == reply
    if reply.startswith(b"521"):
        assert client.ended()
    else:
        assert client.say(b"NOOP").startswith(b"250 ")


def test_a_line_without_end_ends_the_connection(place: Callable[..., Place]) -> None:
    client = place().client(Service.SMTP)
    try:
        client.socket.sendall(b"x" * (5 << 20))
    except ConnectionError:
        return  # it was over before all was written

    assert client.reply() in (b"421 4.7.0 Error: line without end\r\n", b"")


def test_many_errors_end_the_connection(place: Callable[..., Place]) -> None:
    client = place(error_limit=3).client(Service.SMTP)

    assert client.say(b"X").startswith(b"500 ")
    assert client.say(b"X").startswith(b"500 ")
    assert client.say(b"X").startswith(b"500 ")
    assert client.reply() == b"421 4.7.0 mx.example.net Error: too many errors\r\n"
    assert client.ended()


def test_commands_that_lead_to_no_mail_are_errors_in_the_end(place: Callable[..., Place]) -> None:
    client = place(error_limit=3).client(Service.SMTP)
    for _ in range(102):
        assert client.say(b"NOOP").startswith(b"250 ")
    client.say(b"NOOP")

    assert client.reply().startswith(b"421 4.7.0 ")


def test_there_are_only_so_many_connections(place: Callable[..., Place]) -> None:
    here = place(client_connection_limit=2)
    clients = [here.client(Service.SMTP) for _ in range(3)]

    assert [client.greeting[:4] for client in clients] == [b"220 ", b"220 ", b"421 "]
    assert clients[0].say(b"QUIT").startswith(b"221 ")
    assert clients[0].ended()


def test_there_are_only_so_many_connections_of_all_clients_together(place: Callable[..., Place]) -> None:
    here = place(connection_limit=1)

    assert [here.client(Service.SMTP).greeting[:10] for _ in range(2)] == [b"220 mx.exa", b"421 4.7.0 "]


def test_a_client_that_says_nothing_is_sent_away(place: Callable[..., Place]) -> None:
    client = place(smtp_timeout=0.2).client(Service.SMTP)

    assert client.reply() == b"421 4.4.2 mx.example.net Error: timeout exceeded\r\n"
    assert client.ended()
