"""Whether Postfix's processes, in their chroot and as their user, get to filterd's sockets. Looks at files."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from filterd.mail.endpoint import Endpoint
from filterd.policy.schema import Server
from filterd.postfix.config import Config
from filterd.postfix.finding import POLICY, RUN, Finding, Severity, attached, sites
from filterd.postfix.plan import Ours, shut_out
from filterd.postfix.reach import answers, barrier, group_of

_DEFERRED = "All mail is deferred with 451 4.7.1, or as milter_default_action says."


def sockets(config: Config, place: Ours, server: Server) -> Iterator[Finding]:
    """What is in the way."""
    for what, line in shut_out(server, config):
        yield Finding(Severity.ERROR, "chroot", what, f"It does not exist for smtpd. {_DEFERRED}", POLICY, (line,))
    if shut_out(server, config):
        return
    if place.milter is not None:
        yield from _absolute(config, place.milter)
    for address, listed in ((place.milter, server.milter), (place.policy_service, server.policy_service)):
        if address is not None:
            yield from _socket(config, address, Endpoint.parse(listed[0]).path)


def _absolute(config: Config, address: str) -> Iterator[Finding]:
    """A path that begins with / begins in the chroot."""
    held = {each.command for each in config.services if each.chroot}
    queue = config.value("queue_directory")
    for service, name, entry in sites(config, address):
        command = "cleanup" if name == "non_smtpd_milters" else "smtpd"
        path = entry.address.partition(":")[2]
        chrooted = service.chroot if service is not None else command in held
        if chrooted and path.startswith(f"{queue}/"):
            yield Finding(
                Severity.ERROR,
                "chroot-path",
                f"{command} lives in the chroot {queue}, and is told {entry.address} ({name})",
                f"It looks for {queue}{path}, which is not there. {_DEFERRED}",
                RUN,
                attached(config),
            )


def _socket(config: Config, address: str, path: str | None) -> Iterator[Finding]:
    queue, user = config.value("queue_directory"), config.value("mail_owner")
    if path is not None and os.path.lexists(path):
        if not Path(path).is_socket():
            line = shlex.join(["rm", path])
            yield Finding(Severity.ERROR, "no-socket", f"{path} is a file, and no socket", _DEFERRED, RUN, (line,))
            return
        # What is above the queue directory does not matter: Postfix begins there.
        top = Path(queue) if Path(path).is_relative_to(queue) else Path("/")
        found = barrier(Path(path), user, top)
        if found:
            yield _kept_out(user, Path(path), *found)
    if not answers(address, queue):
        what = f"Nobody answers at {path or address}"
        root = "" if os.geteuid() == 0 else "; or only root may see it"
        happens = f"filterd does not run, or listens elsewhere{root}. {_DEFERRED}"
        yield Finding(Severity.ERROR, "silent", what, happens, RUN, ("systemctl start filterd",))


def _kept_out(user: str, socket: Path, file: Path, lacks: str) -> Finding:
    what = f"Postfix, which runs as {user}, does not get to {socket}"
    happens = f"{lacks}. {_DEFERRED}"
    group = group_of(user)
    if file == socket:
        line = f'server: {{ socket: {{ group: {group}, mode: "0660" }} }}'
        return Finding(Severity.ERROR, "permission", what, happens, POLICY, (line,))
    lines = (shlex.join(["chgrp", group, str(file)]), shlex.join(["chmod", "g+x", str(file)]))
    return Finding(Severity.ERROR, "permission", what, happens, RUN, lines)
