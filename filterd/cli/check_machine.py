"""The part of `filterd check` that looks at this machine: does it have what the policy names."""

import grp
import pwd
from collections.abc import Callable
from pathlib import Path as File

from filterd.backend.policy_files import read_document
from filterd.policy.errors import PolicyError, PolicyErrors
from filterd.policy.nodes import Path
from filterd.policy.rules import Policy


def machine_warnings(path: File, policy: Policy) -> list[PolicyError]:
    """What the daemon would miss here. The policy may be meant for another machine, so these are no errors."""
    server = policy.server
    missing: list[tuple[Path, str]] = []
    if server.user is not None and not _known(pwd.getpwnam, server.user):
        missing.append((("server", "user"), f"there is no user {server.user} on this machine"))
    if server.socket.group is not None and not _known(grp.getgrnam, server.socket.group):
        missing.append((("server", "socket", "group"), f"there is no group {server.socket.group} on this machine"))
    if not missing:
        return []
    try:
        document = read_document(path)
    except PolicyErrors:  # changed since it was loaded
        return []
    return [document.error(place, problem) for place, problem in missing]


def _known(find: Callable[[str], object], name: str) -> bool:
    try:
        find(name)
    except KeyError:
        return False
    return True
