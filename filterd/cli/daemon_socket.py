"""Which daemon a command asks: by its policy, by its socket, or the one that is where daemons are by default."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from filterd.backend.policy_files import load_server
from filterd.daemon.control import DEFAULT, ControlError, ask, control_address
from filterd.policy.errors import PolicyErrors

Command = TypeVar("Command", bound=Callable[..., Any])


def which_daemon(command: Command) -> Command:
    """The options -p and --socket."""
    policy = click.option(
        "-p", "--policy", type=click.Path(dir_okay=False, path_type=Path), help="The daemon that runs this policy file."
    )
    socket = click.option(
        "--socket",
        type=click.Path(path_type=Path),
        help=f"The daemon with this control socket.  [default: {DEFAULT.removeprefix('unix:')}]",
    )
    return policy(socket(command))


def answer(policy: Path | None, socket: Path | None, command: str, patience: float = 30.0) -> dict[str, Any]:
    """What the daemon answers. Ends the program with 2 where none does."""
    if policy is not None and socket is not None:
        raise click.UsageError("say -p or --socket, not both")
    try:
        address = DEFAULT
        if socket is not None:
            address = f"unix:{socket}"
        elif policy is not None:
            address = control_address(load_server(policy))
        return ask(address, command, patience)
    except PolicyErrors as errors:
        _fail(f"{errors}\nits server section cannot be read: say --socket")
    except ControlError as error:
        _fail(str(error))


def _fail(text: str) -> NoReturn:
    click.echo(text, err=True)
    sys.exit(2)
