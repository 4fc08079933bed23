"""Another program takes the place of the running one, and no mail notices; and sockets that systemd has bound."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers.debian import free_port
from servers.filterd_process import COMMAND, FilterdProcess, alive
from servers.milter_mta import ClosedError, MilterMta
from servers.milter_process import eventually, python_environment

from filterd.daemon.control import ask
from filterd.wire.milter import Accept, Data, EndOfHeaders, EndOfMessage, HeaderField, Mail, Rcpt, ReplyCode

REFUSE = 'rules: [{ name: no, when: envelope.sender == "a@example.org", then: reject, reply: "550 5.7.1 not you" }]'


def begin(address: str) -> MilterMta:
    mta = MilterMta(address)
    mta.open(ip="127.0.0.1")
    mta.say(Mail(b"<a@example.org>"), i="4Q1")
    mta.say(Rcpt(b"<b@example.net>"), i="4Q1")
    return mta


def end(mta: MilterMta) -> object:
    for step in (Data(), HeaderField(b"From", b" a@example.org"), EndOfHeaders()):
        mta.say(step)
    answer = mta.say(EndOfMessage())
    mta.quit()
    return answer


def send(address: str) -> object:
    with MilterMta(address) as mta:
        mta.open(ip="127.0.0.1")
        return mta.send()


def masters(daemon: FilterdProcess) -> list[int]:
    """The masters that have served, in order."""
    lines = [line for line in daemon.log().splitlines() if "event=upgraded" in line or 'event="upgraded' in line]
    return [daemon.process.pid, *(int(line.rpartition(" pid=")[2].split()[0]) for line in lines)]


@contextmanager
def running(folder: Path, policy: str = "", server: str = "") -> Iterator[FilterdProcess]:
    """The daemon, and whoever takes its place; the last one is stopped."""
    with FilterdProcess(folder, policy, server=server) as daemon:
        try:
            yield daemon
        finally:
            for pid in masters(daemon):
                if pid != daemon.process.pid and alive(pid):
                    os.kill(pid, signal.SIGTERM)
            eventually(lambda: not any(alive(pid) for pid in masters(daemon)[1:]))


def upgrade(daemon: FilterdProcess) -> int:
    """The new master, once it serves."""
    before = masters(daemon)
    os.kill(before[-1], signal.SIGUSR2)
    return int(eventually(lambda: (found := masters(daemon)) != before and found[-1]))


def test_a_new_master_takes_over_and_mail_in_flight_ends_under_the_old_one(tmp_path: Path) -> None:
    control, port = f"unix:{tmp_path}/control.sock", free_port()
    with running(tmp_path, server=f"http: inet:{port}@127.0.0.1") as daemon:
        mta, file = begin(daemon.address), daemon.path.stat().st_ino
        daemon.write(REFUSE)
        new = upgrade(daemon)

        # An old worker may take another one until it has heard that it is to go.
        eventually(lambda: send(daemon.address) == ReplyCode(b"550 5.7.1 not you"))
        eventually(lambda: ask(control, "status")["pid"] == new)
        assert daemon.process.poll() is None
        assert end(mta) == Accept()
        assert daemon.wait() == 0
        assert ask(control, "reload")["outcome"] == "reloaded"
        assert daemon.path.stat().st_ino == file
        socket.create_connection(("127.0.0.1", port), timeout=30).close()

        os.kill(new, signal.SIGTERM)
        eventually(lambda: not alive(new))
        assert not daemon.path.exists()
        assert not (tmp_path / "control.sock").exists()


def test_no_mail_is_lost_while_one_follows_the_other(tmp_path: Path) -> None:
    answers: list[object] = []
    enough = threading.Event()

    def keep_sending() -> None:
        while not enough.is_set():
            try:
                answers.append(send(daemon.address))
            except (ClosedError, OSError) as error:
                answers.append(error)

    with running(tmp_path) as daemon:
        senders = [threading.Thread(target=keep_sending) for _ in range(3)]
        for each in senders:
            each.start()
        try:
            found = [upgrade(daemon) for _ in range(3)]
        finally:
            enough.set()
            for each in senders:
                each.join()

        assert len(set(found)) == 3
        assert [each for each in answers if each != Accept()] == []
        assert len(answers) > 3


@pytest.mark.parametrize("policy", ["rules: [{ name: no, when: sender, then: reject }]", "no YAML: ["])
def test_a_program_that_cannot_start_changes_nothing(tmp_path: Path, policy: str) -> None:
    with running(tmp_path) as daemon:
        workers = daemon.workers()
        daemon.write(policy)
        daemon.signal(signal.SIGUSR2)
        eventually(lambda: "the upgrade failed, this daemon goes on" in daemon.log())
        eventually(lambda: daemon.workers() == workers)

        assert send(daemon.address) == Accept()
        daemon.write("")
        upgrade(daemon)
        assert send(daemon.address) == Accept()


def test_workers_that_cannot_start_change_nothing(tmp_path: Path) -> None:
    with FilterdProcess(tmp_path, program=("-m", "servers.master_child")) as daemon:
        workers = daemon.workers()
        daemon.write("identity: { authserv_id: broken.example }")
        daemon.signal(signal.SIGUSR2)
        eventually(lambda: "the upgrade failed, this daemon goes on" in daemon.log())
        eventually(lambda: daemon.workers() == workers)

        assert send(daemon.address) == Accept()
        assert daemon.path.exists()


def test_term_while_a_new_master_starts_ends_both(tmp_path: Path) -> None:
    with FilterdProcess(tmp_path) as daemon:
        daemon.signal(signal.SIGUSR2)
        eventually(lambda: "event=upgrading" in daemon.log())
        daemon.signal(signal.SIGTERM)

        assert daemon.wait() == 0
        assert not daemon.path.exists()


def test_systemd_is_told_who_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sd_notify(3): from MAINPID= on, systemd listens to the new one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with running(tmp_path) as daemon:
            assert systemd.recv(1000) == b"READY=1"
            new = upgrade(daemon)
            told = {systemd.recv(1000), systemd.recv(1000)}
            assert daemon.wait() == 0
            os.kill(new, signal.SIGTERM)
            last = systemd.recv(1000)

    assert told == {b"READY=1", f"MAINPID={new}".encode()}
    assert last == b"STOPPING=1"


def test_the_units_watchdog_hears_of_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        with FilterdProcess(tmp_path):
            told = [systemd.recv(1000) for _ in range(5)]

    assert sorted(set(told)) == [b"READY=1", b"WATCHDOG=1"]


def test_sockets_that_systemd_has_bound_are_used_and_stay(tmp_path: Path) -> None:
    port = free_port()
    addresses = [f"unix:{tmp_path}/milter", f"unix:{tmp_path}/control.sock", f"inet:{port}@127.0.0.1"]
    activated = ("-m", "servers.activated", *addresses)
    with FilterdProcess(tmp_path, program=activated, server=f"http: inet:{port}@127.0.0.1") as daemon:
        assert send(daemon.address) == Accept()
        assert ask(addresses[1], "status")["ready"]
        socket.create_connection(("127.0.0.1", port), timeout=30).close()
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert daemon.path.exists()


def test_mail_that_comes_before_the_daemon_waits_for_it(tmp_path: Path) -> None:
    """What socket activation is for: the MTA connects while nobody accepts yet."""
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(tmp_path / "milter"))
    bound.listen()
    answers: list[object] = []
    waiting = threading.Thread(target=lambda: answers.append(send(f"unix:{tmp_path}/milter")))
    waiting.start()
    program = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    policy = tmp_path / "policy.yaml"
    policy.write_text(f'version: 1\nserver: {{ milter: ["unix:{tmp_path}/milter"], workers: 1 }}\n')
    daemon = subprocess.Popen(
        [sys.executable, "-c", program, str(bound.fileno()), *COMMAND, "run", "-p", str(policy)],
        pass_fds=[bound.fileno()],
        env={**python_environment(), "LISTEN_FDS": "1"},
    )
    try:
        waiting.join(60)
    finally:
        daemon.terminate()
        daemon.wait(60)
        bound.close()

    assert answers == [Accept()]


def test_a_socket_that_no_policy_names_is_told_of(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(f'version: 1\nserver: {{ milter: ["unix:{tmp_path}/milter"] }}\n')
    found = subprocess.run(
        [sys.executable, "-m", "servers.activated", f"unix:{tmp_path}/other", str(policy)],
        capture_output=True,
        text=True,
        env=python_environment(),
        timeout=60,
        check=False,
    )

    text = f"systemd hands over a socket at unix:{tmp_path}/other (socket-0), which the policy's server section lacks\n"
    assert (found.returncode, found.stderr) == (1, text)


def test_sockets_for_another_process_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    with FilterdProcess(tmp_path) as daemon:
        assert send(daemon.address) == Accept()
        environment = Path(f"/proc/{daemon.process.pid}/environ").read_bytes()
        assert b"LISTEN_PID=1" in environment
        assert json.dumps(ask(f"unix:{tmp_path}/control.sock", "status"))
