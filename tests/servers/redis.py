"""Debian's Redis, private to a test: one server, one watched by a Sentinel, or a Cluster of three; in memory alone."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry
from servers.debian import free_port, unpacked
from servers.milter_process import eventually

_SLOTS = 16384


class RedisServer:
    """A server for a `with`, at a port of 127.0.0.1 and a unix socket. It can be stopped and started again, empty."""

    def __init__(self, folder: Path, *options: str, program: str = "redis-server", port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.socket = folder / "redis.sock"
        self._program = program
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def client(self) -> Redis:
        return Redis(port=self.port, socket_timeout=30, retry=Retry(NoBackoff(), 0))

    def start(self) -> None:
        config = self.folder / f"{self._program}.conf"
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", f"unixsocket {self.socket}"]
        config.write_text("\n".join([*lines, *self._options]) + "\n")
        # One binary is all of Redis's programs, by its name.
        program = unpacked("redis-tools") / "usr/bin/redis-check-rdb"
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._program, config], executable=program, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        eventually(self._answers)

    def stop(self) -> None:
        """At once, as by kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is None or self._process.poll() is None, (self.folder / "output").read_text()
        try:
            return bool(self.client.ping())
        except AuthenticationError:
            return True
        except RedisError:
            return False


@contextmanager
def running(*options: str) -> Iterator[RedisServer]:
    """One server."""
    with (
        tempfile.TemporaryDirectory(prefix="filterd-redis-") as name,
        RedisServer(Path(name), 'save ""', *options) as server,
    ):
        yield server


@contextmanager
def watched(service: str) -> Iterator[str]:
    """A server that a Sentinel watches under this name; yields the Sentinel's HOST:PORT."""
    with running() as server, tempfile.TemporaryDirectory(prefix="filterd-sentinel-") as name:
        watch = f"sentinel monitor {service} 127.0.0.1 {server.port} 1"
        with RedisServer(Path(name), watch, program="redis-sentinel") as sentinel:
            yield f"127.0.0.1:{sentinel.port}"


@contextmanager
def cluster() -> Iterator[str]:
    """Three servers that share the slots; yields HOST:PORT of one."""
    with ExitStack() as stack:
        buses = [free_port() for _ in range(3)]
        servers = [stack.enter_context(running("cluster-enabled yes", f"cluster-port {bus}")) for bus in buses]
        first, share = servers[0], -(-_SLOTS // len(servers))
        for number, server in enumerate(servers):
            slots = number * share, min((number + 1) * share, _SLOTS) - 1
            server.client.execute_command("CLUSTER", "ADDSLOTSRANGE", *slots)
            if server is not first:
                server.client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port, buses[0])
        for server in servers:
            eventually(lambda server=server: b"cluster_state:ok" in server.client.execute_command("CLUSTER", "INFO"))
        yield f"127.0.0.1:{first.port}"
