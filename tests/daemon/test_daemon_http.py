"""What Prometheus and load balancers see, and what hostile clients cannot do."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from servers.debian import free_port
from servers.filterd_process import FilterdProcess
from servers.milter_mta import MilterMta
from servers.milter_process import eventually

Daemon = tuple[FilterdProcess, int]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    port = free_port()
    with FilterdProcess(tmp_path, server=f"http: inet:{port}@127.0.0.1") as process:
        yield process, port


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def metrics(port: int) -> dict[tuple[str, ...], float]:
    status, text = get(port, "/metrics")
    assert status == 200
    families = text_string_to_metric_families(text)
    return {(sample.name, *sample.labels.values()): sample.value for each in families for sample in each.samples}


def send(daemon: FilterdProcess) -> None:
    with MilterMta(daemon.address) as mta:
        mta.open(ip="127.0.0.1")
        mta.send()


def test_numbers_are_of_all_workers_and_outlive_them(daemon: Daemon) -> None:
    process, port = daemon
    for _ in range(5):
        send(process)
    first = eventually(lambda: (found := metrics(port)).get(("filterd_mails_total", "-", "accept")) == 5 and found)
    process.signal(signal.SIGHUP)
    eventually(lambda: metrics(port)["filterd_policy_generation",] == 2)
    send(process)

    assert eventually(lambda: metrics(port)["filterd_mails_total", "-", "accept"] == 6)
    assert first["filterd_unsigned_total", "sign.not-configured"] == 5
    assert first["filterd_seconds_count", "total"] == 5
    assert first["filterd_workers", "ready"] == 2


def test_health_and_readiness(daemon: Daemon) -> None:
    _, port = daemon
    assert [get(port, path) for path in ("/healthz", "/readyz")] == [(200, "ok\n")] * 2
    assert get(port, "/metrics", "HEAD") == (200, "")
    assert get(port, "/metrics?x=1")[0] == 200
    assert [get(port, "/")[0], get(port, "/metrics", "POST")[0]] == [404, 405]


def test_it_ends_with_the_daemon(daemon: Daemon) -> None:
    process, port = daemon
    get(port, "/healthz")
    process.signal(signal.SIGTERM)

    assert process.wait() == 0
    with pytest.raises(ConnectionRefusedError):
        get(port, "/healthz")


def test_it_ends_when_the_master_is_killed(daemon: Daemon) -> None:
    process, port = daemon
    get(port, "/healthz")
    process.signal(signal.SIGKILL)
    process.wait()

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    assert eventually(refused)


def test_it_is_replaced_when_it_dies(daemon: Daemon) -> None:
    process, port = daemon
    get(port, "/healthz")
    before = set(process.workers())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(now := process.workers()) == 3 and not before & set(now))
    send(process)

    assert get(port, "/healthz") == (200, "ok\n")


def test_hostile_clients_harm_nobody(daemon: Daemon) -> None:
    process, port = daemon

    def connect(octets: bytes) -> socket.socket:
        one = socket.create_connection(("127.0.0.1", port), timeout=60)
        one.sendall(octets)
        return one

    silent = [connect(b"GET /metrics HT") for _ in range(20)]
    answers = []
    for octets in (b"\r\n\r\n", b"\x16\x03\x01\x02\r\n\r\n", b"GET /metrics\r\n\r\n", b"GET ../ HTTP/1.0\r\n\r\n"):
        with connect(octets) as one:
            answers.append(one.makefile("rb").readline().split()[1])
    with connect(b"x" * 8193) as long, suppress(ConnectionResetError):
        assert long.recv(100) == b""
    send(process)

    assert answers == [b"400", b"400", b"400", b"404"]
    assert get(port, "/healthz") == (200, "ok\n")
    for one in silent:
        one.close()
