"""`filterd run`: the daemon, in the foreground."""

import os
import sys
from functools import partial
from pathlib import Path

import click

from filterd.backend.open_store import open_store
from filterd.backend.policy_files import load_policy
from filterd.daemon import log
from filterd.daemon.inherited import inherited
from filterd.daemon.listen import ListenError, listen, listen_all
from filterd.daemon.master import Master
from filterd.daemon.start import (
    StartError,
    become,
    default_workers,
    give_up_privileges,
    leave_others,
    listen_for_control,
    raise_file_limit,
)
from filterd.daemon.upgrade import predecessor
from filterd.daemon.worker import libmilter, live
from filterd.engine.policy_tests import proven
from filterd.engine.runtime import authserv_id
from filterd.limits.state import StoreError
from filterd.policy.errors import PolicyErrors
from filterd.policy.rules import Policy


@click.command("run")
@click.option(
    "-p",
    "--policy",
    "file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The policy file.",
)
@click.option("--workers", type=click.IntRange(1, 999), help="Processes that judge mail; else as the policy says.")
@click.option(
    "--log-format",
    type=click.Choice([form.value for form in log.LogFormat]),
    default=log.LogFormat.LOGFMT.value,
    show_default=True,
    help="How log lines are written.",
)
@click.option(
    "--log-level",
    type=click.Choice([level.value for level in log.LogLevel]),
    default=log.LogLevel.INFO.value,
    show_default=True,
    help="What is logged: lines of this level, and all that matter more.",
)
def command(file: Path, workers: int | None, log_format: str, log_level: str) -> None:
    """Run the daemon in the foreground, logging to standard error.

    A policy whose own tests fail is not used. SIGHUP loads it anew: if it has errors, the old one stays. SIGUSR2 starts
    the program anew, as it is on the disk by then: if that fails, this one stays. SIGUSR1 has the log tell everything
    for a minute. SIGTERM lets mail in flight end, and stops.
    """
    # The folder may be another when the policy is loaded anew.
    file = file.absolute()
    log.configure(log.LogFormat(log_format), log.LogLevel(log_level))
    # What may be read by others says so itself, as sockets do.
    os.umask(0o077)
    try:
        policy = _load(file)
        server = policy.server
        raise_file_limit(server)
        open_store(server.state, server.state_password).close()
        given = inherited(os.environ)
        listeners = listen_all(server, given)
        control = listen_for_control(server, given)
        web = listen(server.http, server.socket.group, server.socket.mode, given) if server.http else None
        leave_others(given)
        if server.engine == "libmilter":
            libmilter()
        become(server.user)
        give_up_privileges()
    except (PolicyErrors, StoreError, ListenError, StartError) as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    if server.user is not None:
        try:
            load_policy(file)
        except PolicyErrors as error:
            log.warning("this user cannot load the policy again", user=server.user, error=str(error))
    if os.geteuid() == 0:
        log.warning("workers run as root; server.user names whom they should be")
    if policy.settings.identity.authserv_id is None:
        log.warning("identity.authserv_id is not set", used=authserv_id(policy))
    count = workers or server.workers or default_workers()
    if server.state is None and count > 1 and any(policy.limits.values()):
        log.warning("each worker counts alone, so limits let more pass; server.state is shared", workers=count)
    load = partial(_load_anew, file)
    told = predecessor(os.environ)
    sys.exit(Master(policy, load, live, listeners, count, control=control, web=web, predecessor=told).run())


def _load(file: Path) -> Policy:
    return proven(load_policy(file))


def _load_anew(file: Path) -> Policy:
    """As at the start: a store that workers could not open is told of before they try."""
    policy = _load(file)
    open_store(policy.server.state, policy.server.state_password).close()
    return policy
