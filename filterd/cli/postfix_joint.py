"""What `attach` and `detach` share: the options, the diff, the question, and carrying out."""

import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from filterd.backend.policy_files import load_server
from filterd.cli.misuse import MisuseError
from filterd.policy.errors import PolicyErrors
from filterd.policy.schema import Server
from filterd.postfix.attached import restore, texts
from filterd.postfix.plan import Change
from filterd.postfix.postconf import FILES, PostfixError, change, check, scratch

Command = TypeVar("Command", bound=Callable[..., Any])
POLICY = Path("/etc/filterd/policy.yaml")


def of_postfix(command: Command) -> Command:
    """The options -c and -p."""
    folder = click.option(
        "-c", "--config", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
        help="Postfix's configuration directory.  [default: Postfix's own]",
    )  # fmt: skip
    policy = click.option(
        "-p", "--policy", type=click.Path(dir_okay=False, path_type=Path), default=POLICY, show_default=True,
        help="The policy that filterd runs: it says where filterd listens.",
    )  # fmt: skip
    return folder(policy(command))


def that_changes(command: Command) -> Command:
    """Those, and --dry-run and --yes."""
    dry = click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
    yes = click.option("--yes", is_flag=True, help="Do not ask.")
    return of_postfix(dry(yes(command)))


def server_of(policy: Path) -> Server:
    """The server section of a policy. Ends the program with 2 where it cannot be read."""
    try:
        return load_server(policy)
    except PolicyErrors as errors:
        raise MisuseError(str(errors)) from None


def carried_out(folder: Path, changes: Sequence[Change], *, dry_run: bool, yes: bool) -> bool:
    """Show the exact diff, ask, change, and have Postfix check it; what it does not like is undone.

    Returns whether it was changed. Ends the program with 1 where the answer is no. Raises PostfixError.
    """
    before = texts(folder)
    with scratch(str(folder)) as copy:
        change(copy, changes)
        after = texts(copy)
    show(folder, before, after)
    if not agreed(dry_run=dry_run, yes=yes):
        return False
    try:
        change(folder, changes)
        complaint = check(folder)
    except PostfixError as error:
        complaint = str(error)
    if complaint:
        restore(folder, before)
        raise PostfixError(f"postfix check complains, so all is as it was:\n{complaint}")
    return True


def show(folder: Path, before: dict[str, str], after: dict[str, str]) -> None:
    """What changes in which file, as diff(1) has it."""
    for name in FILES:
        old, new = (each[name].encode(errors="surrogateescape").decode(errors="replace") for each in (before, after))
        path = str(folder / name)
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), path, path, lineterm=""):
            colour = {"+": "green", "-": "red"}.get(line[:1])
            click.echo(click.style(line, fg=colour) if colour else line)


def agreed(*, dry_run: bool, yes: bool) -> bool:
    """Whether to go on. Ends the program with 1 where the answer is no."""
    if dry_run:
        return False
    if not yes and not click.confirm("Change it so?"):
        sys.exit(1)
    return True
