"""`filterd attach postfix`: have a Postfix ask filterd."""

from pathlib import Path

import click

from filterd.cli.misuse import MisuseError
from filterd.cli.postfix_joint import carried_out, server_of, that_changes
from filterd.postfix.attached import Attached, remember, remembered, texts
from filterd.postfix.config import Config, milters
from filterd.postfix.neighbours import in_place, neighbour
from filterd.postfix.plan import Ours, attach, ours, shut_out
from filterd.postfix.postconf import PostfixError, read


@click.group("attach")
def command() -> None:
    """Have a mail server ask filterd."""


@command.command("postfix")
@that_changes
def postfix(folder: Path | None, policy: Path, dry_run: bool, yes: bool) -> None:
    """Have Postfix ask filterd: shows the exact changes of main.cf and master.cf, asks, makes them and checks them.

    Filters that are there stay; what filterd takes over from them is told. The files' content is kept beside them, so
    that `filterd detach postfix` can undo it all. Ends with 1 where the answer was no, or Postfix does not take it.
    """
    try:
        config = read(folder)
        server = server_of(policy)
        place = ours(server, config)
        for what, line in shut_out(server, config):
            raise MisuseError(f"{what}; in filterd's policy:\n  {line}")
        changes = attach(config, place)
        home = Path(config.directory)
        if not changes:
            click.echo(f"{home}: Postfix asks filterd already")
            return
        before, record = texts(home), remembered(home)
        _explain(config, place)
        if not carried_out(home, changes, dry_run=dry_run, yes=yes):
            return
        # Attached a second time, it is undone to what was before the first, unless somebody else changed it since.
        first = record.before if record is not None and record.after == before else before
        remember(home, Attached(first, texts(home)))
    except PostfixError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"done; Postfix takes it over with `postfix{_option(folder)} reload`")
    click.echo("`filterd doctor --postfix` looks at the rest")


def _option(folder: Path | None) -> str:
    return "" if folder is None else f" -c {folder}"


def _explain(config: Config, place: Ours) -> None:
    for found, address in in_place(config):
        click.echo(f"{found.name} ({address}): {found.text}")
    others = [each.address for each in milters(config.value("smtpd_milters")) if each.address != place.milter]
    if others and place.milter is not None:
        click.echo("filterd is asked first: it judges mail as the client sent it, before another milter changes what")
        click.echo("the sender signed. What a later one changes in mail of yours, it changes after filterd has signed")
        rewriting = [found.name for found in map(neighbour, others) if found is not None and found.rewrites]
        click.echo(f"it{': mind ' + ', '.join(rewriting) if rewriting else ''}.")
    if others or any(in_place(config)):
        click.echo("")
