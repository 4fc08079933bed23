"""IMAP: an unmodified client reads what came, and a stranger gets nowhere. imaplib is the client."""

import imaplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from servers.certificate import certificate

from filterd.mta.config import Listener, MtaConfig, Service
from filterd.mta.server import BundledMta

Start = Callable[..., Any]
_USERS = {"b@example.net": "secret", "c": "other secret"}
_LISTENERS = (Listener(), Listener(service=Service.IMAP), Listener(service=Service.IMAPS))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


class Place:
    """An MTA, and readers of its mail."""

    def __init__(self, mta: Any, trusted: ssl.SSLContext, stack: ExitStack) -> None:
        self.mta = mta
        self._trusted = trusted
        self._stack = stack

    def port(self, service: Service) -> int:
        return next(each.port for each in self.mta.server.listeners if each.service is service)

    def reader(self, service: Service = Service.IMAP) -> imaplib.IMAP4:
        port = self.port(service)
        if service is Service.IMAP:
            client = imaplib.IMAP4("127.0.0.1", port, timeout=60)
        else:
            client = imaplib.IMAP4_SSL("localhost", port, ssl_context=self._trusted, timeout=60)
        self._stack.callback(_gone, client)
        return client

    def logged_in(self, user: str = "b@example.net", service: Service = Service.IMAP) -> imaplib.IMAP4:
        client = self.reader(service)
        client.login(user, _USERS[user])
        return client


def _gone(client: imaplib.IMAP4) -> None:
    with suppress(OSError):  # it has logged out
        client.shutdown()


@pytest.fixture
def place(start: Start, chain: Path) -> Iterator[Callable[..., Place]]:
    with ExitStack() as stack:

        def _place(**settings: Any) -> Place:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(chain)
            settings = {"users": _USERS, "listeners": _LISTENERS, "tls": context, **settings}
            return Place(start(**settings), ssl.create_default_context(cafile=str(chain)), stack)

        yield _place


@pytest.mark.parametrize("service", [Service.IMAP, Service.IMAPS])
def test_mail_is_read_as_it_was_delivered(place: Callable[..., Place], service: Service) -> None:
    here = place()
    here.mta.send(b"From:  a@example.org\r\nSubject: lunch\r\nX: \xe9\r\n\ty\r\n\r\nFrom noon on\r\n")
    client = here.logged_in(service=service)
    delivered = here.mta.mail().replace(b"\n", b"\r\n")

    assert client.select()[1] == [b"1"]
    assert client.search(None, "SUBJECT", "lunch")[1] == [b"1"]
    assert client.fetch("1", "(BODY.PEEK[])")[1][0][1] == delivered
    assert client.fetch("1", "(RFC822.SIZE)")[1] == [b"1 (RFC822.SIZE %d)" % len(delivered)]


def test_flags_and_folders_are_kept(place: Callable[..., Place]) -> None:
    here = place()
    here.mta.send()
    delivered = here.mta.mail().replace(b"\n", b"\r\n")
    client = here.logged_in()
    client.select()
    client.create("Kept")
    client.store("1", "+FLAGS", r"(\Seen \Flagged)")
    client.copy("1", "Kept")
    client.store("1", "+FLAGS", r"(\Deleted)")
    client.expunge()
    client.logout()

    again = here.logged_in()
    assert again.select()[1] == [b"0"]
    assert again.select("Kept")[1] == [b"1"]
    assert again.fetch("1", "(BODY.PEEK[])")[1][0][1] == delivered
    flags = again.fetch("1", "(FLAGS)")[1][0]
    assert rb"\Seen" in flags
    assert rb"\Flagged" in flags


def test_who_is_told_of_new_mail(place: Callable[..., Place]) -> None:
    here = place()
    client = here.logged_in()
    assert client.select()[1] == [b"0"]
    here.mta.send()

    client.noop()
    assert client.untagged_responses["EXISTS"][-1] == b"1"


def test_a_name_without_domain_is_ours(place: Callable[..., Place]) -> None:
    here = place()
    here.mta.send(recipients=("c@mx.example.net",))

    assert here.logged_in("c").select()[1] == [b"1"]


def test_who_does_not_know_the_password_reads_nothing(place: Callable[..., Place]) -> None:
    here = place(auth_failure_limit=2)
    client = here.reader()
    for user, password in (("b@example.net", "guess"), ("nobody", ""), ("b@example.net", "secret")):
        # The last one knows the password, but its address has guessed.
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            client.login(user, password)


def test_there_is_no_password_without_tls(place: Callable[..., Place], tmp_path: Path) -> None:
    here = place()
    assert "STARTTLS" not in here.reader().capabilities
    with pytest.raises(ValueError, match="STARTTLS"):
        BundledMta(MtaConfig("mx.example.net", tmp_path, listeners=_LISTENERS, auth_without_tls=False))


@pytest.mark.parametrize(
    "octets",
    [
        b"a LOGIN {99999999999+}\r\n" + b"x" * 100_000,
        b"a LOGIN {60000+}\r\n" + b"x" * 60_000 + b" {60000+}\r\n" + b"x" * 60_000,
        b"x" * 200_000,
        b"a NOOP\r\n" * 10_000,
    ],
)
def test_a_stranger_costs_no_memory(place: Callable[..., Place], octets: bytes) -> None:
    here = place()
    with socket.create_connection(("127.0.0.1", here.port(Service.IMAP)), timeout=60) as client:
        try:
            client.sendall(octets)
            while client.recv(65_536):
                pass
        except ConnectionError:
            pass

    assert here.logged_in().select()[0] == "OK"


def test_there_are_only_so_many_connections(place: Callable[..., Place]) -> None:
    here = place(connection_limit=1)
    here.logged_in()

    with pytest.raises(imaplib.IMAP4.error, match="too many connections"):
        here.reader()


@pytest.mark.parametrize("name", ['"."', '"/"', '""', '"a\\b"', '".."', '"../c@mx.example.net"', '"./../c"', '"&AAA-"'])
def test_no_name_of_a_folder_leads_to_others(place: Callable[..., Place], name: str) -> None:
    """pymap takes the folder "." for the parent of the inbox: DELETE would remove everybody's mail."""
    here = place()
    here.mta.send()
    here.mta.send(recipients=("c@mx.example.net",))
    outside = sorted(path for path in here.mta.maildir.rglob("*") if "b@example.net" not in path.parts)
    for command in ("CREATE", "SELECT", "STATUS", "SUBSCRIBE", "RENAME", "DELETE"):
        more = {"STATUS": " (MESSAGES)", "RENAME": " Elsewhere"}.get(command, "")
        client = here.logged_in()
        with suppress(imaplib.IMAP4.error):
            client._simple_command(command, name + more)  # type: ignore[attr-defined]

    assert outside == sorted(path for path in here.mta.maildir.rglob("*") if "b@example.net" not in path.parts)
    assert here.logged_in().select()[1] == [b"1"]
