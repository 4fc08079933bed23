"""Telling systemd how it goes (sd_notify(3)). Without systemd, nothing happens."""

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send a state, such as `READY=1` or `STOPPING=1`."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger, contextlib.suppress(OSError):
        # A leading @ stands for the zero octet of Linux's abstract names.
        messenger.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        messenger.send(state.encode())
