"""Listening sockets that others have bound for us: systemd (sd_listen_fds(3)), or the daemon that is to be replaced.

A socket is known by the address that it listens at. Answers which there are; who gets one is `listen`'s to know.
"""

import fcntl
import os
import socket
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from filterd.mail.endpoint import Endpoint, EndpointError

_FIRST = 3
#: What a socket is called that is ours to remove in the end, as another filterd has made it.
OURS = "filterd-upgrade"


@dataclass(frozen=True, slots=True)
class Inherited:
    """A socket, and the name that whoever bound it gave it."""

    socket: socket.socket
    name: str

    @property
    def ours(self) -> bool:
        return self.name == OURS

    @property
    def address(self) -> str:
        """As a policy has it."""
        name = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return f"unix:{os.fsdecode(name)}"
        if self.socket.family not in (socket.AF_INET, socket.AF_INET6):
            return f"family {self.socket.family}"
        return f"{'inet6' if self.socket.family == socket.AF_INET6 else 'inet'}:{name[1]}@{name[0]}"

    def listens_at(self, endpoint: Endpoint) -> bool:
        """Whether that is its address."""
        try:
            own = Endpoint.parse(self.address)
        except EndpointError:
            return False
        if endpoint.path is not None and own.path is not None:
            return os.path.realpath(own.path) == os.path.realpath(endpoint.path)
        if (own.path, own.port, own.ipv6) != (endpoint.path, endpoint.port, endpoint.ipv6):
            return False
        return ip_address(own.host) == ip_address(endpoint.host)


def inherited(environment: MutableMapping[str, str]) -> list[Inherited]:
    """The sockets that were handed over to this process, which no other is told of. Some may be of no use to us."""
    said = {name: environment.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES")}
    if said["PID"] != str(os.getpid()) or not said["FDS"].isdecimal():
        return []
    names = said["FDNAMES"].split(":")
    found = []
    for number in range(int(said["FDS"])):
        with suppress(OSError):
            one = socket.socket(fileno=_FIRST + number)
            one.set_inheritable(False)
            one.setblocking(False)
            found.append(Inherited(one, names[number] if number < len(names) else ""))
    return found


def hand_over(sockets: Sequence[socket.socket], pipe: int, environment: MutableMapping[str, str]) -> int:
    """In a process that is about to become another program: leave it the sockets, and a pipe; which that is then."""
    last = _FIRST + len(sockets)
    # Above all places that they are to have; the copies do not outlive this program.
    copies = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, last + 1) for each in (*(one.fileno() for one in sockets), pipe)]
    for place, copy in enumerate(copies, _FIRST):
        os.dup2(copy, place, inheritable=True)
    environment["LISTEN_PID"] = str(os.getpid())
    environment["LISTEN_FDS"] = str(len(sockets))
    environment["LISTEN_FDNAMES"] = ":".join(OURS for _ in sockets)
    return last
