"""What `filterd check` warns of: what the policy hardly means, and what this machine does not have."""

import grp
import pwd
from collections.abc import Callable
from pathlib import Path as File

from filterd.backend.policy_files import read_document
from filterd.engine.policy_tests import failures
from filterd.policy.errors import PolicyError, PolicyErrors
from filterd.policy.nodes import Path
from filterd.policy.rules import Policy
from filterd.policy.warnings import warnings


def machine_warnings(path: File, policy: Policy) -> list[PolicyError]:
    """What the daemon would miss here. The policy may be meant for another machine, so these are no errors."""
    server = policy.server
    missing: list[tuple[Path, str]] = []
    if server.user is not None and not _known(pwd.getpwnam, server.user):
        missing.append((("server", "user"), f"there is no user {server.user} on this machine"))
    if server.socket.group is not None and not _known(grp.getgrnam, server.socket.group):
        missing.append((("server", "socket", "group"), f"there is no group {server.socket.group} on this machine"))
    return _placed(path, missing)


def meant_otherwise(path: File, policy: Policy) -> list[PolicyError]:
    """What is hardly meant as it is written."""
    return _placed(path, list(warnings(policy)))


def shadow_warnings(policy: Policy, *, tests: bool) -> list[PolicyError]:
    """What is wrong with the policy in shadow, which keeps nobody from using this one; if `tests`, by its own, too."""
    shadow = policy.shadow
    if shadow is None:
        return []
    return [*shadow.errors, *(failures(shadow.policy) if tests and shadow.policy is not None else ())]


def _placed(path: File, problems: list[tuple[Path, str]]) -> list[PolicyError]:
    if not problems:
        return []
    try:
        document = read_document(path)
    except PolicyErrors:  # changed since it was loaded
        return []
    return [document.error(place, problem) for place, problem in problems]


def _known(find: Callable[[str], object], name: str) -> bool:
    try:
        find(name)
    except KeyError:
        return False
    return True
