"""`filterd check POLICY`: is it right, when does each rule run, and what does it cost."""

import sys
from pathlib import Path

import click

from filterd.backend.policy_files import load_policy
from filterd.mail.transaction import Stage
from filterd.policy.conditions import FUNCTIONS
from filterd.policy.errors import PolicyErrors
from filterd.policy.facts import FACTS
from filterd.policy.rules import Policy, Rule


@click.command(name="check")
@click.argument("policy", type=click.Path(path_type=Path), required=False)
@click.option("--facts", is_flag=True, help="List the facts and functions that conditions may name.")
def command(policy: Path | None, facts: bool) -> None:
    """Validate POLICY, and show for each rule the stage at which it runs and the checks that it causes.

    Ends with 1 if the policy cannot be used.
    """
    if facts:
        _print_facts()
        return
    if policy is None:
        raise click.UsageError("say which policy, or --facts")
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


def _print_facts() -> None:
    width = max(map(len, FACTS))
    for fact in FACTS.values():
        words = f" One of: {', '.join(word or 'empty' for word in fact.words)}." if fact.words else ""
        click.echo(f"{fact.name:{width}}  {fact.type.value:12}  {fact.stage.word:14}  {fact.doc}{words}")
    for name, (doc, _) in FUNCTIONS.items():
        click.echo(f"{name:{width}}  {'function':12}  {'':14}  {doc}")


def _checks(rule: Rule) -> str:
    names = (*rule.condition.facts, *rule.reply_facts)
    return ", ".join(sorted({check.value for name in names if (check := FACTS[name].check)})) or "-"


def _action(rule: Rule) -> str:
    observed = " (observe)" if rule.mode == "observe" else ""
    return f"{rule.action}{observed}" + (f" {rule.reply}" if rule.reply else "")
