"""`filterd detach postfix`: have a Postfix no longer ask filterd."""

from pathlib import Path

import click

from filterd.cli.postfix_joint import agreed, carried_out, server_of, show, that_changes
from filterd.postfix.attached import forget, remembered, restore, texts
from filterd.postfix.plan import detach, ours
from filterd.postfix.postconf import PostfixError, read


@click.group("detach")
def command() -> None:
    """Have a mail server no longer ask filterd."""


@command.command("postfix")
@that_changes
def postfix(folder: Path | None, policy: Path, dry_run: bool, yes: bool) -> None:
    """Have Postfix no longer ask filterd: shows the exact changes, asks, and makes them.

    What `filterd attach postfix` changed becomes what it was, to the octet. Where the files were changed since, only
    filterd is taken out of them.
    """
    try:
        config = read(folder)
        home = Path(config.directory)
        record, now = remembered(home), texts(home)
        if record is not None and record.after == now:
            show(home, now, dict(record.before))
            if not agreed(dry_run=dry_run, yes=yes):
                return
            restore(home, record.before)
        else:
            changes = detach(config, ours(server_of(policy), config))
            if not changes:
                click.echo(f"{home}: Postfix does not ask filterd")
                return
            if not carried_out(home, changes, dry_run=dry_run, yes=yes):
                return
        forget(home)
    except PostfixError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"done; Postfix takes it over with `postfix{'' if folder is None else f' -c {folder}'} reload`")
