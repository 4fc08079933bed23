"""Whether a Postfix can reach a socket: what smtpd sees of the file system, as whom. Touches the file system."""

import grp
import os
import pwd
import socket
import stat
from pathlib import Path

from filterd.mail.endpoint import Endpoint, EndpointError

_PATIENCE = 2.0  # seconds


def answers(address: str, queue_directory: str) -> bool:
    """Whether somebody listens at an address of Postfix's, as this process sees it."""
    try:
        place, family = _place(address, queue_directory)
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PATIENCE)
            probe.connect(place)
    except (OSError, EndpointError):
        return False
    return True


def _place(address: str, queue_directory: str) -> tuple[str | tuple[str, int], socket.AddressFamily]:
    kind, _, path = address.partition(":")
    if kind in ("unix", "local"):
        return str(Path(queue_directory, path)), socket.AF_UNIX
    endpoint = Endpoint.parse(address)
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    return (endpoint.host, endpoint.port), family


def barrier(path: Path, user: str) -> str | None:
    """Which file on the way to a socket does not let a user in, and what it lacks; None where it gets there.

    Raises KeyError where there is no such user.
    """
    entry = pwd.getpwnam(user)
    groups = set(os.getgrouplist(user, entry.pw_gid))
    for folder in reversed(path.parents):
        found = _refuses(folder, entry.pw_uid, groups, 1)
        if found:
            return found
    return _refuses(path, entry.pw_uid, groups, 2)


def _refuses(path: Path, user: int, groups: set[int], right: int) -> str | None:
    """`right` is 1 to pass through a folder, 2 to connect to a socket (path_resolution(7), unix(7))."""
    try:
        status = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    mode = status.st_mode
    shift = 6 if status.st_uid == user else 3 if status.st_gid in groups else 0
    if user == 0 or mode >> shift & right:
        return None
    return f"{path} is {stat.filemode(mode)} {_user(status.st_uid)}:{_group(status.st_gid)}"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
