"""`filterd doctor --postfix`: the usual mistakes in the joint with Postfix, and the lines that mend them."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from filterd.backend.policy_files import load_policy
from filterd.cli.misuse import MisuseError
from filterd.cli.postfix_joint import of_postfix, refused, say, wrapped
from filterd.policy.errors import PolicyErrors
from filterd.policy.explain import printable_text
from filterd.postfix.doctor import findings
from filterd.postfix.finding import Finding, Severity
from filterd.postfix.postconf import PostfixError, read

_STATUS = {Severity.NOTE: 0, Severity.WARNING: 1, Severity.ERROR: 3}
_COLOURS = {Severity.NOTE: "cyan", Severity.WARNING: "yellow", Severity.ERROR: "red"}
_INDENT = " " * 9


@click.command("doctor")
@click.option("--postfix", "of", flag_value="postfix", required=True, help="Look at the joint with Postfix.")
@of_postfix
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(of: str, folder: Path | None, policy: Path, as_json: bool) -> None:
    """Find what is wrong, what becomes of mail by it, and the line that mends it. Nothing is changed.

    \b
    error    mail is lost, passes unjudged, or is signed by mistake
    warning  mail is judged worse than it could be
    note     may be meant so

    Ends with 3 if there is an error, with 1 if there is a warning, else with 0; with 2 if the policy cannot be used.
    Run it as root: others cannot see whether Postfix gets to filterd's socket.
    """
    try:
        config, settings = read(folder), load_policy(policy).settings
    except PostfixError as error:
        raise MisuseError(refused(error)) from None
    except PolicyErrors as errors:
        raise MisuseError(str(errors)) from None
    found = findings(config, settings.server, settings.networks)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
    else:
        _page(found, config.directory)
    sys.exit(max((_STATUS[each.severity] for each in found), default=0))


def _page(found: Sequence[Finding], directory: str) -> None:
    for each in found:
        head = click.style(f"{each.severity:8}", fg=_COLOURS[each.severity], bold=True)
        title, *more = wrapped(each.what, len(_INDENT))
        click.echo(f"{head} {click.style(title, bold=True)}")
        for line in more:
            click.echo(_INDENT + click.style(line, bold=True))
        say(each.happens, _INDENT)
        if each.mend:
            click.echo(f"{_INDENT}{each.where}:")
        for line in each.mend:
            # Whole, so that it can be copied.
            click.echo(f"{_INDENT}  {printable_text(line)}")
        click.echo("")
    counts = {severity: sum(each.severity is severity for each in found) for severity in reversed(Severity)}
    told = ", ".join(f"{count} {severity}{'s' * (count > 1)}" for severity, count in counts.items() if count)
    click.echo(f"{directory}: {told or 'filterd and Postfix fit together'}")
