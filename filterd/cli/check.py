"""`filterd check POLICY`: is it right, when does each rule run, and what does it cost."""

import sys
from pathlib import Path

import click

from filterd.backend.policy_files import load_policy
from filterd.mail.transaction import Stage
from filterd.policy.errors import PolicyErrors
from filterd.policy.facts import FACTS
from filterd.policy.rules import Policy, Rule


@click.command(name="check")
@click.argument("policy", type=click.Path(path_type=Path))
def command(policy: Path) -> None:
    """Validate POLICY, and show for each rule the stage at which it runs and the checks that it causes.

    Ends with 1 if the policy cannot be used.
    """
    try:
        compiled = load_policy(policy)
    except PolicyErrors as error:
        for each in error.errors:
            click.echo(str(each), err=True)
        sys.exit(1)
    _print(policy, compiled)


def _print(path: Path, policy: Policy) -> None:
    rows = [(rule.name, stage.word, _checks(rule), _action(rule)) for stage in Stage for rule in policy.rules[stage]]
    rows = [("rule", "stage", "checks", "then"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [f"{cell:{width}}" for cell, width in zip(row[:3], widths, strict=True)]
        click.echo("  ".join([*cells, row[3]]).rstrip())
    click.echo(f"{path}: {len(rows) - 1} rules, policy {policy.digest}, fine")


def _checks(rule: Rule) -> str:
    names = (*rule.condition.facts, *rule.reply_facts)
    return ", ".join(sorted({check.value for name in names if (check := FACTS[name].check)})) or "-"


def _action(rule: Rule) -> str:
    observed = " (observe)" if rule.mode == "observe" else ""
    return f"{rule.action}{observed}" + (f" {rule.reply}" if rule.reply else "")
