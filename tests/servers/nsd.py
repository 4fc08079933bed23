"""Debian's NSD, an authoritative name server, private to a test: its own zones, log and port, as the user of the test."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from servers.debian import free_port, unpacked

_PATIENCE = 30.0  # seconds


@contextmanager
def running(zones: Mapping[str, str], port: int | None = None) -> Iterator[tuple[str, int]]:
    """An NSD for the length of a `with`; yields the address and port where it answers, by UDP and TCP.

    `port` is one that is free, for a server that comes back to where it was.

    `zones` are master files by the name of their zone. $ORIGIN and an SOA record are put on top of each: negative
    answers may be kept for 60 seconds.
    """
    with tempfile.TemporaryDirectory(prefix="filterd-nsd-") as name:
        directory = Path(name)
        port = port or free_port()
        config = directory / "nsd.conf"
        config.write_text(_config(directory, port, zones))
        for zone, text in zones.items():
            top = f"$ORIGIN {zone}.\n@ 300 SOA ns.{zone}. hostmaster.{zone}. 1 3600 600 86400 60\n@ 300 NS ns.{zone}.\n"
            (directory / f"{zone}.zone").write_text(top + text)
        program = unpacked("nsd") / "usr/sbin/nsd"
        with (directory / "output").open("w+") as output:
            # -d: stay in the foreground.
            server = subprocess.Popen([program, "-d", "-c", config], stdout=output, stderr=output)
            try:
                _wait(server, port, directory)
                yield "127.0.0.1", port
            finally:
                server.terminate()
                server.wait(_PATIENCE)


def _config(directory: Path, port: int, zones: Mapping[str, str]) -> str:
    top = f"""\
server:
    ip-address: 127.0.0.1
    port: {port}
    server-count: 1
    username: ""
    chroot: ""
    zonesdir: "{directory}"
    database: ""
    pidfile: ""
    xfrdfile: "{directory}/xfrd.state"
    xfrdir: "{directory}"
    zonelistfile: "{directory}/zone.list"
    rrl-ratelimit: 0
remote-control:
    control-enable: no
"""
    return top + "".join(f'zone:\n    name: "{zone}"\n    zonefile: "{zone}.zone"\n' for zone in zones)


def _wait(server: "subprocess.Popen[bytes]", port: int, directory: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE).close()
            return
        except ConnectionRefusedError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError((directory / "output").read_text()) from None
            time.sleep(0.01)
