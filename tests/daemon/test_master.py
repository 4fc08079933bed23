"""The daemon as the MTA and the operator see it: `filterd run` in processes of its own, over its real socket."""

import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.debian import free_port
from servers.filterd_process import COMMAND, FilterdProcess, alive
from servers.milter_mta import ClosedError, MilterMta
from servers.milter_process import eventually, python_environment

from filterd.wire.milter import Accept, Data, EndOfHeaders, EndOfMessage, HeaderField, Mail, Rcpt, ReplyCode

REFUSE = 'rules: [{ name: no, when: envelope.sender == "a@example.org", then: reject, reply: "550 5.7.1 not you" }]'
REFUSED = ReplyCode(b"550 5.7.1 not you")
MASTER = ("-m", "servers.master_child")


@pytest.fixture(params=["libmilter", "native"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What speaks the milter protocol: the same tests for both."""
    monkeypatch.setattr(FilterdProcess, "engine", request.param)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FilterdProcess]:
    with FilterdProcess(tmp_path) as process:
        yield process


def begin(address: str) -> MilterMta:
    """A connection in the middle of a message. The client is ours, so that nothing asks DNS."""
    mta = MilterMta(address)
    mta.open(ip="127.0.0.1")
    mta.say(Mail(b"<a@example.org>"), i="4Q1")
    mta.say(Rcpt(b"<b@example.net>"), i="4Q1")
    return mta


def end(mta: MilterMta) -> object:
    """The answer to the rest of the message."""
    for step in (Data(), HeaderField(b"From", b" a@example.org"), EndOfHeaders()):
        mta.say(step)
    return mta.say(EndOfMessage())


def send(address: str) -> object:
    """The answer to a message on a connection of its own."""
    with MilterMta(address) as mta:
        mta.open(ip="127.0.0.1")
        return mta.send()


def send_until_taken(address: str) -> object:
    """The same, by an MTA that tries again when a worker dies under it."""
    while True:
        try:
            return send(address)
        except (ClosedError, ConnectionResetError, BrokenPipeError):
            continue


def test_mail_is_judged_and_told_of(daemon: FilterdProcess) -> None:
    assert send(daemon.address) == Accept()
    line = eventually(lambda: [line for line in daemon.log().splitlines() if "event=judged" in line])[0]
    assert "queue_id=4Q1" in line
    assert "verdict=accept" in line


def test_term_lets_the_message_in_flight_end(daemon: FilterdProcess) -> None:
    mta = begin(daemon.address)
    daemon.signal(signal.SIGTERM)
    eventually(lambda: not daemon.path.exists())
    answer = end(mta)
    mta.quit()

    assert answer == Accept()
    assert daemon.wait() == 0
    assert "event=stopped" in daemon.log()


def test_int_stops_as_term_does(daemon: FilterdProcess) -> None:
    daemon.signal(signal.SIGINT)

    assert daemon.wait() == 0
    assert not daemon.path.exists()


def test_a_connection_that_does_not_end_is_not_waited_for(tmp_path: Path) -> None:
    with FilterdProcess(tmp_path, program=MASTER) as daemon:
        mta = begin(daemon.address)
        daemon.signal(signal.SIGTERM)

        assert daemon.wait() == 0
        with pytest.raises((ClosedError, OSError)):
            end(mta)


def test_workers_that_are_told_to_go_lose_nothing_and_are_replaced(daemon: FilterdProcess) -> None:
    mta = begin(daemon.address)
    file, old = daemon.path.stat().st_ino, daemon.workers()
    for pid in old:
        os.kill(pid, signal.SIGTERM)
    others = [send(daemon.address) for _ in range(10)]
    answer = end(mta)
    mta.quit()
    eventually(lambda: not any(alive(pid) for pid in old))

    assert others == [Accept()] * 10
    assert answer == Accept()
    assert daemon.path.stat().st_ino == file
    assert len(eventually(lambda: len(found := daemon.workers()) == 2 and found)) == 2


def test_a_worker_that_is_killed_is_replaced(daemon: FilterdProcess) -> None:
    mta = begin(daemon.address)
    old = daemon.workers()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises((ClosedError, OSError)):
        end(mta)
    answers = [send_until_taken(daemon.address) for _ in range(10)]

    assert answers == [Accept()] * 10
    assert not set(old) & set(daemon.workers())
    assert "SIGKILL" in daemon.log()


def test_workers_end_with_the_master_and_lose_nothing(daemon: FilterdProcess) -> None:
    mta = begin(daemon.address)
    workers = daemon.workers()
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    answer = end(mta)
    mta.quit()
    eventually(lambda: not any(alive(pid) for pid in workers))

    assert answer == Accept()


def test_a_terminal_that_closes_takes_no_worker_along(daemon: FilterdProcess) -> None:
    workers = daemon.workers()
    for pid in workers:
        os.kill(pid, signal.SIGHUP)
        os.kill(pid, signal.SIGINT)

    assert [send(daemon.address) for _ in range(10)] == [Accept()] * 10
    assert daemon.workers() == workers


def test_a_message_ends_under_the_policy_that_it_began_with(daemon: FilterdProcess) -> None:
    mta = begin(daemon.address)
    daemon.write(REFUSE)
    daemon.signal(signal.SIGHUP)
    eventually(lambda: "event=reloaded" in daemon.log())
    old, new = end(mta), send(daemon.address)
    mta.quit()

    assert old == Accept()
    assert new == REFUSED
    assert len(eventually(lambda: len(found := daemon.workers()) == 2 and found)) == 2


def test_a_policy_with_errors_changes_nothing(daemon: FilterdProcess) -> None:
    workers = daemon.workers()
    daemon.write("rules: [{ name: no, when: sender, then: reject }, { name: twice, then: nothing }]")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: "reload refused" in daemon.log())

    assert send(daemon.address) == Accept()
    assert daemon.workers() == workers
    assert "policy.yaml:3:" in daemon.log()


def test_a_policy_whose_own_tests_fail_changes_nothing(daemon: FilterdProcess) -> None:
    workers = daemon.workers()
    wrong = "{ name: one, expect: { rule: no } }"
    right = "{ name: two, given: { sender: a@example.org }, expect: { rule: no } }"
    daemon.write(f"{REFUSE}\ntests: [{wrong}, {right}]")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: "reload refused" in daemon.log())

    assert send(daemon.address) == Accept()
    assert daemon.workers() == workers
    assert "the test 'one' fails: rule: expected no, happened none" in daemon.log()
    assert "the test 'two' fails" not in daemon.log()
    daemon.write(f"{REFUSE}\ntests: [{right}]")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: "event=reloaded" in daemon.log())
    assert send(daemon.address) == REFUSED


def test_a_policy_that_workers_cannot_start_with_changes_nothing(tmp_path: Path) -> None:
    with FilterdProcess(tmp_path, REFUSE, program=MASTER) as daemon:
        workers = daemon.workers()
        daemon.write("identity: { authserv_id: broken.example }")
        daemon.signal(signal.SIGHUP)
        eventually(lambda: "reload failed" in daemon.log())
        eventually(lambda: len(daemon.workers()) == 2)

        assert send(daemon.address) == REFUSED
        assert daemon.workers() == workers


def test_reloads_one_upon_the_other_end_with_the_last(daemon: FilterdProcess) -> None:
    for policy in (REFUSE, "", REFUSE):
        daemon.write(policy)
        daemon.signal(signal.SIGHUP)
    eventually(lambda: send(daemon.address) == REFUSED)
    eventually(lambda: len(daemon.workers()) == 2)

    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0


def test_workers_that_die_as_they_start_are_tried_again_and_told_of(tmp_path: Path) -> None:
    with FilterdProcess(tmp_path, "identity: { authserv_id: broken.example }", program=MASTER, ready=False) as daemon:
        eventually(lambda: "workers die as soon as they start" in daemon.log())
        daemon.write("")
        daemon.signal(signal.SIGHUP)
        eventually(lambda: "event=ready" in daemon.log() or "reloaded" in daemon.log())

        assert send(daemon.address) == Accept()
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with FilterdProcess(tmp_path) as daemon:
            told = [systemd.recv(1000)]
            daemon.signal(signal.SIGHUP)
            told += [systemd.recv(1000).partition(b"\n")[0], systemd.recv(1000)]
            daemon.signal(signal.SIGTERM)
            told.append(systemd.recv(1000))

            assert daemon.wait() == 0
    assert told == [b"READY=1", b"RELOADING=1", b"READY=1", b"STOPPING=1"]


@pytest.mark.parametrize("form", ["inet:{}@127.0.0.1", "inet6:{}@::1"])
def test_mail_comes_over_tcp_too(tmp_path: Path, form: str) -> None:
    with FilterdProcess(tmp_path, address=form.format(free_port())) as daemon:
        mta = begin(daemon.address)
        daemon.signal(signal.SIGHUP)
        eventually(lambda: "event=reloaded" in daemon.log())

        assert send(daemon.address) == Accept()
        daemon.signal(signal.SIGTERM)
        eventually(lambda: "event=stopping" in daemon.log())
        assert end(mta) == Accept()
        mta.quit()
        assert daemon.wait() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_is_given_up_after_binding(tmp_path: Path) -> None:
    with FilterdProcess(tmp_path, server="user: nobody") as daemon:
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in [daemon.process.pid, *daemon.workers()]]
        users = {line for status in statuses for line in status.splitlines() if line.startswith("Uid:")}

        assert users == {"Uid:" + f"\t{pwd.getpwnam('nobody').pw_uid}" * 4}
        assert send(daemon.address) == Accept()


def run(policy: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *COMMAND, "run", "-p", str(policy), *options],
        capture_output=True,
        text=True,
        env=python_environment(),
        timeout=60,
        check=False,
    )


def test_a_second_daemon_does_not_take_the_socket_of_the_first(daemon: FilterdProcess, tmp_path: Path) -> None:
    second = run(tmp_path / "policy.yaml")

    assert second.returncode == 1
    assert "already in use by a running process" in second.stderr
    assert send(daemon.address) == Accept()


def test_the_socket_of_a_daemon_that_died_is_replaced(daemon: FilterdProcess, tmp_path: Path) -> None:
    workers = daemon.workers()
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    eventually(lambda: not any(alive(pid) for pid in workers))

    assert daemon.path.exists()
    with FilterdProcess(tmp_path) as again:
        assert send(again.address) == Accept()


def test_every_error_of_the_policy_is_shown_at_start(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nrules:\n  - { name: a, when: spf.result == 1, then: reject }\nservr: {}\n")
    found = run(policy)

    assert found.returncode == 1
    assert "policy.yaml:3:" in found.stderr or "policy.yaml:4:" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_policy_whose_own_tests_fail_is_not_run(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\ntests:\n  - { name: a, expect: { verdict: hold } }\n")
    found = run(policy)

    failed = f"{policy}:3:7: tests[0].name: the test 'a' fails: verdict: expected hold, happened accept\n"
    assert (found.returncode, found.stderr) == (1, failed)


def test_a_missing_option_is_misuse(tmp_path: Path) -> None:
    found = subprocess.run([sys.executable, *COMMAND, "run"], capture_output=True, text=True, timeout=60, check=False)

    assert found.returncode == 2


def test_sigusr1_has_the_log_tell_everything(tmp_path: Path) -> None:
    with FilterdProcess(tmp_path) as daemon:
        daemon.signal(signal.SIGUSR1)
        eventually(lambda: "the log tells everything for a minute" in daemon.log())
        with MilterMta(daemon.address) as mta:
            mta.open(ip="127.0.0.1")
            mta.send()
        eventually(lambda: "event=times" in daemon.log())
