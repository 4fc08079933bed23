"""`filterd status`: how the daemon goes, on one screen."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from filterd.cli.daemon_socket import answer, which_daemon

_RECENT = 5
_ROWS = 20


@click.command("status")
@which_daemon
@click.option("--json", "as_json", is_flag=True, help="Print all that the daemon says, as JSON.")
@click.option("--shadow", is_flag=True, help="Show what the policy in shadow would have done otherwise.")
def command(policy: Path | None, socket: Path | None, as_json: bool, shadow: bool) -> None:
    """Show the daemon's workers, its policy, the last reload, and what it has counted since it began.

    Ends with 2 where no daemon answers.
    """
    found = answer(policy, socket, "status")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for line in _shadow(found["shadow"]) if shadow else _screen(found):
        click.echo(line)


def _screen(found: dict[str, Any]) -> Iterator[str]:
    state = "stopping" if found["stopping"] else "ready" if found["ready"] else "not ready"
    yield f"filterd   {state}, pid {found['pid']}, for {_span(found['now'] - found['since'])}"
    yield f"policy    {found['policy']}, generation {found['generation']}"
    yield from _reload(found["reload"])
    yield ""
    rows = [(str(each["pid"]), str(each["generation"]), each["state"], _span(each["age"])) for each in found["workers"]]
    yield from _table(("worker", "generation", "state", "age"), rows)
    yield ""
    mails = [(each["verdict"], each["rule"], f"{each['count']:,}") for each in found["mails"]]
    yield from _table(("verdict", "rule", "mails"), mails) if mails else ("no mail was judged yet",)
    if found["envelopes"]:
        yield ""
        asked = [(each["verdict"], each["rule"], f"{each['count']:,}") for each in found["envelopes"]]
        yield from _table(("policy service", "rule", "mails"), asked)
    if found["signed"] or found["unsigned"]:
        yield ""
        unsigned = [("not signed", each["reason"], f"{each['count']:,}") for each in found["unsigned"]]
        yield from _table(("from us", "reason", "mails"), [("signed", "-", f"{found['signed']:,}"), *unsigned])
    if found["faults"]["count"]:
        yield ""
        yield f"faults    {found['faults']['count']:,} of filterd's own; the latest:"
        for each in found["faults"]["latest"][-_RECENT:]:
            yield f"  {_moment(each['at'])}  {_printable(each['text'])}"


def _shadow(shadow: dict[str, Any]) -> Iterator[str]:
    if shadow["file"] is None:
        yield "no policy is in shadow (shadow: FILE)"
        return
    yield f"{shadow['file']}: {'policy ' + shadow['policy'] if shadow['policy'] else 'cannot be used'}"
    for error in shadow["errors"]:
        yield f"  {_printable(error)}"
    total = sum(each["count"] for each in shadow["mails"])
    same = sum(each["count"] for each in shadow["mails"] if each["divergence"] == "same")
    yield f"{total:,} mails judged, {same:,} as by the policy in force"
    keys = ("live_verdict", "live_rule", "verdict", "rule")
    others = [each for each in shadow["mails"] if each["divergence"] != "same"]
    rows = [(each["divergence"], *(each[key] for key in keys), f"{each['count']:,}") for each in others]
    if rows:
        yield ""
        yield from _table(("differs in", "is", "by", "would be", "by", "mails"), rows)


def _reload(reload: dict[str, Any] | None) -> Iterator[str]:
    if reload is None:
        return
    yield f"reload    {reload['outcome']}, {_moment(reload['at'])}"
    for text in [*reload["errors"], *(f"warning: {each}" for each in reload["warnings"])]:
        yield f"  {_printable(text)}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    shown = [head, *rows[:_ROWS]]
    widths = [max(len(row[column]) for row in shown) for column in range(len(head))]
    for row in shown:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
    if len(rows) > _ROWS:
        yield f"and {len(rows) - _ROWS} more; --json has all"


def _span(seconds: float) -> str:
    whole = int(seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= 2 * length:
            return f"{whole // length} {unit}"
    return f"{whole} s"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
