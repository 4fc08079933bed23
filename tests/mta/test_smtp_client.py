"""One conversation with the next server: what it says, and what comes of each recipient."""

import base64
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from servers.certificate import certificate
from servers.smtp_sink import SmtpSink

from filterd.mta.queued_mail import QueuedMail, new_mail
from filterd.mta.routes import Relay, Tls, Via
from filterd.mta.smtp_client import NextHop, Outcome, SmtpClient

_CONTENT = b"Subject: x\r\n\r\n.dot\r\nbody\r\n"
_TLS = "250-sink.example\n250 STARTTLS"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _mail(*recipients: str) -> QueuedMail:
    return new_mail("1", b"a@example.org", [each.encode() for each in recipients or ("b@example.net",)])


def _told(
    says: Mapping[str, str],
    stack: ExitStack,
    mail: QueuedMail | None = None,
    content: bytes = _CONTENT,
    server_tls: ssl.SSLContext | None = None,
    settings: Relay | None = None,
    **hop: object,
) -> tuple[Outcome, SmtpSink]:
    sink = SmtpSink(says, server_tls)
    stack.callback(sink.close)
    mail = mail or _mail()
    to = replace(NextHop("localhost", "127.0.0.1", sink.port, Via.SMTP), **hop)  # type: ignore[arg-type]
    return SmtpClient(settings or Relay(), "mx.example.net").hand_over(to, mail, mail.recipients, content), sink


def _fates(outcome: Outcome) -> list[tuple[str, str]]:
    return [(each.fate.value, each.status) for each in outcome.recipients]


@pytest.mark.parametrize(
    ("says", "fate", "status"),
    [
        ({}, "delivered", "2.0.0"),
        ({"": "554 5.7.1 go away"}, "waiting", "4.4.1"),
        ({"": "421 4.3.2 later"}, "waiting", "4.3.2"),
        ({"": "close"}, "waiting", "4.4.2"),
        ({"": "nonsense"}, "waiting", "4.4.1"),
        ({"": "\n".join(["220-x"] * 1000)}, "waiting", "4.4.2"),
        ({"EHLO": "502 5.5.1 what"}, "delivered", "2.0.0"),
        ({"EHLO": "502 5.5.1 what", "HELO": "502 5.5.1 what"}, "waiting", "4.4.2"),
        ({"EHLO": "250 MX.example.net"}, "failed", "5.4.6"),
        ({"MAIL": "550 5.7.1 no"}, "failed", "5.7.1"),
        ({"MAIL": "451 no"}, "waiting", "4.0.0"),
        ({"RCPT": "550 5.1.1 no such user"}, "failed", "5.1.1"),
        ({"RCPT": "550 4.1.1 which is it"}, "failed", "5.0.0"),
        ({"RCPT": "450 4.2.0 greylisted"}, "waiting", "4.2.0"),
        ({"RCPT": "552 too many recipients"}, "waiting", "4.0.0"),
        ({"RCPT": "251 2.1.5 forwarded"}, "delivered", "2.0.0"),
        ({"RCPT": "close"}, "waiting", "4.4.2"),
        ({"DATA": "554 5.7.1 no"}, "failed", "5.7.1"),
        ({"DATA": "250 what"}, "waiting", "4.5.0"),
        ({"RCPT": "252 2.1.5 who knows"}, "delivered", "2.0.0"),
        ({".": "554 5.6.0 spam"}, "failed", "5.6.0"),
        ({".": "451 4.3.0 disk"}, "waiting", "4.3.0"),
        ({".": "close"}, "waiting", "4.4.2"),
        ({"QUIT": "close"}, "delivered", "2.0.0"),
    ],
)
def test_what_a_server_says(says: dict[str, str], fate: str, status: str, stack: ExitStack) -> None:
    outcome, _ = _told(says, stack)

    assert _fates(outcome) == [(fate, status)]
    assert outcome.may_go_on == ("." not in says and fate != "delivered")


def test_some_are_taken(stack: ExitStack) -> None:
    says = {"RCPT TO:<no@": "550 5.1.1 unknown", "RCPT TO:<later@": "450 4.2.0 later"}
    outcome, sink = _told(says, stack, _mail("b@x.example", "no@x.example", "later@x.example"))

    assert {each.address: each.fate.value for each in outcome.recipients} == {
        "b@x.example": "delivered",
        "no@x.example": "failed",
        "later@x.example": "waiting",
    }
    assert sink.contents == [b"Subject: x\r\n\r\n..dot\r\nbody\r\n"]
    assert {each.host for each in outcome.recipients} == {"localhost"}


def test_lmtp_answers_for_each(stack: ExitStack) -> None:
    """RFC 2033 4.2."""
    says = {"LHLO": "250 sink.example", ".": "250 2.1.5 Ok\n452 4.2.2 full\n550 5.7.1 no"}
    outcome, sink = _told(says, stack, _mail("b@x", "c@x", "d@x"), via=Via.LMTP)

    assert _fates(outcome) == [("delivered", "2.1.5"), ("waiting", "4.2.2"), ("failed", "5.7.1")]
    assert sink.heard[0] == "LHLO mx.example.net"


def test_a_milters_address_is_no_command(stack: ExitStack) -> None:
    outcome, sink = _told({}, stack, _mail("b@x\r\nDATA", "x y@x", "c@x.example"))

    assert _fates(outcome) == [("failed", "5.1.3"), ("failed", "5.1.3"), ("delivered", "2.0.0")]
    assert [line for line in sink.heard if line.startswith("RCPT")] == ["RCPT TO:<c@x.example>"]


@pytest.mark.parametrize(
    ("ehlo", "address", "content", "fate", "status", "mail"),
    [
        ("8BITMIME", "b@x.example", b"A: b\r\n\r\n\xff", "delivered", "2.0.0", "BODY=8BITMIME"),
        ("SIZE", "b@x.example", b"A: b\r\n\r\n\xff", "failed", "5.6.3", None),
        ("SIZE", "ü@x.example", b"A: b\r\n\r\n", "failed", "5.6.7", None),
        ("SMTPUTF8", "ü@x.example", b"A: b\r\n\r\n", "delivered", "2.0.0", "SMTPUTF8"),
        ("SIZE 1", "b@x.example", b"A: b\r\n\r\n", "delivered", "2.0.0", "SIZE=8"),
    ],
)
def test_extensions(
    ehlo: str, address: str, content: bytes, fate: str, status: str, mail: str | None, stack: ExitStack
) -> None:
    outcome, sink = _told({"EHLO": f"250-sink\n250 {ehlo}"}, stack, _mail(address), content)

    assert _fates(outcome) == [(fate, status)]
    said = [line for line in sink.heard if line.startswith("MAIL")]
    assert said == ([] if mail is None else [f"MAIL FROM:<a@example.org> {mail}"])


def test_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        hop = NextHop("mx.example.org", "127.0.0.1", bound.getsockname()[1], Via.SMTP)
        outcome = SmtpClient(Relay(), "mx.example.net").hand_over(hop, _mail(), _mail().recipients, _CONTENT)

    assert _fates(outcome) == [("waiting", "4.4.2")]
    assert outcome.recipients[0].reply == "mx.example.org[127.0.0.1]: Connection refused"


@pytest.fixture
def server_tls(tmp_path: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate(tmp_path))
    return context


@pytest.mark.parametrize("level", [Tls.MAY, Tls.ENCRYPT])
def test_tls_with_any_certificate(level: Tls, server_tls: ssl.SSLContext, stack: ExitStack) -> None:
    outcome, sink = _told({"EHLO": _TLS}, stack, server_tls=server_tls, tls=level)

    assert _fates(outcome) == [("delivered", "2.0.0")], outcome
    assert sink.heard.count("STARTTLS") == len(sink.contents)
    assert sink.heard[:3] == ["EHLO mx.example.net", "STARTTLS", "EHLO mx.example.net"]


@pytest.mark.parametrize(
    ("trusted", "name", "expected"),
    [
        (True, "localhost", ("delivered", "2.0.0")),
        (True, "other", ("waiting", "4.7.5")),
        (False, "localhost", ("waiting", "4.7.5")),
    ],
)
def test_a_certificate_is_verified(
    trusted: bool, name: str, expected: tuple[str, str], server_tls: ssl.SSLContext, stack: ExitStack, tmp_path: Path
) -> None:
    settings = Relay(ca_file=tmp_path / "chain.pem" if trusted else None)
    outcome, sink = _told({"EHLO": _TLS}, stack, server_tls=server_tls, settings=settings, tls=Tls.VERIFY, name=name)

    assert _fates(outcome) == [expected]
    assert len(sink.contents) == (expected[0] == "delivered")


@pytest.mark.parametrize(
    ("says", "level", "expected"),
    [
        ({"EHLO": _TLS, "STARTTLS": "454 4.7.0 no key"}, Tls.MAY, ("delivered", "2.0.0")),
        ({"EHLO": _TLS, "STARTTLS": "220 but it speaks none"}, Tls.MAY, ("delivered", "2.0.0")),
        ({"EHLO": _TLS, "STARTTLS": "220 but it speaks none"}, Tls.ENCRYPT, ("waiting", "4.7.5")),
        ({}, Tls.ENCRYPT, ("waiting", "4.7.4")),
        ({}, Tls.VERIFY, ("waiting", "4.7.4")),
    ],
)
def test_without_tls(says: dict[str, str], level: Tls, expected: tuple[str, str], stack: ExitStack) -> None:
    """RFC 7435: what is better than nothing is no reason for nothing; what is required is."""
    outcome, sink = _told(says, stack, tls=level)

    assert _fates(outcome) == [expected]
    assert len(sink.contents) == (expected[0] == "delivered")


@pytest.mark.parametrize(("said", "expected"), [("235 2.7.0 Ok", "delivered"), ("535 5.7.8 no", "waiting")])
def test_a_login(said: str, expected: str, stack: ExitStack) -> None:
    """A password that is refused is ours to mend: the mail waits, as in Postfix."""
    says = {"EHLO": "250-sink.example\n250 AUTH PLAIN", "AUTH": said}
    outcome, sink = _told(says, stack, login=("me", "secret"))

    assert [each.fate.value for each in outcome.recipients] == [expected]
    assert "AUTH PLAIN " + base64.b64encode(b"\0me\0secret").decode() in sink.heard


def test_a_password_is_said_within_tls_only(stack: ExitStack) -> None:
    """A name of this machine in other words: what is not known to be near is far."""
    says = {"EHLO": "250-sink.example\n250 AUTH PLAIN"}
    outcome, sink = _told(says, stack, login=("me", "secret"), address="127.1")

    assert _fates(outcome) == [("waiting", "4.7.4")]
    assert not any(line.startswith("AUTH") for line in sink.heard)


def test_who_stops_ends_a_conversation(stack: ExitStack) -> None:
    """A server that says nothing any more keeps nobody from stopping."""
    listener = socket.create_server(("127.0.0.1", 0))
    stack.callback(listener.close)
    client = SmtpClient(Relay(), "mx.example.net")
    hop = NextHop("localhost", "127.0.0.1", listener.getsockname()[1], Via.SMTP)
    outcomes: list[Outcome] = []
    thread = threading.Thread(
        target=lambda: outcomes.append(client.hand_over(hop, _mail(), _mail().recipients, _CONTENT))
    )
    thread.start()
    silent, _ = listener.accept()
    stack.callback(silent.close)
    client.stop()
    thread.join(60)

    assert [_fates(each) for each in outcomes] == [[("waiting", "4.4.2")]]
    assert _fates(client.hand_over(hop, _mail(), _mail().recipients, _CONTENT)) == [("waiting", "4.3.2")]
