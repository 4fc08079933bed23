"""Listening sockets: bound once, by the master or whoever started it, and kept whatever becomes of the workers.

Answers: is this address free, does it belong to a process that died, who may connect. Accepts nothing.
"""

import contextlib
import errno
import grp
import os
import socket
import stat
from enum import StrEnum
from pathlib import Path

from filterd.daemon.inherited import Inherited
from filterd.mail.endpoint import Endpoint, EndpointError
from filterd.policy.schema import Server

# As many connections as wait while all workers are being replaced.
_BACKLOG = 1024


class ListenError(Exception):
    """The address cannot be listened on; the message names it, and says why."""


class Service(StrEnum):
    """What is spoken at a listener."""

    MILTER = "milter"
    POLICY = "policy_service"


class Listener:
    """A socket that listens. It does not block, so that a worker that lost the race for a connection goes on."""

    service = Service.MILTER

    def __init__(self, address: str, bound: socket.socket, path: Path | None = None) -> None:
        self.address = address
        self.socket = bound
        self._path = path
        self._file = _identity(path) if path else None

    def close(self) -> None:
        """Stop listening, and remove the unix socket if it is still ours. For the process that bound it alone."""
        self.socket.close()
        if self._path is not None and _identity(self._path) == self._file:
            # A folder that the user whom we became may not write to keeps a dead socket; the next start replaces it.
            with contextlib.suppress(OSError):
                self._path.unlink()


def listen_all(server: Server, given: list[Inherited] | None = None) -> list[Listener]:
    """Listen wherever the policy says. Raises ListenError."""
    listeners = []
    for service, addresses in ((Service.MILTER, server.milter), (Service.POLICY, server.policy_service)):
        for address in addresses:
            listener = listen(address, server.socket.group, server.socket.mode, given)
            listener.service = service
            listeners.append(listener)
    return listeners


def listen(address: str, group: str | None, mode: int, given: list[Inherited] | None = None) -> Listener:
    """Listen on what `Endpoint.parse` reads, such as `unix:PATH` and `inet:PORT@HOST`.

    `group` and `mode` are those of a unix socket. What others have bound there is taken as it is, out of `given`.
    Raises ListenError.
    """
    try:
        endpoint = Endpoint.parse(address)
    except EndpointError as error:
        raise ListenError(f"{address}: {error}") from None
    ready = next((each for each in given or () if each.listens_at(endpoint)), None)
    if given is not None and ready is not None:
        given.remove(ready)
        return Listener(address, ready.socket, Path(endpoint.path) if endpoint.path and ready.ours else None)
    try:
        if endpoint.path is None:
            family = socket.AF_INET6 if endpoint.ipv6 else socket.AF_INET
            return _listen_ip(address, family, endpoint.host, endpoint.port)
        return _listen_unix(address, Path(endpoint.path), group, mode)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ListenError(f"{address}: cannot listen: {reason}") from None


def _listen_ip(address: str, family: socket.AddressFamily, host: str, port: int) -> Listener:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. libmilter writes its edits and its answer apart; Nagle would hold the second for the
        # 40 ms that the MTA delays its acknowledgement.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
        # Two sockets may be bound to one port under SO_REUSEADDR; only one may listen.
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise ListenError(f"{address}: already in use by a running process") from None
        raise
    bound.setblocking(False)
    return Listener(address, bound)


def _listen_unix(address: str, path: Path, group: str | None, mode: int) -> Listener:
    group_id = _group(address, group)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            bound.bind(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(address, path)
            bound.bind(str(path))
        # Nobody can connect before `listen`, so nobody does under another mode or group.
        if group_id is not None:
            os.chown(path, -1, group_id)
        path.chmod(mode)
        bound.listen(_BACKLOG)
    except BaseException:
        bound.close()
        raise
    bound.setblocking(False)
    return Listener(address, bound, path)


def _remove_stale(address: str, path: Path) -> None:
    """Remove what a process that died left behind; raise ListenError for anything else."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ListenError(f"{address}: there is a file of that name, which is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A full queue gives EAGAIN then, instead of waiting.
        probe.setblocking(False)
        result = probe.connect_ex(str(path))
    if result == errno.ECONNREFUSED:
        path.unlink()
    elif result != errno.ENOENT:
        raise ListenError(f"{address}: already in use by a running process")


def _group(address: str, name: str | None) -> int | None:
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ListenError(f"{address}: there is no group {name} (server.socket.group)") from None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
