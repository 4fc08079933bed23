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


def barrier(path: Path, user: str, top: Path) -> tuple[Path, str] | None:
    """Which file on the way from `top` to a socket does not let a user in, and why; None where it gets there."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return path, f"There is no user {user} on this machine"
    groups = set(os.getgrouplist(user, entry.pw_gid))
    way = [each for each in reversed(path.parents) if each.is_relative_to(top)]
    for file, right in [*((folder, 1) for folder in way), (path, 2)]:
        lacks = _refuses(file, entry.pw_uid, groups, right)
        if lacks:
            return file, lacks
    return None


def group_of(user: str) -> str:
    """The name of a user's own group; the user's, where there is none."""
    try:
        return _group(pwd.getpwnam(user).pw_gid)
    except KeyError:
        return user


def _refuses(path: Path, user: int, groups: set[int], right: int) -> str | None:
    """`right` is 1 to pass through a folder, 2 to connect to a socket (path_resolution(7), unix(7))."""
    try:
        status = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    shift = 6 if status.st_uid == user else 3 if status.st_gid in groups else 0
    if user == 0 or status.st_mode >> shift & right:
        return None
    return f"{path} is {stat.filemode(status.st_mode)} {_user(status.st_uid)}:{_group(status.st_gid)}"


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
