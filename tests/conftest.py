"""What holds for every test: it reaches nothing but this machine, and no clock decides whether it passes."""

import ipaddress
import socket
import sys
from typing import Any

from hypothesis import HealthCheck, settings

# The same inputs in each run: a change is judged by what it changed. New ones are looked for on purpose, with
# `make fuzz`, whose finds become rows of the tests' tables.
settings.register_profile("filterd", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "fuzz", parent=settings.get_profile("filterd"), derandomize=False, database=None, max_examples=10_000
)
settings.load_profile("filterd")


def _only_loopback(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        return
    sock, address = arguments
    if sock.family in (socket.AF_INET, socket.AF_INET6) and address is not None:
        host = address[0]
        if host != "localhost" and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            raise AssertionError(f"a test reaches for {host}")


sys.addaudithook(_only_loopback)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes may hold a key that each process of a run makes anew: their rows are named by number."""
    return argname if isinstance(val, bytes) else None
