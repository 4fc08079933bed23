"""The daemon as Postfix's policy client sees it: beside a milter and alone, over its real socket."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from servers.debian import free_port
from servers.filterd_process import COMMAND, FilterdProcess, alive
from servers.milter_mta import MilterMta
from servers.milter_process import eventually, python_environment
from servers.policy_client import PolicyClient

from filterd.wire.milter import Accept

REFUSE = 'rules: [{ name: no, when: envelope.sender == "a@example.org", then: reject, reply: "550 5.7.1 not you" }]'
TAG = 'rules: [{ name: mark, when: "true", then: tag }]'


class Daemon(FilterdProcess):
    """filterd with a policy service at `policy`, and a milter unless it is told to have none."""

    def __init__(self, folder: Path, policy: str = "", *, service: str | None = None, more: str = "") -> None:
        self.policy = service or f"unix:{folder}/policy"
        super().__init__(folder, policy, server=f'policy_service: ["{self.policy}"], {more}')


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as process:
        yield process


def test_both_services_run_side_by_side(tmp_path: Path) -> None:
    with Daemon(tmp_path, TAG) as daemon:
        with PolicyClient(daemon.policy) as client, MilterMta(daemon.address) as mta:
            assert client.ask() == "PREPEND X-Filterd-Tag: mark"
            mta.open(ip="127.0.0.1")
            assert mta.send() == Accept()
        ready = next(line for line in daemon.log().splitlines() if "event=ready" in line)
        assert f"milter={daemon.address} policy_service={daemon.policy} workers=2" in ready
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert not (tmp_path / "policy").exists()


def test_it_is_of_use_where_there_is_no_milter(tmp_path: Path) -> None:
    policy = tmp_path / "alone.yaml"
    policy.write_text(
        f'version: 1\nserver: {{ milter: [], policy_service: ["unix:{tmp_path}/p", "inet:{(port := free_port())}@127.0.0.1"] }}\n'
        f"{REFUSE}\n"
    )
    process = subprocess.Popen(
        [sys.executable, *COMMAND, "run", "--workers", "1", "-p", str(policy)],
        stderr=subprocess.PIPE,
        env=python_environment(),
    )
    try:
        assert process.stderr is not None
        eventually(lambda: b"event=ready" in process.stderr.readline())
        for address in (f"unix:{tmp_path}/p", f"inet:{port}@127.0.0.1"):
            with PolicyClient(address) as client:
                assert client.ask() == "550 5.7.1 not you"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        ("milter: []", "nobody could connect"),
        ('policy_service: ["unix:/p", "unix:/p"]', "used twice"),
        ('milter: ["unix:/p"], policy_service: ["unix:/p"]', "used twice"),
        ("policy_service: [tcp]", "a socket reads"),
    ],
)
def test_a_service_that_cannot_be_is_told_at_start(tmp_path: Path, server: str, problem: str) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"version: 1\nserver: {{ {server} }}\n")
    found = subprocess.run(
        [sys.executable, *COMMAND, "run", "-p", str(policy)],
        capture_output=True,
        text=True,
        env=python_environment(),
        timeout=60,
        check=False,
    )

    assert found.returncode == 1
    assert f"{policy}:2:" in found.stderr
    assert problem in found.stderr


def test_its_socket_lets_in_whom_the_policy_says(tmp_path: Path) -> None:
    with Daemon(tmp_path, more='socket: { mode: "0640" }'):
        assert stat.S_IMODE((tmp_path / "policy").stat().st_mode) == 0o640


def test_many_questions_over_one_connection(daemon: Daemon) -> None:
    with PolicyClient(daemon.policy) as client:
        assert [client.ask(instance=str(number)) for number in range(500)] == ["DUNNO"] * 500


def test_500_idle_clients_hold_up_nobody(daemon: Daemon) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(PolicyClient(daemon.policy)) for _ in range(500)]
        assert [each.ask() for each in clients[:20]] == ["DUNNO"] * 20
        with PolicyClient(daemon.policy) as another:
            assert another.ask() == "DUNNO"
        threads = [len(os.listdir(f"/proc/{pid}/task")) for pid in daemon.workers()]
        assert max(threads) < 10
        assert {each.ask() for each in clients} == {"DUNNO"}


def test_what_breaks_the_protocol_is_told_and_costs_one_connection(daemon: Daemon) -> None:
    with PolicyClient(daemon.policy) as client, PolicyClient(daemon.policy) as other:
        client.send(b"EHLO client.example\n\n")
        assert client.answer() is None
        assert other.ask() == "DUNNO"
    assert "a line is no name=value" in eventually(lambda: "connection closed" in daemon.log() and daemon.log())
    assert "event=fault" not in daemon.log()


def test_a_reload_ends_idle_connections_and_loses_no_question(daemon: Daemon) -> None:
    with PolicyClient(daemon.policy) as client:
        assert client.ask() == "DUNNO"
        old = daemon.workers()
        daemon.write(REFUSE)
        daemon.signal(signal.SIGHUP)
        assert client.answer() is None
    eventually(lambda: not any(alive(pid) for pid in old))
    with PolicyClient(daemon.policy) as client:
        assert client.ask() == "550 5.7.1 not you"


def test_a_worker_that_is_killed_is_replaced(daemon: Daemon) -> None:
    with PolicyClient(daemon.policy) as client:
        assert client.ask() == "DUNNO"
        old = daemon.workers()
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        assert client.ask() is None
    eventually(lambda: not any(alive(pid) for pid in old))
    with PolicyClient(daemon.policy) as client:
        assert client.ask() == "DUNNO"
