"""`filterd check POLICY`: is it right, when does each rule run, what does it cost, and do its tests hold."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from filterd.backend.policy_files import load_policy
from filterd.cli.check_tests import check_tests, tests_mapping
from filterd.cli.check_warnings import machine_warnings, meant_otherwise, shadow_warnings
from filterd.engine.policy_tests import PolicyTestResult
from filterd.limits.rate import duration_text
from filterd.mail.transaction import Stage
from filterd.policy.action_entries import ACTIONS
from filterd.policy.conditions import FUNCTIONS
from filterd.policy.edit_words import action_words
from filterd.policy.errors import PolicyError, PolicyErrors
from filterd.policy.facts import FACTS
from filterd.policy.greylist import GREYLIST
from filterd.policy.rules import Greylist, Limit, Policy, Rule


@click.command(name="check")
@click.argument("policy", type=click.Path(path_type=Path), required=False)
@click.option("--facts", is_flag=True, help="List what conditions may name, and the actions of rules.")
@click.option("--tests/--no-tests", default=True, help="Whether to run the policy's own tests; they are run.")
@click.option("-k", "word", metavar="WORD", help="Run only the tests that have this word in their names.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(policy: Path | None, facts: bool, tests: bool, word: str | None, as_json: bool) -> None:
    """Validate POLICY, show for each rule the stage at which it runs and the checks that it causes, run its tests.

    Ends with 1 if the policy cannot be used, or a test fails.
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
        if as_json:
            click.echo(json.dumps({"errors": list(map(asdict, error.errors))}, indent=2))
        sys.exit(1)
    warnings = [*meant_otherwise(policy, compiled), *machine_warnings(policy, compiled)]
    warnings += shadow_warnings(compiled, tests=tests)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if not as_json:
        _print(policy, compiled)
    outcomes = check_tests(compiled, word, quiet=as_json) if tests else ()
    if as_json:
        click.echo(json.dumps(_mapping(compiled, warnings, outcomes), indent=2))
    sys.exit(0 if all(each.passed for each in outcomes) else 1)


def _mapping(policy: Policy, warnings: list[PolicyError], outcomes: tuple[PolicyTestResult, ...]) -> dict[str, Any]:
    rules = [
        {"name": rule.name, "line": rule.line, "stage": stage.word, "checks": _checks(rule), "then": _action(rule)}
        for stage in Stage
        for rule in policy.rules[stage]
    ]
    limits = [
        {"name": each.rule.name, "line": each.rule.line, "stage": stage.word, "then": _limit_action(policy, each)}
        for stage in Stage
        for each in policy.limits[stage]
    ]
    plain = list(map(asdict, warnings))
    return {
        "policy": policy.digest,
        "errors": [],
        "warnings": plain,
        "rules": rules,
        "limits": limits,
        "tests": tests_mapping(outcomes),
    }


def _print(path: Path, policy: Policy) -> None:
    rows = [(rule.name, stage.word, _checks(rule), _action(rule)) for stage in Stage for rule in policy.rules[stage]]
    count = len(rows)
    rows += [
        (each.rule.name, stage.word, "-", _limit_action(policy, each))
        for stage in Stage
        for each in policy.limits[stage]
    ]
    rows += [(GREYLIST, Stage.RCPT.word, "spf", _greylist_action(policy.greylist))] if policy.greylist else []
    rows = [("rule", "stage", "checks", "then"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [f"{cell:{width}}" for cell, width in zip(row[:3], widths, strict=True)]
        click.echo("  ".join([*cells, row[3]]).rstrip())
    click.echo(f"{path}: {count} rules, policy {policy.digest}, fine")


def _print_facts() -> None:
    width = max(map(len, FACTS))
    for fact in FACTS.values():
        words = f" One of: {', '.join(word or 'empty' for word in fact.words)}." if fact.words else ""
        click.echo(f"{fact.name:{width}}  {fact.type.value:12}  {fact.stage.word:14}  {fact.doc}{words}")
    for name, doc in FUNCTIONS.items():
        click.echo(f"{name:{width}}  {'function':12}  {'':14}  {doc}")
    for name, doc in ACTIONS.items():
        click.echo(f"{name:{width}}  {'action':12}  {'':14}  {doc}")


def _checks(rule: Rule) -> str:
    names = (*rule.condition.facts, *rule.shown_facts)
    return ", ".join(sorted({check.value for name in names if (check := FACTS[name].check)})) or "-"


def _action(rule: Rule) -> str:
    words = [words for edit in rule.edits if (words := action_words(edit))]
    words += [f"score {rule.score:+g}"] if rule.score is not None else []
    words += [rule.action] if rule.action else []
    observed = " (observe)" if rule.mode == "observe" else ""
    return ", ".join(words) + observed + (f" {rule.reply}" if rule.reply else "")


def _greylist_action(greylist: Greylist) -> str:
    terms, observed = greylist.terms, " (observe)" if greylist.rule.mode == "observe" else ""
    delay, window = duration_text(terms.delay / 1000), duration_text(terms.window / 1000)
    return f"defer{observed} strangers' first try for {delay}, who come again within {window} pass"


def _limit_action(policy: Policy, limit: Limit) -> str:
    """What a limit does at a stage; and who charges, where there are two who could."""
    observed = " (observe)" if limit.rule.mode == "observe" else ""
    rates = ", ".join(map(str, limit.rates))
    alone = policy.server.milter and policy.server.policy_service and limit.rule.stage > Stage.RCPT
    owner = "; charged by the milter alone" if alone else ""
    return f"{limit.rule.action}{observed} above {rates} by {', '.join(limit.key)}{owner}"
