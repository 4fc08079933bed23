"""`filterd reload` and `filterd status` against a running daemon, and whoever else comes to its control socket."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.filterd_process import COMMAND, FilterdProcess
from servers.milter_mta import MilterMta
from servers.milter_process import eventually, python_environment

from filterd.wire.milter import Accept

BROKEN = "rules: [{ name: no, when: sender, then: reject }, { name: twice, then: nothing }]"
REFUSE = 'rules: [{ name: no, when: envelope.sender == "a@example.org", then: reject }]'


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FilterdProcess]:
    with FilterdProcess(tmp_path) as process:
        yield process


def filterd(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        env=python_environment(),
        timeout=120,
        check=False,
    )


def status(folder: Path) -> Any:
    found = filterd("status", "-p", folder / "policy.yaml", "--json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def send(daemon: FilterdProcess) -> None:
    with MilterMta(daemon.address) as mta:
        mta.open(ip="127.0.0.1")
        mta.send()


def test_a_reload_is_told_to_who_asked_for_it(daemon: FilterdProcess, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    good = filterd("reload", "-p", policy)
    daemon.write(BROKEN)
    bad = filterd("reload", "-p", policy)
    daemon.write(REFUSE)
    changed = filterd("reload", "--socket", tmp_path / "control.sock")

    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("reloaded: generation 2 is in force, policy ")
    assert bad.returncode == 1
    assert bad.stdout.startswith("refused: generation 2 is in force")
    assert "policy.yaml:3:" in bad.stderr
    assert "rules[1].when" in bad.stderr
    assert "rules[1].then" in bad.stderr
    assert changed.returncode == 0
    assert changed.stdout.startswith("reloaded: generation 3")


def test_a_policy_that_is_no_yaml_is_refused_and_the_socket_has_to_be_said(
    daemon: FilterdProcess, tmp_path: Path
) -> None:
    (tmp_path / "policy.yaml").write_text("version: 1\nserver: [\n")

    lost = filterd("reload", "-p", tmp_path / "policy.yaml")
    assert (lost.returncode, "say --socket" in lost.stderr) == (2, True)
    refused = filterd("reload", "--socket", tmp_path / "control.sock")
    assert (refused.returncode, "policy.yaml:" in refused.stderr) == (1, True)


def test_workers_that_cannot_begin_fail_a_reload(tmp_path: Path) -> None:
    with FilterdProcess(tmp_path, program=("-m", "servers.master_child")) as daemon:
        daemon.write("identity: { authserv_id: broken.example }")
        failed = filterd("reload", "-p", tmp_path / "policy.yaml")

        assert failed.returncode == 1
        assert failed.stdout.startswith("failed: generation 1 is in force")


def test_a_changed_server_section_is_warned_of(daemon: FilterdProcess, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(policy.read_text().replace("workers: 2", "workers: 3"))
    found = filterd("reload", "-p", policy)

    assert (found.returncode, "takes a restart" in found.stderr) == (0, True)


def test_every_line_of_a_worker_says_the_generation(daemon: FilterdProcess, tmp_path: Path) -> None:
    send(daemon)
    filterd("reload", "-p", tmp_path / "policy.yaml")
    send(daemon)
    lines = eventually(
        lambda: len(found := [line for line in daemon.log().splitlines() if "event=judged" in line]) == 2 and found
    )

    assert [line.rpartition(" ")[2] for line in lines] == ["generation=1", "generation=2"]


def test_status_says_how_the_daemon_goes(daemon: FilterdProcess, tmp_path: Path) -> None:
    send(daemon)
    for pid in daemon.workers():
        os.kill(pid, signal.SIGKILL)  # what they counted stays
    eventually(lambda: daemon.log().count("worker ended") == 2 and len(daemon.workers()) == 2)
    daemon.write(BROKEN)
    daemon.signal(signal.SIGHUP)
    eventually(lambda: "reload refused" in daemon.log())
    found = eventually(lambda: (found := status(tmp_path))["ready"] and found)
    screen = filterd("status", "--socket", tmp_path / "control.sock").stdout

    assert found["mails"] == [{"verdict": "accept", "rule": "-", "count": 1}]
    assert found["unsigned"] == [{"reason": "sign.not-configured", "count": 1}]
    assert sorted(each["pid"] for each in found["workers"]) == sorted(daemon.workers())
    assert (found["pid"], found["generation"]) == (daemon.process.pid, 1)
    assert found["reload"]["outcome"] == "refused"
    assert [f"{tmp_path}/policy.yaml:3:" in each for each in found["reload"]["errors"]].count(True) > 1
    assert f"policy    {found['policy']}, generation 1" in screen
    assert "policy.yaml:3:" in screen
    assert "sign.not-configured" in screen


def test_a_fault_is_shown(tmp_path: Path) -> None:
    with FilterdProcess(tmp_path, program=("-m", "servers.faulty_master")) as daemon:
        send(daemon)
        found = eventually(lambda: (found := status(tmp_path))["faults"]["count"] and found)

        assert "RuntimeError: boom" in found["faults"]["latest"][0]["text"]
        assert "RuntimeError: boom" in filterd("status", "-p", tmp_path / "policy.yaml").stdout


def test_what_the_policy_in_shadow_would_do_is_shown_and_not_done(daemon: FilterdProcess, tmp_path: Path) -> None:
    (tmp_path / "candidate.yaml").write_text(f"version: 1\n{REFUSE}\n")
    daemon.write("shadow: candidate.yaml")
    assert filterd("reload", "-p", tmp_path / "policy.yaml").returncode == 0
    with MilterMta(daemon.address) as mta:
        mta.open(ip="127.0.0.1")
        answers = [mta.send(), mta.send(sender=b"<other@example.org>")]
    (tmp_path / "candidate.yaml").write_text("version: 1\nrules: [{ name: a, when: sender, then: reject }]\n")
    broken = filterd("reload", "-p", tmp_path / "policy.yaml")
    lines = filterd("status", "-p", tmp_path / "policy.yaml", "--shadow").stdout.splitlines()

    assert answers == [Accept(), Accept()]
    assert daemon.log().count("shadow=verdict:reject:no") == daemon.log().count("shadow=same") == 1
    assert (broken.returncode, "candidate.yaml:2:" in broken.stderr) == (0, True)
    assert lines[0] == f"{tmp_path}/candidate.yaml: cannot be used"
    assert "candidate.yaml:2:" in lines[1]
    assert lines[2] == "2 mails judged, 1 as by the policy in force"
    assert lines[-1].split() == ["verdict", "accept", "-", "reject", "no", "1"]


def test_without_a_daemon_the_status_is_2(tmp_path: Path) -> None:
    for command in ("status", "reload"):
        found = filterd(command, "--socket", tmp_path / "control.sock")
        assert (found.returncode, found.stderr) == (2, f"no filterd is running at {tmp_path}/control.sock\n")


def test_the_socket_of_a_daemon_that_died_is_no_daemon(daemon: FilterdProcess, tmp_path: Path) -> None:
    daemon.signal(signal.SIGKILL)
    daemon.wait()

    assert filterd("status", "-p", tmp_path / "policy.yaml").returncode == 2


def test_only_the_owner_may_ask(daemon: FilterdProcess, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600


def test_the_socket_goes_with_the_daemon(daemon: FilterdProcess, tmp_path: Path) -> None:
    daemon.signal(signal.SIGTERM)

    assert daemon.wait() == 0
    assert not (tmp_path / "control.sock").exists()


def is_left(one: socket.socket) -> bool:
    """Whether it is hung up on, however long it goes on to talk."""
    try:
        while one.send(b"x" * 4096):
            pass
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


def test_whoever_is_slow_or_hostile_holds_up_nobody(daemon: FilterdProcess, tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")

    def connect(octets: bytes) -> socket.socket:
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(30)
        one.connect(path)
        one.sendall(octets)
        return one

    silent = [connect(b'{"command": ') for _ in range(4)]
    gone = [connect(b'{"command": "reload"}\n') for _ in range(4)]
    for one in gone:
        one.close()
    answers = []
    for octets in (b"\n", b"[]\n", b"[" * 4000 + b"\n", b'{"command": ["x"]}\n', b"\xff\xfe\n", b'{"command": "x"}\n'):
        with connect(octets) as one:
            answers.append(sorted(json.loads(one.makefile().readline())))
    with connect(b"x" * 4096) as long:
        assert is_left(long)

    assert answers == [["error"]] * 6
    assert filterd("reload", "-p", tmp_path / "policy.yaml").returncode == 0
    send(daemon)
    for one in silent:
        one.close()


def test_two_daemons_in_one_folder_both_begin(daemon: FilterdProcess, tmp_path: Path) -> None:
    with FilterdProcess(tmp_path, address=f"unix:{tmp_path}/other") as second:
        assert "there is no control socket" in second.log()


def test_a_reload_to_a_state_that_cannot_be_opened_is_refused(daemon: FilterdProcess, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(policy.read_text().replace("workers: 2", 'workers: 2, state: "redis+sentinel://127.0.0.1:1"'))
    found = filterd("reload", "-p", policy)

    assert found.returncode == 1
    assert found.stdout.startswith("refused: generation 1 is in force")
    assert "server.state: the URL cannot be used: behind the Sentinels stands the service" in found.stderr
