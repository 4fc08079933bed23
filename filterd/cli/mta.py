"""`filterd mta`: the bundled MTA in the foreground, for a machine that has no other."""

import asyncio
import logging
import signal
import socket
from pathlib import Path
from typing import TextIO

import click

from filterd.cli.mta_queue import queue
from filterd.mail.endpoint import Endpoint
from filterd.mta.config import DefaultAction, MtaConfig
from filterd.mta.queue import QueueBusyError
from filterd.mta.server import BundledMta


class _Listen(click.ParamType[tuple[str, int]]):
    name = "HOST:PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, colon, port = str(value).rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            self.fail(f"{value!r} is not HOST:PORT, as in 127.0.0.1:2525", param, ctx)
        return host.strip("[]"), int(port)


class _User(click.ParamType[tuple[str, str]]):
    name = "NAME:PASSWORD"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        login, colon, password = str(value).partition(":")
        if not colon or not login or not password:
            self.fail("a user reads NAME:PASSWORD", param, ctx)
        return login, password


class _Socket(click.ParamType[str]):
    name = "SOCKET"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            Endpoint.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


@click.group("mta", invoke_without_command=True)
@click.pass_context
@click.option("--listen", type=_Listen(), default="127.0.0.1:2525", show_default=True, help="Where to listen.")
@click.option("--milter", "milters", type=_Socket(), multiple=True, help="A milter to ask; may be given several times.")
@click.option(
    "--policy-service",
    "policy_services",
    type=_Socket(),
    multiple=True,
    help="A policy service to ask about each recipient; may be given several times.",
)
@click.option("--maildir", type=click.Path(file_okay=False, path_type=Path), help="Where mail goes.")
@click.option(
    "--user", "users", type=_User(), multiple=True, help="Somebody who may log in; others can see it in `ps`."
)
@click.option(
    "--user-file",
    type=click.File(encoding="utf-8"),
    help="The same from a file, one NAME:PASSWORD a line.",
)
@click.option("--hostname", default=socket.getfqdn, show_default="this machine's", help="Our name in SMTP.")
@click.option(
    "--default-action",
    type=click.Choice([each.value for each in DefaultAction]),
    default=DefaultAction.TEMPFAIL.value,
    show_default=True,
    help="What happens to mail when a milter is away.",
)
def command(
    ctx: click.Context,
    listen: tuple[str, int],
    milters: tuple[str, ...],
    policy_services: tuple[str, ...],
    maildir: Path | None,
    users: tuple[tuple[str, str], ...],
    user_file: TextIO | None,
    hostname: str,
    default_action: str,
) -> None:
    """Take mail by SMTP, ask policy services and milters as Postfix does, and deliver into Maildirs.

    Every recipient has a folder of its own; what they put on hold waits in the queue. It speaks no TLS and takes mail
    for any recipient: let it listen on loopback.
    """
    if ctx.invoked_subcommand is not None:
        return
    if maildir is None:
        raise click.UsageError("it needs --maildir", ctx)
    read = user_file.read().splitlines() if user_file is not None else []
    known = dict([*users, *(_User().convert(line, None, None) for line in read if line and not line.startswith("#"))])
    host, port = listen
    config = MtaConfig(
        hostname=hostname,
        maildir=maildir,
        milters=milters,
        policy_services=policy_services,
        users=known,
        host=host,
        port=port,
        default_action=default_action,
    )
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    try:
        asyncio.run(_serve(BundledMta(config)))
    except QueueBusyError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from None


command.add_command(queue)


async def _serve(mta: BundledMta) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await mta.start()
    click.echo(f"listening on {mta.config.host}:{mta.port}, delivering into {mta.config.maildir}")
    await stopped.wait()
    await mta.stop()
