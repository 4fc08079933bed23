"""`filterd attach postfix`: have a Postfix ask filterd."""

from collections.abc import Sequence
from pathlib import Path

import click

from filterd.cli.misuse import MisuseError
from filterd.cli.postfix_joint import agreed, carry_out, done, refused, say, server_of, show, that_changes
from filterd.postfix.attached import Attached, remembered, texts
from filterd.postfix.config import Config, milters
from filterd.postfix.neighbours import in_place, neighbour
from filterd.postfix.plan import Change, Ours, attach, ours, shut_out
from filterd.postfix.postconf import PostfixError, changed, read
from filterd.postfix.reach import answers

_FIRST = (
    "filterd is asked first: it judges mail as the client sent it, before another milter changes what the sender has "
    "signed. What a later one changes in mail of yours breaks the signature that filterd made."
)
_BACK = "it comes from 127.0.0.1, whose mail is taken for yours and signed."


@click.group("attach")
def command() -> None:
    """Have a mail server ask filterd."""


@command.command("postfix")
@that_changes
def postfix(folder: Path | None, policy: Path, dry_run: bool, yes: bool) -> None:
    """Have Postfix ask filterd: show the exact changes of main.cf and master.cf, ask, make them and check them.

    Milters that are there stay; filterd is asked before them. Filters whose work filterd does are named. What the files
    were is kept beside them, for `filterd detach postfix`. A second time changes nothing.

    Ends with 1 if the answer is no, or Postfix does not like it, and then all is as it was; with 2 if the policy cannot
    be read, or says that filterd listens where Postfix cannot reach it.
    """
    try:
        _attach(folder, policy, dry_run=dry_run, yes=yes)
    except PostfixError as error:
        raise click.ClickException(refused(error)) from None


def _attach(folder: Path | None, policy: Path, *, dry_run: bool, yes: bool) -> None:
    config, server = read(folder), server_of(policy)
    for what, line in shut_out(server, config):
        raise MisuseError(f"{what}. Write into {policy}, and restart filterd:\n  {line}")
    place, home = ours(server, config), Path(config.directory)
    changes = attach(config, place)
    if not changes:
        click.echo(f"{home}: Postfix asks filterd already")
        return
    now, record = texts(home), remembered(home)
    with changed(home, changes) as copy:
        after = texts(copy)
    _explain(config, place, changes)
    show(home, now, after)
    sockets = filter(None, (place.milter, place.policy_service))
    silent = [each for each in sockets if not answers(each, config.value("queue_directory"))]
    if silent:
        say(f"Nobody answers at {' and '.join(silent)}. Start filterd first: without it Postfix defers all mail.")
    if not agreed(dry_run=dry_run, yes=yes):
        return
    # Attached a second time, it is undone to what was before the first, unless somebody else changed it since.
    known = record if record is not None and record.covers(now) else Attached(now, ())
    carry_out(home, now, after, Attached(known.before, (*known.made, after)))
    done(folder)
    click.echo("`filterd doctor --postfix` looks at all else that the two need.")


def _explain(config: Config, place: Ours, changes: Sequence[Change]) -> None:
    """Who is there already, and why filterd comes first."""
    for found, address in in_place(config):
        say(f"{found.name} is at {address}:")
        say(found.text, "  ")
    others = [each.address for each in milters(config.value("smtpd_milters")) if each.address != place.milter]
    if others and place.milter is not None:
        say(_FIRST)
        rewriting = [found.name for found in map(neighbour, others) if found is not None and found.rewrites]
        if rewriting:
            say(f"So have {' and '.join(rewriting)} leave the content of your own mail as it is.")
    back = [each.id for each in config.listening() if config.takes_back(each)]
    for each in (change.service for change in changes if change.service in back and change.name == "smtpd_milters"):
        say(f"What a content filter gives back at {each} is not shown to filterd again: {_BACK}")
    if others or back or any(in_place(config)):
        click.echo("")
