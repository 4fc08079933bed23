"""Telling systemd how it goes (sd_notify(3), sd_watchdog_enabled(3)). Without systemd, nothing happens."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from math import inf


def notify(state: str) -> None:
    """Send a state, such as `READY=1` or `STOPPING=1`."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger, contextlib.suppress(OSError):
        # A leading @ stands for the zero octet of Linux's abstract names.
        messenger.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        messenger.send(state.encode())


class Watchdog:
    """The sign of life that the unit's WatchdogSec= asks for."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        every, whom = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(os.getpid()))
        wanted = every.isdecimal() and int(every) > 0 and whom == str(os.getpid())
        # Twice as often as it has to be.
        self._every = int(every) / 2e6 if wanted else inf
        self._due = time.monotonic() if wanted else inf

    def until(self) -> float:
        """When the next is due, on time.monotonic()."""
        return self._due

    def beat(self) -> None:
        """Give it, if it is due."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self._every
            notify("WATCHDOG=1")
