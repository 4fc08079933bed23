"""Debian's NSD, and Unbound before it, at port 53 of loopback addresses of their own, where those find them who cannot
be told a port."""

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TOOLS = Path(__file__).parents[1] / ".tools"
_ADDRESS, _RESOLVER = "127.53.0.53", "127.53.0.54"
_PATIENCE = 30.0  # seconds


@contextmanager
def name_server(folder: Path, zones: Mapping[str, str]) -> Iterator[str]:
    """The address of a name server that has these zones, and the roots' word that there is nothing else."""
    config = folder / "nsd.conf"
    text = f"""\
server:
    ip-address: {_ADDRESS}
    port: 53
    server-count: 1
    username: ""
    chroot: ""
    zonesdir: "{folder}"
    database: ""
    pidfile: ""
    xfrdfile: "{folder}/xfrd"
    xfrdir: "{folder}"
    zonelistfile: "{folder}/zone.list"
    rrl-ratelimit: 0
remote-control:
    control-enable: no
"""
    for zone, records in {**zones, ".": ""}.items():
        file = f"{zone.strip('.') or 'root'}.zone"
        origin = zone.rstrip(".") + "."
        top = f"$ORIGIN {origin}\n$TTL 300\n@ SOA ns.nowhere. h.nowhere. 1 3600 600 86400 60\n@ NS ns.nowhere.\n"
        (folder / file).write_text(top + records)
        text += f'zone:\n    name: "{zone}"\n    zonefile: "{file}"\n'
    config.write_text(text)
    with _running([_TOOLS / "nsd/usr/sbin/nsd", "-d", "-c", config], _ADDRESS, folder / "nsd.log"):
        yield _ADDRESS


@dataclass(frozen=True, slots=True)
class Resolver:
    """A caching resolver that runs."""

    address: str
    config: Path

    def forget(self) -> None:
        """Empty its cache."""
        subprocess.run(  # noqa: S603 # ours
            [_TOOLS / "unbound/usr/sbin/unbound-control", "-c", self.config, "flush_zone", "."],
            check=True, capture_output=True, text=True,
        )  # fmt: skip


@contextmanager
def resolver(folder: Path, upstream: str) -> Iterator[Resolver]:
    """A caching resolver that asks the name server `upstream` about everything."""
    config = folder / "unbound.conf"
    config.write_text(f"""\
server:
    interface: {_RESOLVER}
    port: 53
    do-ip6: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    logfile: ""
    module-config: "iterator"
    do-not-query-localhost: no
    access-control: 127.0.0.0/8 allow
remote-control:
    control-enable: yes
    control-interface: {folder}/unbound.sock
    control-use-cert: no
stub-zone:
    name: "."
    stub-addr: {upstream}
    stub-prime: no
""")
    with _running([_TOOLS / "unbound/usr/sbin/unbound", "-d", "-p", "-c", config], _RESOLVER, folder / "unbound.log"):
        yield Resolver(_RESOLVER, config)


@contextmanager
def _running(command: list[str | Path], address: str, log: Path) -> Iterator[None]:
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603 # ours
        try:
            end = time.monotonic() + _PATIENCE
            while not _listens(address):
                if server.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"no name server starts at {address}:53:\n{log.read_text()}")
                time.sleep(0.02)
            yield
        finally:
            server.terminate()
            server.wait(_PATIENCE)


def _listens(address: str) -> bool:
    try:
        socket.create_connection((address, 53), timeout=_PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True
