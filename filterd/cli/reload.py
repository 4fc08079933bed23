"""`filterd reload`: have the daemon load its policy anew, and say what became of it."""

import sys
from pathlib import Path

import click

from filterd.cli.daemon_socket import answer, which_daemon

# Loading, the policy's own tests, and the start of all workers.
_PATIENCE = 600.0


@click.command("reload")
@which_daemon
def command(policy: Path | None, socket: Path | None) -> None:
    """Have the daemon load its policy anew, and wait until all workers judge by it.

    Mail in flight ends under the policy that it began with. A policy with errors is refused: they are printed, the old
    one stays, and the command ends with 1. It ends with 2 where no daemon answers.
    """
    found = answer(policy, socket, "reload", _PATIENCE)
    for error in found["errors"]:
        click.echo(error, err=True)
    for warning in found["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{found['outcome']}: generation {found['generation']} is in force, policy {found['policy']}")
    sys.exit(0 if found["outcome"] == "reloaded" else 1)
