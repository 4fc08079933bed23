"""Debian's NSD at port 53 of a loopback address of its own, where those find it who cannot be told a port."""

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_TOOLS = Path(__file__).parents[1] / ".tools"
_ADDRESS = "127.53.0.53"
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
    with (folder / "nsd.log").open("w") as output:
        command = [_TOOLS / "nsd/usr/sbin/nsd", "-d", "-c", config]
        server = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603 # ours
        try:
            end = time.monotonic() + _PATIENCE
            while not _listens():
                if server.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"nsd does not start at {_ADDRESS}:53:\n{(folder / 'nsd.log').read_text()}")
                time.sleep(0.02)
            yield _ADDRESS
        finally:
            server.terminate()
            server.wait(_PATIENCE)


def _listens() -> bool:
    try:
        socket.create_connection((_ADDRESS, 53), timeout=_PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True
