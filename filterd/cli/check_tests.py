"""The part of `filterd check` that runs the policy's own tests, and shows what failed as a test runner does."""

import time
from typing import Any

import click

from filterd.engine.policy_tests import PolicyTestResult, run_tests
from filterd.policy.explain import explain, printable_text
from filterd.policy.rules import Policy


def check_tests(policy: Policy, word: str | None, *, quiet: bool) -> tuple[PolicyTestResult, ...]:
    """Run the tests whose names have `word` in them, whatever its case; print failures unless quiet."""
    chosen = [test for test in policy.tests if word is None or word.lower() in test.name.lower()]
    if word is not None and not chosen:
        raise click.UsageError(f"no test of this policy has {word!r} in its name")
    began, outcomes = time.monotonic(), []
    for proven in run_tests(policy, chosen):
        outcomes.append(proven)
        if not proven.passed and not quiet:
            _show(proven)
    if policy.tests and not quiet:
        _summary(outcomes, len(policy.tests) - len(chosen), time.monotonic() - began)
    return tuple(outcomes)


def tests_mapping(outcomes: tuple[PolicyTestResult, ...]) -> list[dict[str, Any]]:
    """The outcomes as plain data for JSON."""
    return [
        {
            "name": each.test.name,
            "file": each.test.place.file,
            "line": each.test.place.line,
            "passed": each.passed,
            "trouble": each.trouble,
            "mismatches": [
                {"what": found.what, "expected": found.expected, "happened": found.happened}
                for found in each.mismatches
            ],
            # What passed explains itself.
            "transcript": each.transcript.to_mapping() if each.transcript and not each.passed else None,
        }
        for each in outcomes
    ]


def _show(proven: PolicyTestResult) -> None:
    place = proven.test.place
    click.secho(f"\nFAILED  {proven.test.name}", fg="red", bold=True)
    click.echo(f"        {place.file}:{place.line}")
    if proven.trouble is not None:
        click.echo(f"        {printable_text(proven.trouble)}")
    if proven.mismatches:
        rows = [("", "expected", "happened")]
        rows += [(each.what, each.expected, printable_text(each.happened)) for each in proven.mismatches]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        click.echo()
        for first, second, third in rows:
            click.echo(f"        {first:{widths[0]}}  {second:{widths[1]}}  {third}".rstrip())
    if proven.transcript is not None:
        click.echo()
        for line in explain(proven.transcript).splitlines():
            click.echo(f"        | {line}".rstrip())


def _summary(outcomes: list[PolicyTestResult], left_out: int, seconds: float) -> None:
    failed = sum(not each.passed for each in outcomes)
    parts = [f"{failed} failed"] if failed else []
    parts.append(f"{len(outcomes) - failed} passed")
    parts += [f"{left_out} left out"] if left_out else []
    click.echo("\n" * bool(failed), nl=False)
    click.secho(f"tests: {', '.join(parts)} in {seconds:.2f} s", fg="red" if failed else "green")
