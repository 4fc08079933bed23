"""`filterd limits show|top|reset`: what a policy's limits have counted, by the store that it names."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click

from filterd.backend.open_store import open_store
from filterd.backend.policy_files import load_policy
from filterd.limits.keys import BucketName, readable_key
from filterd.limits.rate import Rate
from filterd.limits.state import Store, StoreError
from filterd.limits.window import Charge, current
from filterd.policy.errors import PolicyErrors
from filterd.policy.explain import printable_text
from filterd.policy.rules import Policy


@dataclass(frozen=True, slots=True)
class _Row:
    """One key of one limit. `most` is None where the policy has no such rate any more."""

    bucket: str
    limit: str
    key: str
    rate: str
    used: int
    most: int | None

    @property
    def share(self) -> float:
        return self.used / self.most if self.most else float(self.used)

    def mapping(self) -> dict[str, object]:
        return {"limit": self.limit, "key": self.key, "rate": self.rate, "used": self.used, "most": self.most}


@click.group("limits")
def command() -> None:
    """Show and reset what limits have counted. The counts are those of the store that the policy names."""


def _policy(call: Callable[..., None]) -> Callable[..., None]:
    kind = click.Path(path_type=Path)
    return click.option("-p", "--policy", "file", required=True, type=kind, help="The policy.")(call)


@command.command("show")
@click.argument("key", required=False)
@click.option("--limit", help="Only of this limit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_policy
def show(key: str | None, limit: str | None, file: Path, as_json: bool) -> None:
    """Show every key that counts at the moment, or one KEY alone: a login, an address, a network.

    Ends with 1 if there is none.
    """
    _print(sorted(_chosen(file, key, limit), key=lambda row: (row.limit, row.key, row.rate)), as_json=as_json)


@command.command("top")
@click.option("-n", "number", type=click.IntRange(1), default=20, show_default=True, help="How many keys.")
@click.option("--limit", help="Only of this limit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_policy
def top(number: int, limit: str | None, file: Path, as_json: bool) -> None:
    """Show the keys that are nearest to their limits.

    Ends with 1 if there is none.
    """
    rows = sorted(_chosen(file, None, limit), key=lambda row: (-row.share, row.limit, row.key, row.rate))
    _print(rows[:number], as_json=as_json)


@command.command("reset")
@click.argument("key", required=False)
@click.option("--limit", help="Only of this limit.")
@click.option("--all", "everything", is_flag=True, help="All keys of all limits.")
@_policy
def reset(key: str | None, limit: str | None, everything: bool, file: Path) -> None:
    """Forget what was counted for KEY, of one limit or of all.

    Ends with 1 if nothing was.
    """
    if key is None and limit is None and not everything:
        raise click.UsageError("say which KEY, which --limit, or --all")
    policy = _loaded(file)
    try:
        store = _store(policy)
        count = store.forget([row.bucket for row in _rows(policy, store) if _is(row, key, limit)])
    except StoreError as error:
        _fail(error)
    click.echo(f"{count} {'count' if count == 1 else 'counts'} forgotten")
    sys.exit(0 if count else 1)


def _chosen(file: Path, key: str | None, limit: str | None) -> list[_Row]:
    policy = _loaded(file)
    try:
        return [row for row in _rows(policy, _store(policy)) if row.used and _is(row, key, limit)]
    except StoreError as error:
        _fail(error)


def _is(row: _Row, key: str | None, limit: str | None) -> bool:
    return (key is None or row.key == key.casefold()) and (limit is None or row.limit == limit)


def _rows(policy: Policy, store: Store) -> Iterator[_Row]:
    now = int(time.time() * 1000)
    for name, bucket in store.buckets():
        parsed = BucketName.parse(name)
        if parsed is not None:
            rate = _rate(policy, parsed)
            used = current(bucket, Charge(name, 0, parsed.span, 0, ""), now).used
            most, text = (rate.most, str(rate)) if rate else (None, f"no limit now ({parsed.unit})")
            yield _Row(name, parsed.limit, readable_key(parsed.key), text, used, most)


def _rate(policy: Policy, name: BucketName) -> Rate | None:
    """What the policy says of it now."""
    rates = [
        rate
        for limits in policy.limits.values()
        for limit in limits
        if limit.rule.name == name.limit
        for rate in limit.rates_of(name.key)
    ]
    return next((each for each in rates if (each.unit, each.span) == (name.unit, name.span)), None)


def _loaded(file: Path) -> Policy:
    try:
        return load_policy(file)
    except PolicyErrors as error:
        click.echo(str(error), err=True)
        sys.exit(2)


def _store(policy: Policy) -> Store:
    state = policy.server.state
    if state is None:
        raise StoreError("the policy has no server.state: each worker counts alone, where nobody else can look")
    if state.startswith("sqlite:") and not Path(state.removeprefix("sqlite:")).exists():
        raise StoreError(f"{state.removeprefix('sqlite:')}: nothing was counted yet")
    return open_store(state, policy.server.state_password, create=False)


def _fail(error: StoreError) -> NoReturn:
    click.echo(str(error), err=True)
    sys.exit(2)


def _print(rows: list[_Row], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([row.mapping() for row in rows], indent=2))
    else:
        table = [("limit", "used", "of", "key")]
        table += [(row.limit, str(row.used), row.rate, printable_text(row.key)) for row in rows]
        widths = [max(len(line[column]) for line in table) for column in range(3)]
        for limit, used, rate, key in table if rows else ():
            click.echo(f"{limit:{widths[0]}}  {used:>{widths[1]}}  {rate:{widths[2]}}  {key}")
        if not rows:
            click.echo("nothing counts at the moment", err=True)
    sys.exit(0 if rows else 1)
