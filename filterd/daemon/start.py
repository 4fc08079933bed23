"""What a daemon needs before its first process is forked: a user, sockets, enough open files."""

import os
import pwd
import resource

from filterd.daemon import log
from filterd.daemon.control import control_address
from filterd.daemon.listen import Listener, ListenError, listen
from filterd.policy.schema import Server

# What a worker may have open at once: the connections of MTAs (native_listener), and beside each a question to DNS.
_FILES_WANTED = 1200
# With fewer a worker does not even begin.
_FILES_NEEDED = 64


class StartError(Exception):
    """The daemon cannot start; the message says why."""


def become(user: str | None) -> None:
    """Give up root for the user. Raises StartError; does nothing where the process is not root's."""
    if user is None or os.geteuid() != 0:
        return
    entry = _user(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def default_workers() -> int:
    """One for each processor that we may use, and two at least, so that one that dies is missed by nobody."""
    return max(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def raise_file_limit() -> None:
    """Let as many files be open as workers may want, if the system allows that, and warn if it does not.

    Raises StartError where not even one connection could be served.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(_FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY or soft >= _FILES_WANTED:
        return
    raising = "raise LimitNOFILE= of the unit, or `ulimit -n`"
    if soft < _FILES_NEEDED:
        raise StartError(f"a process may have only {soft} files open, {_FILES_NEEDED} is the least: {raising}")
    log.warning("few files may be open at once", limit=soft, wanted=_FILES_WANTED, remedy=raising)


def listen_for_control(server: Server) -> Listener | None:
    """The control socket, which only root and `server.user` may use.

    None, with a warning, where the policy names none and it cannot be where it is by default. Raises ListenError.
    """
    address = control_address(server)
    try:
        listener = listen(address, None, 0o600)
    except ListenError as error:
        if server.control is not None:
            raise
        log.warning("there is no control socket; server.control says where it could be", error=str(error))
        return None
    if server.user is not None and os.geteuid() == 0:
        os.chown(address.removeprefix("unix:"), _user(server.user).pw_uid, -1)
    return listener


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise StartError(f"there is no user {name} (server.user)") from None
