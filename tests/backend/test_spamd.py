"""A real spamd is asked, and each of its troubles is a result."""

import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from servers.debian import free_port
from servers.spamd import GTUBE, SpamdServer

from filterd.backend.spamd import Spamd, SpamdAddress
from filterd.mail.reason import Reason
from filterd.spam import SpamCode, SpamResult

HAM = b"From: Anna <anna@example.org>\r\nTo: paul@example.net\r\nSubject: lunch\r\nMessage-ID: <1@example.org>\r\n\r\nAt noon?\r\n"
SPAM = HAM + GTUBE + b"\r\n"

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def spamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpamdServer]:
    with SpamdServer(tmp_path_factory.mktemp("spamd")) as server:
        yield server


@contextmanager
def scanner(*addresses: SpamdAddress, timeout: float = 30.0) -> Iterator[tuple[Spamd, list[bool]]]:
    reports: list[bool] = []
    scanner = Spamd(addresses, timeout, lambda away, about: reports.append(away))
    scanner.start()
    try:
        yield scanner, reports
    finally:
        scanner.close()


def scanned(*addresses: SpamdAddress, mail: bytes = HAM, timeout: float = 30.0) -> SpamResult:
    with scanner(*addresses, timeout=timeout) as (spamd, _):
        return spamd.begin(mail, None).result()


def at(server: SpamdServer) -> SpamdAddress:
    return SpamdAddress(str(server.path) if server.path else None, port=server.port)


def test_spam_and_ham_are_told_apart(spamd: SpamdServer) -> None:
    with scanner(at(spamd)) as (scans, reports):
        found = [scan.result() for scan in [scans.begin(HAM, None), scans.begin(SPAM, None)]]

    assert [each.code for each in found] == [SpamCode.HAM, SpamCode.SPAM]
    assert found[0].score < found[0].threshold == 5.0
    assert found[1].score >= 1000
    assert "GTUBE" in found[1].symbols
    assert {"X-Spam-Status", "X-Spam-Flag"} <= {name for name, _ in found[1].fields}
    assert found[1].server == f"inet:{spamd.port}@127.0.0.1"
    assert reports == []


def test_a_unix_socket() -> None:
    with tempfile.TemporaryDirectory(prefix="filterd-spamd-") as name:
        # spamd has given up root when it makes the socket.
        Path(name).chmod(0o777)
        with SpamdServer(Path(name), Path(name, "socket")) as server:
            found = scanned(at(server))

    assert (found.code, found.server) == (SpamCode.HAM, f"unix:{server.path}")


def test_the_next_server_is_asked_where_one_is_dead(spamd: SpamdServer) -> None:
    found = scanned(SpamdAddress(port=free_port()), at(spamd), mail=SPAM)

    assert (found.code, found.server) == (SpamCode.SPAM, f"inet:{spamd.port}@127.0.0.1")


def test_a_server_that_hangs_leaves_time_for_the_next(spamd: SpamdServer, tmp_path: Path) -> None:
    with SpamdServer(tmp_path) as hanging, scanner(at(hanging), at(spamd), timeout=6.0) as (scans, reports):
        hanging.pause()
        # Both are asked within the time of one mail; the second mail is not shown to who hangs.
        found = [scans.begin(HAM, None).result() for _ in range(2)]
        hanging.resume()

    assert {(each.code, each.server) for each in found} == {(SpamCode.HAM, f"inet:{spamd.port}@127.0.0.1")}
    assert reports == []


def test_a_dead_server_costs_no_more_than_a_try_and_comes_back(tmp_path: Path) -> None:
    with SpamdServer(tmp_path) as server, scanner(at(server)) as (scans, reports):
        assert scans.begin(HAM, None).result().code is SpamCode.HAM
        server.stop()
        away = [scans.begin(HAM, None).result() for _ in range(20)]
        server.start()
        deadline = time.monotonic() + 60
        while (found := scans.begin(HAM, None).result()).code is SpamCode.TEMPERROR and time.monotonic() < deadline:
            time.sleep(0.05)

    assert {(each.code, each.reason) for each in away} == {(SpamCode.TEMPERROR, Reason.SPAM_UNAVAILABLE)}
    assert found.code is SpamCode.HAM
    assert reports == [True, False]


def test_a_server_that_hangs_costs_its_time_once(tmp_path: Path) -> None:
    with SpamdServer(tmp_path) as server, scanner(at(server), timeout=1.0) as (scans, reports):
        server.pause()
        first, *others = [scans.begin(HAM, None).result() for _ in range(3)]
        server.resume()

    assert first.reason is Reason.SPAM_TIMEOUT
    assert {each.code for each in others} == {SpamCode.TEMPERROR}
    assert reports == [True]


@contextmanager
def answering(answer: bytes, times: int = 1) -> Iterator[SpamdAddress]:
    """Somebody at spamd's place who says something else."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(times):
                connection, _ = listener.accept()
                with connection:
                    while connection.recv(65_536):
                        pass
                    with suppress(OSError):  # filterd may have read enough
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield SpamdAddress(port=listener.getsockname()[1])
        thread.join(30)


OK = b"SPAMD/1.1 0 EX_OK\r\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", Reason.SPAM_MALFORMED),
        (b"\0\xff\xfe\r\n\r\n", Reason.SPAM_MALFORMED),
        (b"HTTP/1.1 200 OK\r\n\r\n", Reason.SPAM_MALFORMED),
        (OK + b"\r\n", Reason.SPAM_MALFORMED),
        (OK + b"Spam: perhaps ; 1 / 2\r\n\r\n", Reason.SPAM_MALFORMED),
        (OK + b"Spam: True ; nan / 5\r\n\r\n", Reason.SPAM_MALFORMED),
        (OK + b"Spam: True ; 1e999 / 5\r\n\r\n", Reason.SPAM_MALFORMED),
        (OK + b"Spam: True ; \xff / 5\r\n\r\n", Reason.SPAM_MALFORMED),
        (OK + b"Content-length: 99999\r\nSpam: True ; 6 / 5\r\n\r\nx", Reason.SPAM_MALFORMED),
        (OK + b"Content-length: -1\r\nSpam: True ; 6 / 5\r\n\r\nx", Reason.SPAM_MALFORMED),
        (b"SPAMD/1.1 69 EX_UNAVAILABLE\r\n\r\n", Reason.SPAM_UNAVAILABLE),
        (b"SPAMD/1.1 79 EX_TIMEOUT\r\n\r\n", Reason.SPAM_TIMEOUT),
        (b"SPAMD/1.1 4294967296 EX\r\n\r\n", Reason.SPAM_UNAVAILABLE),
        (OK + b"X: " + b"y" * 1_000_000, Reason.SPAM_MALFORMED),
    ],
    ids=range(14),
)
def test_garbage_is_that_servers_failure(answer: bytes, reason: Reason) -> None:
    with answering(answer) as address:
        found = scanned(address)

    assert (found.code, found.reason) == (SpamCode.TEMPERROR, reason)


def test_what_a_server_says_cannot_leave_its_field() -> None:
    header = (
        b"X-Spam-Status: Yes, tests=A_B,\r\n\tC autolearn=no\r\nX-Spam-Evil: a\x1b[2J\xe2\x80\xae\r\nSubject: x\r\n\r\n"
    )
    answer = OK + b"Content-length: %d\r\nSpam: True ; 6.5 / 5.0\r\n\r\n" % len(header) + header
    with answering(answer) as address:
        found = scanned(address)

    assert found.symbols == ("A_B", "C")
    assert dict(found.fields) == {
        "X-Spam-Status": "Yes, tests=A_B,\n\tC autolearn=no",
        "X-Spam-Evil": "a [2J",
    }


def test_nobody_waits_for_a_scanner_that_was_never_started() -> None:
    found = Spamd([SpamdAddress()], 1.0, lambda away, about: None).begin(HAM, None).result()

    assert (found.code, found.reason) == (SpamCode.TEMPERROR, Reason.SPAM_UNAVAILABLE)


def test_no_descriptor_is_left(spamd: SpamdServer) -> None:
    with scanner(at(spamd), SpamdAddress(port=free_port())) as (scans, _):
        scans.begin(HAM, None).result()
        before = len(os.listdir("/dev/fd"))
        for _ in range(5):
            scans.begin(HAM, None).result()
        assert len(os.listdir("/dev/fd")) <= before + 1


@pytest.mark.parametrize("recipient", ["zoë@example.net", "a\r\nX: y@example.net", "\udcff@example.net"])
def test_a_recipient_that_the_protocol_cannot_say_has_no_preferences_and_harms_no_server(recipient: str) -> None:
    with answering(OK + b"Spam: True ; 6.5 / 5.0\r\n\r\n") as address, scanner(address) as (spamd, reports):
        found = spamd.begin(HAM, recipient).result()

    assert (found.code, reports) == (SpamCode.SPAM, [])
