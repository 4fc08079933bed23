"""What `attach` and `detach` share: the options, the diff, the question, and carrying it out."""

import difflib
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from filterd.backend.policy_files import load_server
from filterd.cli.misuse import MisuseError
from filterd.policy.errors import PolicyErrors
from filterd.policy.explain import printable_text
from filterd.policy.schema import Server
from filterd.postfix.attached import Attached, install, remember, remembered, texts
from filterd.postfix.postconf import FILES, PostfixError, complaints

Command = TypeVar("Command", bound=Callable[..., Any])
_POLICY = Path("/etc/filterd/policy.yaml")
_WIDTH = 79


def of_postfix(command: Command) -> Command:
    """The options -c and -p."""
    folder = click.option(
        "-c", "--config", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
        help="Postfix's configuration folder; by default the machine's.",
    )  # fmt: skip
    policy = click.option(
        "-p", "--policy", type=click.Path(dir_okay=False, path_type=Path), default=_POLICY, show_default=True,
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


def carry_out(
    folder: Path, now: Mapping[str, str], target: Mapping[str, str], record: Attached, order: Sequence[str] = FILES
) -> None:
    """Make `target` of the files, in this order, and have Postfix check it; what it does not like is undone.

    `now` is what was shown, `record` what is known of the files if this is interrupted. Raises PostfixError.
    """
    known, earlier = complaints(folder), remembered(folder)
    if texts(folder) != now:
        raise PostfixError(f"{folder} was changed meanwhile; nothing was done")
    remember(folder, record)
    install(folder, target, order)
    new = [line for line in complaints(folder) if line not in known]
    if new:
        install(folder, now, order[::-1])
        remember(folder, earlier)
        raise PostfixError("\n".join(["Postfix does not like it, so all is as it was:", *new]))


def show(folder: Path, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """What changes in which file, as diff(1) has it."""
    for name in FILES:
        old, new = (each[name].replace("\t", "    ").split("\n") for each in (before, after))
        path = str(folder / name)
        for line in difflib.unified_diff(old, new, path, path, lineterm=""):
            colour = {"+": "green", "-": "red"}.get(line[:1])
            click.secho(printable_text(line), fg=colour)
    click.echo("")


def agreed(*, dry_run: bool, yes: bool) -> bool:
    """Whether to go on. Ends the program with 1 where the answer is no."""
    if dry_run:
        return False
    if not yes and not click.confirm("Change it so?"):
        sys.exit(1)
    return True


def refused(error: PostfixError) -> str:
    """What Postfix's programs say, for a terminal."""
    return "\n".join(map(printable_text, str(error).splitlines()))


def say(text: str, indent: str = "") -> None:
    """A paragraph for a person, as wide as a terminal."""
    for line in wrapped(text, len(indent)):
        click.echo(indent + line)


def wrapped(text: str, indent: int) -> list[str]:
    """The lines of a paragraph. Paths and lines of settings stay whole."""
    width = _WIDTH - indent
    return textwrap.wrap(printable_text(text), width, break_long_words=False, break_on_hyphens=False)


def done(folder: Path | None) -> None:
    """How Postfix comes to know."""
    option = "" if folder is None else f" -c {folder}"
    click.echo(f"Done. Postfix goes by it after `postfix{option} reload`.")
