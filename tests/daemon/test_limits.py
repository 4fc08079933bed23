"""Limits of the running daemon: exact over all its workers, over two of it, and where milter and policy service meet."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from servers import redis
from servers.filterd_process import FilterdProcess
from servers.milter_mta import MilterMta
from servers.milter_process import eventually
from servers.policy_client import PolicyClient

from filterd.wire.milter import (
    Accept,
    Connect,
    Continue,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Family,
    Helo,
    Mail,
    Protocol,
    Rcpt,
)

LIMITS = """\
dmarc: { on_multiple_authors: skip }
limits:
  - { name: narrow, key: envelope.sender, rate: 100 recipients per 1d, on_error: defer }
"""
CONNECTIONS = 8
ATTEMPTS = 10_000
OF_ONE_MAIL = 40


class Daemon(FilterdProcess):
    engine = "native"


def connect(address: str, port: int) -> MilterMta:
    """A client of ours, whose port is its own."""
    mta = MilterMta(address)
    mta.negotiate()
    mta.say(Connect(b"client.example", Family.INET, port, b"127.0.0.1"), j="mx.example.org")
    mta.say(Helo(b"client.example"))
    return mta


def send(mta: MilterMta, recipients: Sequence[bytes]) -> int:
    """A whole mail; how many of its recipients were taken."""
    mta.say(Mail(b"<anna@example.org>"))
    taken = sum(isinstance(mta.say(Rcpt(each)), Continue) for each in recipients)
    if taken:
        for step in (Data(), EndOfHeaders()):
            mta.say(step)
        assert isinstance(mta.say(EndOfMessage()), Accept | Continue)
    return taken


def taken_of_many(addresses: Sequence[str]) -> int:
    """How many of ATTEMPTS recipients are taken, tried by many clients at once."""
    taken: list[int] = []
    faults: list[BaseException] = []
    clients = 4 * CONNECTIONS
    mails = ATTEMPTS // OF_ONE_MAIL

    def client(number: int) -> None:
        try:
            with connect(addresses[number % len(addresses)], 40_000 + number) as mta:
                for mail in range(number, mails, clients):
                    recipients = [b"<%d.%d@example.net>" % (mail, each) for each in range(OF_ONE_MAIL)]
                    taken.append(send(mta, recipients))
        except BaseException as fault:  # noqa: BLE001 # it is told where the threads are waited for
            faults.append(fault)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(taken) == mails
    return sum(taken)


def test_of_ten_thousand_at_a_limit_of_a_hundred_exactly_a_hundred_pass(tmp_path: Path) -> None:
    with Daemon(tmp_path, LIMITS, server=f'state: "sqlite:{tmp_path}/state.db"', workers=4) as daemon:
        assert taken_of_many([daemon.address]) == 100
        assert "event=fault" not in daemon.log()


def test_the_same_over_two_machines_on_one_redis(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with redis.running() as server:
        state = f'state: "redis://127.0.0.1:{server.port}"'
        with (
            Daemon(tmp_path / "one", LIMITS, server=state, workers=2) as one,
            Daemon(tmp_path / "two", LIMITS, server=state, workers=2) as two,
        ):
            assert taken_of_many([one.address, two.address]) == 100


class Both(Daemon):
    """filterd with both services, its state in a file."""

    def __init__(self, folder: Path, policy: str) -> None:
        self.policy = f"unix:{folder}/policy"
        server = f'policy_service: ["{self.policy}"], state: "sqlite:{folder}/state.db"'
        super().__init__(folder, policy, server=server)


def test_what_milter_and_policy_service_both_see_is_charged_once(tmp_path: Path) -> None:
    limits = LIMITS.replace("100 recipients", "3 recipients")
    with Both(tmp_path, limits) as daemon, PolicyClient(daemon.policy) as service:

        def ask(recipient: str, instance: str) -> str | None:
            return service.ask(sender="anna@example.org", recipient=recipient, client_port=40_001, instance=instance)

        with connect(daemon.address, 40_001) as mta:
            mta.say(Mail(b"<anna@example.org>"))
            for recipient in ("a@example.net", "b@example.net"):
                assert ask(recipient, "1") == "DUNNO"
                assert isinstance(mta.say(Rcpt(f"<{recipient}>".encode())), Continue)
            assert ask("c@example.net", "1") == "DUNNO"  # Postfix refuses it itself
            mta.say(Data())
            mta.say(EndOfHeaders())
            assert isinstance(mta.say(EndOfMessage()), Accept | Continue)
            assert ask("d@example.net", "2") == "DUNNO"  # the third that counts
            answer = ask("e@example.net", "2")
            assert answer is not None
            assert "too much mail, try again in" in answer


def test_a_store_that_goes_away_is_told_of_once_and_is_back_without_a_restart(tmp_path: Path) -> None:
    with redis.running() as server:
        state = f'state: "redis://127.0.0.1:{server.port}"'
        with Daemon(tmp_path, LIMITS, server=state, workers=1) as daemon, connect(daemon.address, 40_000) as mta:
            assert send(mta, [b"<a@example.net>"]) == 1
            server.stop()
            assert [send(mta, [b"<b@example.net>"]) for _ in range(5)] == [0] * 5
            server.start()
            eventually(lambda: send(mta, [b"<c@example.net>"]))
            assert daemon.log().count("the state store is away") == 1
            assert daemon.log().count("the state store is back") == 1


FAILURES = """\
dmarc: { on_multiple_authors: skip }
limits:
  - { name: guesses, key: envelope.sender, rate: 2 failures per 1d }
  - { name: narrow, key: envelope.sender, rate: 3 recipients per 1d }
"""
REFUSED = {"rcpt_mailer": "error", "rcpt_host": "5.1.1", "rcpt_addr": "User unknown"}
TAKEN = {"rcpt_mailer": "local", "rcpt_host": "", "rcpt_addr": "x"}


@pytest.mark.parametrize("engine", ["native", "libmilter"])
def test_recipients_that_the_mta_refuses_are_failures_and_nothing_else(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Daemon, "engine", engine)
    with Daemon(tmp_path, FAILURES, workers=1) as daemon, connect(daemon.address, 40_000) as mta:
        assert mta.protocol & Protocol.REJECTED_RECIPIENTS
        mta.say(Mail(b"<anna@example.org>"))

        def said(name: bytes, macros: dict[str, str]) -> bool:
            return isinstance(mta.say(Rcpt(b"<%s@example.net>" % name), **macros), Continue)

        # One twice, one put off: all that is one failure.
        assert said(b"a", REFUSED)
        assert said(b"A", REFUSED)
        assert said(b"later", REFUSED | {"rcpt_host": "4.2.2"})
        assert [said(each, TAKEN) for each in (b"b", b"c", b"d", b"e")] == [True, True, True, False]
        assert said(b"e", REFUSED)
        assert not said(b"b", TAKEN)
        assert said(b"f", REFUSED)
        assert "event=fault" not in daemon.log()


@pytest.mark.parametrize("engine", ["native", "libmilter"])
def test_who_does_not_say_whom_it_refuses_is_not_believed(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Daemon, "engine", engine)
    with Daemon(tmp_path, FAILURES, workers=1) as daemon, connect(daemon.address, 40_000) as mta:
        mta.say(Mail(b"<anna@example.org>"))
        assert not isinstance(mta.say(Rcpt(b"<a@example.net>")), Continue)
        assert "rcpt_mailer" in daemon.log()


@pytest.mark.parametrize("engine", ["native", "libmilter"])
def test_without_such_a_limit_nobody_tells_of_refused_recipients(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Daemon, "engine", engine)
    with Daemon(tmp_path, LIMITS, workers=1) as daemon, connect(daemon.address, 40_000) as mta:
        assert not mta.protocol & Protocol.REJECTED_RECIPIENTS
