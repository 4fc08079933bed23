"""Mail leaves: through a real Postfix, found by a real name server; through another bundled MTA; round in a circle."""

import smtplib
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from servers import dovecot, nsd, postfix
from servers.certificate import certificate
from servers.dovecot import Dovecot
from servers.smtp_sink import SmtpSink

from filterd.backend.resolver import DnsResolver
from filterd.mail.endpoint import Endpoint
from filterd.mta.config import Listener, MtaConfig
from filterd.mta.queued_mail import QueuedMail
from filterd.mta.routes import Relay, Route, Tls, Via
from filterd.mta.server import BundledMta, running

_PATIENCE = 120.0
_ZONES = {
    "example.net": "@ MX 20 mx\n@ MX 10 away\nmx A 127.0.0.1\naway A 127.0.0.9\n",
    "null.example": "@ MX 0 .\n",
    "plain.example": "@ A 127.0.0.1\n",
    "back.example": "@ MX 10 us\n@ MX 20 mx.example.net.\nus A 127.0.0.2\n",
    "circle.example": "@ MX 10 mx.ours.example.\n",
}


def _until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class Sender:
    """The bundled MTA that mail leaves; mail for ours.example is its own."""

    def __init__(self, folder: Path, stack: ExitStack, resolver: DnsResolver | None, relay: Relay) -> None:
        self._maildir = folder / "ours"
        config = MtaConfig(
            "mx.ours.example",
            self._maildir,
            domains=frozenset({"ours.example"}),
            networks=(ip_network("127.0.0.0/8"),),
            relay=relay,
        )
        self.mta: BundledMta = stack.enter_context(running(config, None if resolver is None else resolver.view))

    def send(self, *recipients: str) -> None:
        with smtplib.SMTP("127.0.0.1", self.mta.port, timeout=_PATIENCE) as client:
            refused = client.sendmail("a@ours.example", recipients, b"Subject: hello\r\n\r\n.dot\r\n")
        assert refused == {}

    def deferred(self) -> QueuedMail:
        """The one mail in the queue, once it has been tried."""
        _until(lambda: [mail for mail in self.mta.queue.mails() if all(each.status for each in mail.waiting)])
        (mail,) = self.mta.queue.mails()
        return mail

    def bounces(self) -> list[str]:
        """What came back, once nothing is under way."""
        _until(lambda: not list(self.mta.queue.mails()))
        return [file.read_text() for file in (self._maildir / "a@ours.example/new").glob("*")]


Start = Callable[..., Sender]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def _start(resolver: DnsResolver | None = None, **relay: Any) -> Sender:
            return Sender(tmp_path, stack, resolver, Relay(**relay))

        yield _start


@pytest.fixture(scope="module")
def resolver() -> Iterator[DnsResolver]:
    with nsd.running(_ZONES) as server:
        resolver = DnsResolver([server], 10.0)
        resolver.start()
        yield resolver
        resolver.close()


@pytest.fixture(scope="module")
def next_hop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[postfix.Postfix, Path]]:
    """Postfix with a certificate for mx.example.net, and the file of it."""
    folder = tmp_path_factory.mktemp("tls")
    chain = certificate(folder, "mx.example.net")
    settings = {
        "smtpd_tls_chain_files": f"{chain}",
        "smtpd_tls_security_level": "may",
        "smtpd_tls_received_header": "yes",
        "smtpd_recipient_restrictions": "check_recipient_access inline:{{no@example.net=550 5.1.1 no such user}}",
    }
    with postfix.running(settings=settings) as server:
        yield server, chain


def _received(server: postfix.Postfix, recipient: str) -> str:
    _until(lambda: server.maildir(recipient))
    (mail,) = server.maildir(recipient)
    return mail.decode()


@pytest.mark.system
def test_by_mx_into_postfix(start: Start, resolver: DnsResolver, next_hop: tuple[postfix.Postfix, Path]) -> None:
    """The first exchanger is away, the second takes one recipient and refuses the other, of whom the sender hears."""
    server, _ = next_hop
    sender = start(resolver, mx_port=server.port)
    sender.send("one@example.net", "no@example.net")
    (bounce,) = sender.bounces()
    mail = _received(server, "one@example.net")

    assert mail.startswith("Return-Path: <a@ours.example>\n")
    assert "using TLSv1.3" in mail
    assert mail.endswith("\n\n.dot\n")
    assert (
        "\nFinal-Recipient: rfc822; no@example.net\nAction: failed\nStatus: 5.1.1\nRemote-MTA: dns; mx.example.net\n"
        in bounce
    )
    assert "smtp; 550 5.1.1 <no@example.net>: Recipient address rejected: no such user" in bounce.replace("\n ", " ")


@pytest.mark.system
def test_without_mx_the_domain_is_its_server(
    start: Start, resolver: DnsResolver, next_hop: tuple[postfix.Postfix, Path]
) -> None:
    server, _ = next_hop
    start(resolver, mx_port=server.port).send("b@plain.example")

    assert _received(server, "b@plain.example")


@pytest.mark.system
@pytest.mark.parametrize(
    ("recipient", "status"),
    [
        ("b@null.example", "5.1.10"),
        ("b@gone.null.example", "5.1.2"),
        ("b@circle.example", "5.4.6"),
    ],
)
def test_no_way_to_go(start: Start, resolver: DnsResolver, recipient: str, status: str) -> None:
    sender = start(resolver)
    sender.send(recipient)
    (bounce,) = sender.bounces()

    assert f"\nFinal-Recipient: rfc822; {recipient}\nAction: failed\nStatus: {status}\n" in bounce


@pytest.mark.system
def test_our_own_address_is_no_way(start: Start, resolver: DnsResolver, tmp_path: Path) -> None:
    """us.back.example is where we listen: mail for what is not nearer would come back (RFC 5321 5.1)."""
    with ExitStack() as stack:
        listener = SmtpSink({}, address="127.0.0.2")
        listener.close()
        port = listener.port
        config = MtaConfig(
            "mx.ours.example",
            tmp_path / "mail",
            listeners=(Listener("127.0.0.2", port),),
            domains=frozenset({"ours.example"}),
            networks=(ip_network("127.0.0.0/8"),),
            relay=Relay(mx_port=port),
        )
        mta = stack.enter_context(running(config, resolver.view))
        with smtplib.SMTP("127.0.0.2", port, timeout=_PATIENCE) as client:
            client.sendmail("a@ours.example", ["b@back.example"], b"Subject: x\r\n\r\n")
        _until(lambda: not list(mta.queue.mails()))
    (bounce,) = (tmp_path / "mail/a@ours.example/new").iterdir()

    assert "\nStatus: 5.4.6\n" in bounce.read_text()


@pytest.mark.system
@pytest.mark.parametrize(
    ("policy", "trusted", "expected"),
    [
        ("mx: mx.example.net", True, None),
        ("mx: *.example.net", True, None),
        ("mx: mx.example.net", False, "4.7.5"),
        ("mx: other.example.net", True, "4.7.5"),
    ],
)
def test_mta_sts(
    start: Start,
    resolver: DnsResolver,
    next_hop: tuple[postfix.Postfix, Path],
    tmp_path: Path,
    policy: str,
    trusted: bool,
    expected: str | None,
) -> None:
    """RFC 8461 5: what the policy does not allow takes no mail, and neither does whose certificate is not valid."""
    server, chain = next_hop
    (tmp_path / "sts").mkdir()
    text = f"version: STSv1\nmode: enforce\n{policy}\nmax_age: 86400\n"
    (tmp_path / "sts/example.net").write_text(text)
    sender = start(resolver, mx_port=server.port, sts_folder=tmp_path / "sts", ca_file=chain if trusted else None)
    sender.send("sts@example.net")
    if expected is None:
        assert sender.bounces() == []
    else:
        (waiting,) = sender.deferred().waiting
        assert waiting.status == expected


@pytest.fixture(scope="module")
def mailboxes() -> Iterator[Dovecot]:
    with dovecot.running({"b@mail.example": "secret"}) as server:
        yield server


@pytest.mark.system
@pytest.mark.parametrize("path", [True, False], ids=["unix", "tcp"])
def test_by_lmtp_into_dovecot(start: Start, mailboxes: Dovecot, path: bool) -> None:
    """One of two recipients has a mailbox; the sender hears of the other."""
    at = Endpoint(f"{mailboxes.lmtp}") if path else Endpoint(host="127.0.0.1", port=mailboxes.lmtp_port)
    before = len(mailboxes.mails("b@mail.example"))
    sender = start(routes=(Route(("mail.example",), Via.LMTP, at),))
    sender.send("b@mail.example", "no@mail.example")
    (bounce,) = sender.bounces()
    mails = mailboxes.mails("b@mail.example")

    assert len(mails) == before + 1
    assert mails[-1].endswith(b"\r\n\r\n.dot\r\n")
    assert "\nFinal-Recipient: rfc822; no@mail.example\nAction: failed\nStatus: 5.1.1\n" in bounce


@pytest.fixture
def smarthost(tmp_path: Path) -> Iterator[BundledMta]:
    """Another bundled MTA, with TLS and a user."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate(tmp_path))
    config = MtaConfig("smart.example", tmp_path / "smart", users={"me": "secret"}, tls=tls, auth_without_tls=False)
    with running(config) as mta:
        yield mta


@pytest.mark.parametrize(("level", "password", "status"), [(Tls.VERIFY, "secret", None), (Tls.MAY, "wrong", "4.7.8")])
def test_a_smarthost_with_a_login(
    start: Start, smarthost: BundledMta, tmp_path: Path, level: Tls, password: str, status: str | None
) -> None:
    route = Route(("*",), Via.SMTP, Endpoint(host="localhost", port=smarthost.port), level, ("me", password))
    sender = start(routes=(route,), ca_file=tmp_path / "chain.pem")
    sender.send("b@elsewhere.example")
    if status is None:
        assert sender.bounces() == []
        (mail,) = (tmp_path / "smart/b@elsewhere.example/new").iterdir()
        assert " with ESMTPSA id " in mail.read_text()
    else:
        (waiting,) = sender.deferred().waiting
        assert (waiting.status, waiting.host) == (status, "localhost")
        assert waiting.reply.startswith("535 5.7.8 ")


def test_each_domain_goes_its_way(start: Start, tmp_path: Path) -> None:
    with ExitStack() as stack:
        lmtp, smart = (stack.enter_context(closing(SmtpSink(says))) for says in ({"LHLO": "250 sink"}, {}))
        routes = (
            Route(("lists.example",), Via.LMTP, Endpoint(host="127.0.0.1", port=lmtp.port)),
            Route((".example",), Via.SMTP, Endpoint(host="127.0.0.1", port=smart.port)),
            Route(("kept.org",), Via.MAILDIR),
        )
        sender = start(routes=routes, mx_port=smart.port)
        sender.send("b@lists.example", "b@x.example", "b@[127.0.0.1]", "b@kept.org", "b@nobody.org")
        mail = sender.deferred()

    assert [line for line in lmtp.heard if line.startswith("RCPT")] == ["RCPT TO:<b@lists.example>"]
    assert [line for line in smart.heard if line.startswith("RCPT")] == [
        "RCPT TO:<b@x.example>",
        "RCPT TO:<b@[127.0.0.1]>",
    ]
    assert len(list((tmp_path / "ours/b@kept.org/new").iterdir())) == 1
    assert [(each.address, each.status) for each in mail.waiting] == [("b@nobody.org", "4.4.3")]
