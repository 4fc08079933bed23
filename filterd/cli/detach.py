"""`filterd detach postfix`: have a Postfix no longer ask filterd."""

from pathlib import Path

import click

from filterd.cli.postfix_joint import agreed, carry_out, done, refused, say, server_of, show, that_changes
from filterd.postfix.attached import Attached, remember, remembered, texts
from filterd.postfix.plan import detach, ours
from filterd.postfix.postconf import FILES, PostfixError, changed, read


@click.group("detach")
def command() -> None:
    """Have a mail server no longer ask filterd."""


@command.command("postfix")
@that_changes
def postfix(folder: Path | None, policy: Path, dry_run: bool, yes: bool) -> None:
    """Have Postfix no longer ask filterd: show the exact changes, ask, and make them.

    What `filterd attach postfix` changed becomes what it was, to the octet. Where somebody else changed the files
    since, filterd says so, and takes only itself out of the lists of milters and restrictions.

    Ends with 1 if the answer is no, or Postfix does not like it, and then all is as it was; with 2 if the policy is
    needed and cannot be read.
    """
    try:
        _detach(folder, policy, dry_run=dry_run, yes=yes)
    except PostfixError as error:
        raise click.ClickException(refused(error)) from None


def _detach(folder: Path | None, policy: Path, *, dry_run: bool, yes: bool) -> None:
    config = read(folder)
    home = Path(config.directory)
    record, now = remembered(home), texts(home)
    if record is not None and record.covers(now):
        after = dict(record.before)
    else:
        with changed(home, detach(config, ours(server_of(policy), config))) as copy:
            after = texts(copy)
        if record is not None:
            say(f"Somebody changed files in {home} since filterd was attached: that stays. Only filterd is taken out.")
    if after == now:
        click.echo(f"{home}: Postfix does not ask filterd")
        return
    show(home, now, after)
    if not agreed(dry_run=dry_run, yes=yes):
        return
    # master.cf first: it names what main.cf sets.
    carry_out(home, now, after, Attached(after, (now,)), FILES[::-1])
    remember(home, None)
    done(folder)
