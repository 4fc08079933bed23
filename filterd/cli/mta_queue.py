"""`filterd mta queue`: look at the bundled MTA's queue and change it, whether the MTA runs or not."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import click

from filterd.cli.misuse import MisuseError
from filterd.cli.mta_file import load_queue_folder
from filterd.mta.config import MtaConfig
from filterd.mta.queue import Queue
from filterd.mta.queued_mail import QueuedMail, QueuedRecipient
from filterd.policy.errors import PolicyErrors

_PATIENCE = 10.0  # seconds for the MTA to end a delivery
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="For machines.")
_IDS = click.argument("queue_ids", metavar="QUEUE-ID...", nargs=-1, required=True)


@click.group("queue")
@click.option("-c", "--config", "file", type=click.Path(dir_okay=False, path_type=Path), help="The MTA's settings.")
@click.option(
    "--maildir", type=click.Path(file_okay=False, exists=True, path_type=Path), help="Its folder of mail, without -c."
)
@click.pass_context
def queue(ctx: click.Context, file: Path | None, maildir: Path | None) -> None:
    """Mail that was accepted and is not yet delivered: -c and --maildir are those of `filterd mta`."""
    if (file is None) == (maildir is None):
        raise click.UsageError("it needs -c or --maildir", ctx)
    try:
        folder = load_queue_folder(file) if file is not None else MtaConfig("", maildir or Path()).queue_folder
    except PolicyErrors as errors:
        raise MisuseError(str(errors)) from None
    ctx.obj = Queue(folder)


@queue.command("list")
@_AS_JSON
@click.pass_obj
def list_mails(mails: Queue, as_json: bool) -> None:
    """One line a mail, the oldest first, and one for each recipient that was tried: why it still waits."""
    for mail in mails.mails():
        if as_json:
            click.echo(json.dumps(asdict(mail)))
        else:
            arrived = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(mail.arrived))
            recipients = " ".join(_plain(each.address) for each in mail.waiting)
            click.echo(
                f"{mail.queue_id}  {arrived}  {mail.size:>8}  {_state(mail)}  <{_plain(mail.sender)}>  {recipients}"
            )
            for each in mail.waiting:
                if each.status:
                    click.echo(f"    {_outcome(each)}")


@queue.command("show")
@click.argument("queue_id", metavar="QUEUE-ID")
@_AS_JSON
@click.pass_obj
def show(mails: Queue, queue_id: str, as_json: bool) -> None:
    """A mail's envelope, what came of each recipient, and its content."""
    mail = mails.get(queue_id)
    if mail is None:
        raise click.ClickException(f"there is no mail {_plain(queue_id)} in the queue")
    content = mails.content(queue_id).decode("utf-8", "replace")
    if as_json:
        click.echo(json.dumps({**asdict(mail), "content": content}))
        return
    click.echo(f"queue id   {mail.queue_id}\nstate      {_state(mail)} {_plain(mail.hold or '')}".rstrip())
    click.echo(f"sender     <{_plain(mail.sender)}>\nattempts   {mail.attempts}")
    for each in mail.recipients:
        click.echo(f"recipient  {each.fate}  {_outcome(each)}")
    click.echo()
    click.echo("\n".join(map(_plain, content.splitlines())))


@queue.command("flush")
@click.argument("queue_ids", metavar="[QUEUE-ID...]", nargs=-1)
@click.pass_obj
def flush(mails: Queue, queue_ids: tuple[str, ...]) -> None:
    """Try these mails now, or all that are not on hold."""
    _change(mails, queue_ids or _all_ids(mails), lambda mail: replace(mail, due=time.time()))


@queue.command("hold")
@_IDS
@click.pass_obj
def hold(mails: Queue, queue_ids: tuple[str, ...]) -> None:
    """Keep these mails until they are released."""
    _change(mails, queue_ids, lambda mail: replace(mail, hold=mail.hold or "held by hand"))


@queue.command("release")
@_IDS
@click.pass_obj
def release(mails: Queue, queue_ids: tuple[str, ...]) -> None:
    """Deliver mails that are on hold."""
    _change(mails, queue_ids, lambda mail: replace(mail, hold=None, due=time.time()))


@queue.command("delete")
@_IDS
@click.pass_obj
def delete(mails: Queue, queue_ids: tuple[str, ...]) -> None:
    """Throw these mails away; nobody is told."""
    _change(mails, queue_ids, lambda _: None)


def _change(mails: Queue, queue_ids: tuple[str, ...], change: Callable[[QueuedMail], QueuedMail | None]) -> None:
    missing = []
    for queue_id in queue_ids:
        try:
            with mails.locked(queue_id, _PATIENCE) as mail:
                if mail is None:
                    missing.append(_plain(queue_id))
                elif (new := change(mail)) is None:
                    mails.remove(queue_id)
                else:
                    mails.update(new)
        except OSError as error:
            raise click.ClickException(f"{_plain(queue_id)}: {error}") from None
    mails.ring()
    if missing:
        raise click.ClickException(f"not in the queue: {' '.join(missing)}")


def _all_ids(mails: Queue) -> tuple[str, ...]:
    return tuple(mail.queue_id for mail in mails.mails() if mail.hold is None)


def _state(mail: QueuedMail) -> str:
    return "held" if mail.hold is not None else "deferred" if mail.attempts else "waiting"


def _outcome(recipient: QueuedRecipient) -> str:
    """What came of the last try, if there was one."""
    said = f"{recipient.host} said: {recipient.reply}" if recipient.host else recipient.reply
    return " ".join(filter(None, [f"<{_plain(recipient.address)}>", recipient.status, _plain(said)]))


def _plain(text: str) -> str:
    """Remote text, fit for a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
