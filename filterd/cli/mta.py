"""`filterd mta`: the bundled MTA in the foreground, for a machine that has no other."""

import asyncio
import logging
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from filterd.backend.resolver import DnsResolver
from filterd.cli.misuse import MisuseError
from filterd.cli.mta_file import DEFAULT_LISTENERS, load_mta, load_users, read_listener
from filterd.cli.mta_passwd import passwd
from filterd.cli.mta_queue import queue
from filterd.mail.endpoint import Endpoint
from filterd.mta.config import DefaultAction, Listener, MtaConfig
from filterd.mta.queue import QueueBusyError
from filterd.mta.server import BundledMta
from filterd.policy.errors import PolicyErrors


class _Listen(click.ParamType[Listener]):
    name = "HOST:PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Listener:
        try:
            return Listener(*read_listener(str(value)))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _User(click.ParamType[tuple[str, str]]):
    name = "NAME:PASSWORD"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
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
@click.option("-c", "--config", "file", type=click.Path(dir_okay=False, path_type=Path), help="A file of settings.")
@click.option(
    "--listen", "listeners", type=_Listen(), multiple=True, help="Where to listen.  [default: 127.0.0.1:2525]"
)
@click.option("--milter", "milters", type=_Socket(), multiple=True, help="A milter to ask; may be given several times.")
@click.option(
    "--policy-service",
    "policy_services",
    type=_Socket(),
    multiple=True,
    help="A policy service to ask about each recipient; may be given several times.",
)
@click.option(
    "--maildir", type=click.Path(file_okay=False, path_type=Path), help="Where mail goes.  [default: the folder mail]"
)
@click.option(
    "--users", "user_file", type=click.Path(dir_okay=False, path_type=Path), help="Who may log in: a file of passwd's."
)
@click.option(
    "--user", "users", type=_User(), multiple=True, help="Somebody who may log in; others can see it in `ps`."
)
@click.option("--hostname", help="Our name in SMTP.  [default: this machine's]")
@click.option(
    "--default-action",
    type=click.Choice([each.value for each in DefaultAction]),
    help="What happens to mail when a milter is away.  [default: tempfail]",
)
@click.option("--xclient", is_flag=True, default=None, help="Let clients on loopback pretend to be others.")
def command(ctx: click.Context, /, file: Path | None, user_file: Path | None, **options: Any) -> None:
    """Take mail by SMTP, ask policy services and milters as Postfix does, and deliver into Maildirs.

    Every recipient has a folder of its own; what they put on hold waits in the queue. Without a file of settings it
    listens on loopback and takes mail for any recipient. Options go before what the file says.
    """
    if ctx.invoked_subcommand is not None:
        return
    try:
        config = _config(file, user_file, options)
    except PolicyErrors as errors:
        raise MisuseError(str(errors)) from None
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    try:
        asyncio.run(_serve(config))
    except QueueBusyError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(error.strerror or str(error)) from None


command.add_command(queue)
command.add_command(passwd)


def _config(file: Path | None, user_file: Path | None, options: dict[str, Any]) -> MtaConfig:
    """The settings of the file, and before them the options that were given. Raises PolicyErrors."""
    hostname = socket.getfqdn()
    if file is None:
        config = MtaConfig(hostname, Path("mail"), listeners=DEFAULT_LISTENERS, xclient=False)
    else:
        config = load_mta(file, hostname)
    if user_file is not None:
        config = replace(config, users=load_users(user_file))
    elif options["users"]:
        config = replace(config, users=dict(options["users"]))
    given = {name: value for name, value in options.items() if name != "users" and value not in (None, ())}
    return replace(config, **given)


async def _serve(config: MtaConfig) -> None:
    resolver = DnsResolver(config.relay.dns_servers, config.relay.dns_timeout)
    mta = BundledMta(config, resolver.view)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    resolver.start()
    await mta.start()
    for listener in mta.listeners:
        click.echo(f"listening on {listener} ({listener.service}), delivering into {mta.config.maildir}")
    await stopped.wait()
    await mta.stop()
    resolver.close()
