"""`filterd quarantine list|show|release|delete`: the mail that `then: hold` keeps in Postfix's hold queue."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path

import click

from filterd.backend.postfix_queue import HoldQueue, PostfixQueueError
from filterd.policy.explain import printable_text


@click.group("quarantine")
def command() -> None:
    """Look after the mail in Postfix's hold queue, where `then: hold` puts it. Nobody else does: it stays for ever.

    Needs root for all but `list`. Ends with 1 where Postfix would not, or a mail is not on hold.
    """


_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


def _of_postfix(call: Callable[..., None]) -> Callable[..., None]:
    """A subcommand that is given the queue."""

    @click.option("-c", "--config", type=_FOLDER, help="Postfix's configuration folder; by default the machine's.")
    @wraps(call)
    def with_queue(config: Path | None, **arguments: object) -> None:
        try:
            call(HoldQueue(config), **arguments)
        except PostfixQueueError as error:
            raise click.ClickException(printable_text(str(error))) from None

    return with_queue


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_of_postfix
def list_(queue: HoldQueue, as_json: bool) -> None:
    """List the mails on hold, oldest first: id, time of arrival (UTC), octets, sender, recipients."""
    mails = queue.mails()
    if as_json:
        click.echo(json.dumps([asdict(each) for each in mails], indent=2))
        return
    for each in mails:
        arrived = datetime.fromtimestamp(each.arrived, UTC).strftime("%Y-%m-%d %H:%M")
        who = f"<{each.sender}> to {', '.join(each.recipients)}"
        click.echo(f"{each.queue_id:16} {arrived} {each.size:>9}  {printable_text(who)}")


@command.command("show")
@click.argument("queue_id")
@click.option("--raw", is_flag=True, help="The octets as they are, for a file or a program.")
@_of_postfix
def show(queue: HoldQueue, queue_id: str, raw: bool) -> None:
    """Show a mail's header and body."""
    content = queue.content(queue_id)
    if raw:
        click.echo(content, nl=False)
        return
    for line in content.decode("utf-8", "replace").split("\n"):
        click.echo(printable_text(line.replace("\t", "    ")))


@command.command("release")
@click.argument("queue_ids", nargs=-1, required=True)
@_of_postfix
def release(queue: HoldQueue, queue_ids: tuple[str, ...]) -> None:
    """Deliver mails to their recipients, as they are: what filterd wrote into them stays."""
    queue.release(queue_ids)
    click.echo(f"released: {' '.join(queue_ids)}")


@command.command("delete")
@click.argument("queue_ids", nargs=-1, required=True)
@_of_postfix
def delete(queue: HoldQueue, queue_ids: tuple[str, ...]) -> None:
    """Delete mails for good; neither sender nor recipient is told."""
    queue.delete(queue_ids)
    click.echo(f"deleted: {' '.join(queue_ids)}")
