"""spamd breaks while mail comes in by a real Postfix: each mail ends by `on_error`, one warning tells of it, one mail
waits for it, and it is asked again by itself.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dkim_mail import rsa_pair, signed
from example_org import HONEST, MAIL, SENDER, policy
from servers.certificate import certificate
from servers.fake_dns import FakeDns, reply
from servers.fake_spamd import HAM, PONG, FakeSpamd
from servers.filterd import Filterd
from servers.milter_process import eventually
from servers.postfix import Postfix
from servers.spamd import SpamdServer

pytestmark = pytest.mark.system

AWAY, BACK = "no spamd can say what it thinks", "spamd is back"
CODES = {"skip": 250, "accept": 250, "defer": 451, "reject": 550}
SILENT: dict[str, bytes] = {}


def send(postfix: Postfix, recipient: str, mail: bytes = MAIL) -> int:
    """The code that settles a mail."""
    with postfix.connect(HONEST) as smtp:
        smtp.mail(SENDER)
        smtp.rcpt(recipient)
        return smtp.data(mail)[0]


@contextmanager
def scanning(postfix: Postfix, dns: str, address: str, more: str) -> Iterator[Filterd]:
    """filterd with one worker, as each finds out for itself what is away."""
    section = f'spamd: {{ address: "{address}", {more} }}'
    with Filterd(postfix.milters, policy(dns, section), workers=1) as filterd:
        yield filterd
        assert filterd.events("fault") == filterd.events("worker ended") == []


def flows(
    postfix: Postfix,
    filterd: Filterd,
    recipient: str,
    on_error: str,
    breaks: Callable[[], object],
    mend: Callable[[], object],
) -> list[str]:
    """Mail before, while it is broken, and after. Returns why the three in between were not scanned."""
    codes = [send(postfix, recipient)]
    breaks()
    codes += [send(postfix, recipient) for _ in range(3)]
    mend()
    eventually(lambda: codes.append(send(postfix, recipient)) or filterd.events(BACK))
    decisions = filterd.wait_for("judged", len(codes))
    unscanned = len(codes) - 2

    assert (len(filterd.events(AWAY)), len(filterd.events(BACK))) == (1, 1)
    assert codes == [250, *[CODES[on_error]] * unscanned, 250]
    assert [each["spam"] == "temperror:0" for each in decisions] == [False, *[True] * unscanned, False]
    assert {each["rule"] for each in decisions[1:-1]} == {"-" if on_error == "skip" else "spamd.on_error"}
    # Who was told that his mail is taken has it delivered, with what spamd said or without; nobody else.
    delivered = [False] * unscanned if CODES[on_error] == 250 else []
    assert sorted(b"\nX-Spam-Status: " in mail for mail in postfix.maildir(recipient)) == [*delivered, True, True]
    assert postfix.queue() == []
    return [each["reasons"] for each in decisions[1:4]]


@pytest.mark.parametrize("kind", ["inet", "unix"])
def test_spamd_is_killed_and_started_again(
    postfix: Postfix, dns: str, recipient: str, tmp_path: Path, kind: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="filterd-spamd-") as name:
        # spamd has given up root when it makes the socket.
        Path(name).chmod(0o777)
        path = Path(name, "socket") if kind == "unix" else None
        on_error = "defer" if kind == "inet" else "skip"
        with (
            SpamdServer(tmp_path, path) as spamd,
            scanning(postfix, dns, spamd.address, f"timeout: 60s, on_error: {on_error}") as filterd,
        ):
            reasons = flows(postfix, filterd, recipient, on_error, spamd.stop, spamd.start)

    assert reasons == ["spam.unavailable"] * 3


def test_spamd_hangs_and_goes_on(postfix: Postfix, dns: str, recipient: str, tmp_path: Path) -> None:
    """The first mail waits for it, the others do not; what was scanned too late harms nobody."""
    with (
        SpamdServer(tmp_path) as spamd,
        scanning(postfix, dns, spamd.address, "timeout: 10s, on_error: reject") as filterd,
    ):
        reasons = flows(postfix, filterd, recipient, "reject", spamd.pause, spamd.resume)

    assert reasons == ["spam.timeout", "spam.unavailable", "spam.unavailable"]


def test_a_silent_spamd_is_shown_one_mail_and_then_only_asked_whether_it_is_there(
    postfix: Postfix, dns: str, recipient: str
) -> None:
    with (
        FakeSpamd(HEADERS=HAM, PING=PONG) as spamd,
        scanning(postfix, dns, spamd.address, "timeout: 5s, on_error: defer") as filterd,
    ):

        def mend() -> None:
            asked = spamd.asked[:]
            spamd.say(HEADERS=HAM, PING=PONG)
            assert [word for word in asked if word != "PING"] == ["HEADERS", "HEADERS"]

        flows(postfix, filterd, recipient, "defer", lambda: spamd.say(**SILENT), mend)


def test_a_spamd_that_is_too_slow_is_shown_a_mail_each_time_it_says_that_it_is_there(
    postfix: Postfix, dns: str, recipient: str
) -> None:
    with (
        FakeSpamd(HEADERS=HAM, PING=PONG) as spamd,
        scanning(postfix, dns, spamd.address, "timeout: 4s, on_error: accept") as filterd,
    ):
        before = len(spamd.asked)
        flows(
            postfix,
            filterd,
            recipient,
            "accept",
            lambda: spamd.say(PING=PONG),
            lambda: spamd.say(HEADERS=HAM, PING=PONG),
        )

    # One before, one that waited in vain, and no other but behind a PING.
    shown = "".join(word[0] for word in spamd.asked[before:])
    assert shown.startswith("HHP")
    assert "HH" not in shown[1:]


@pytest.mark.parametrize(
    "answers",
    [
        {"HEADERS": b"\0\xff\r\n\r\n", "PING": b"\0\xff\r\n\r\n"},
        {"HEADERS": b"HTTP/1.1 400 Bad Request\r\n\r\n", "PING": PONG},
        {"HEADERS": HAM[:30], "PING": b""},
        {"HEADERS": HAM + b"X" * 1_000_000, "PING": PONG},
    ],
    ids=["octets", "another protocol", "half of it", "too much"],
)
def test_a_spamd_that_talks_nonsense(postfix: Postfix, dns: str, recipient: str, answers: dict[str, bytes]) -> None:
    with (
        FakeSpamd(HEADERS=HAM, PING=PONG) as spamd,
        scanning(postfix, dns, spamd.address, "timeout: 30s, on_error: defer") as filterd,
    ):
        reasons = flows(
            postfix,
            filterd,
            recipient,
            "defer",
            lambda: spamd.say(**answers),
            lambda: spamd.say(HEADERS=HAM, PING=PONG),
        )

    assert reasons[0] == "spam.malformed"


def test_spamd_over_tls_is_trusted_by_its_certificate(
    postfix: Postfix, dns: str, recipient: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="filterd-tls-") as name:
        Path(name).chmod(0o755)
        chain = certificate(Path(name))
        chain.chmod(0o644)
        with SpamdServer(tmp_path, None, "--ssl", f"--server-key={chain}", f"--server-cert={chain}") as spamd:
            # Nobody vouches for it: not shown the mail.
            with scanning(postfix, dns, spamd.address, "tls: true, on_error: defer") as filterd:
                assert send(postfix, recipient) == 451
                assert [told["about"] for told in filterd.events(AWAY)] == ["spam.unavailable"]
            monkeypatch.setenv("SSL_CERT_FILE", str(chain))
            with scanning(postfix, dns, spamd.address, "tls: true, on_error: defer, timeout: 60s") as filterd:
                flows(postfix, filterd, recipient, "defer", spamd.stop, spamd.start)


def test_spamd_scans_while_dns_is_waited_for(postfix: Postfix, recipient: str) -> None:
    """The key comes when spamd has the mail, and spamd answers when the key was there: one waits for the other in vain
    where they are asked in turn."""
    with FakeSpamd() as spamd:

        def key(query: bytes, _: bool) -> list[bytes]:
            if b"\x03sel\x0a_domainkey" not in query:
                return [reply(query)]
            spamd.wait_for("HEADERS")
            spamd.say(HEADERS=HAM)
            record = rsa_pair().record.decode()
            return [reply(query, f'sel._domainkey.example.org. 300 TXT "{record[:250]}" "{record[250:]}"')]

        with (
            FakeDns(key) as names,
            scanning(postfix, f"127.0.0.1:{names.address[1]}", spamd.address, "timeout: 30s, on_error: defer"),
        ):
            assert send(postfix, recipient, signed(MAIL, rsa_pair())) == 250
    (delivered,) = postfix.maildir(recipient)

    assert b"\n\tdkim=pass " in delivered
    assert b"\nX-Spam-Status: No, score=0.1" in delivered
