"""`filterd run`: the daemon, in the foreground."""

import os
import sys
from pathlib import Path

import click

from filterd.backend.policy_files import load_policy
from filterd.daemon import log
from filterd.daemon.listen import ListenError, listen_all
from filterd.daemon.master import BecomeError, Master, become, default_workers
from filterd.daemon.worker import live
from filterd.engine.policy_tests import proven
from filterd.engine.runtime import authserv_id
from filterd.policy.errors import PolicyErrors


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
def command(file: Path, workers: int | None, log_format: str) -> None:
    """Run the daemon in the foreground, logging to standard error.

    A policy whose own tests fail is not used. SIGHUP loads it anew: if it has errors, the old one stays. SIGTERM lets
    mail in flight end, and stops.
    """
    # The folder may be another when the policy is loaded anew.
    file = file.absolute()
    try:
        policy = proven(load_policy(file))
        server = policy.server
        listeners = listen_all(server)
        become(server.user)
    except (PolicyErrors, ListenError, BecomeError) as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    log.configure(log.LogFormat(log_format))
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
    sys.exit(Master(policy, lambda: proven(load_policy(file)), live, listeners, count).run())
