"""What a daemon needs before its first process is forked: a user, sockets, enough open files."""

import ctypes
import os
import pwd
import resource
import sys
from collections.abc import Sequence

from filterd.daemon import log
from filterd.daemon.control import control_address
from filterd.daemon.inherited import Inherited
from filterd.daemon.listen import Listener, ListenError, listen
from filterd.policy.schema import Server

# What a worker has open besides connections. With fewer than the second it does not even begin.
_FILES_BESIDES = 200
_FILES_NEEDED = 64

# prctl(2), and the two structures of capset(2): version 3, of this process; nothing effective, permitted, inheritable.
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_NO_CAPABILITIES = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()


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


def raise_file_limit(server: Server) -> None:
    """Let as many files be open as workers may want, if the system allows that, and warn if it does not.

    Raises StartError where not even one connection could be served.
    """
    # Beside each connection of an MTA there may be a question to DNS.
    most = 2 * server.max_connections * len((*server.milter, *server.policy_service)) + _FILES_BESIDES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY or soft >= most:
        return
    raising = "raise LimitNOFILE= of the unit, or `ulimit -n`"
    if soft < _FILES_NEEDED:
        raise StartError(f"a process may have only {soft} files open, {_FILES_NEEDED} is the least: {raising}")
    log.warning("few files may be open at once", limit=soft, wanted=most, remedy=raising)


def give_up_privileges() -> None:
    """Keep no capability that a unit has lent us for binding, and gain nothing by what is run (Linux).

    A daemon that stays root keeps what root may do.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
    if os.geteuid() != 0:
        failed |= libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0
        failed |= libc.capset(*_NO_CAPABILITIES) != 0
    if failed:
        log.warning("the system does not let us give up privileges", error=os.strerror(ctypes.get_errno()))


def leave_others(given: Sequence[Inherited]) -> None:
    """Close the sockets that were handed over and are not the policy's (any more). Raises StartError for systemd's."""
    for each in given:
        if not each.ours:
            text = (
                f"systemd hands over a socket at {each.address} ({each.name}), which the policy's server section lacks"
            )
            raise StartError(text)
        each.socket.close()


def listen_for_control(server: Server, given: list[Inherited] | None = None) -> Listener | None:
    """The control socket, which only root and `server.user` may use.

    None, with a warning, where the policy names none and it cannot be where it is by default. Raises ListenError.
    """
    address = control_address(server)
    try:
        listener = listen(address, None, 0o600, given)
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
