"""What `filterd explain` says of mails that were judged before, from the store of decisions."""

import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from filterd.backend.decision_reader import DecisionReader, DecisionsError, Found, Wanted
from filterd.cli.misuse import MisuseError
from filterd.policy.explain import printable_text
from filterd.policy.rules import Policy
from filterd.policy.transcript import Transcript

_SPAN = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Ago(click.ParamType[float]):
    """How long ago, as `30m`, `2h` or `7d`: seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = _SPAN.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no time; 30m, 2h or 7d would be one", param, ctx)
        return float(int(found[1]) * _UNITS[found[2]])


def open_store(store: Path | None, policy: Policy | None) -> DecisionReader:
    """The store that is named, or else the policy's. Raises MisuseError."""
    if store is None:
        settings = policy.settings.decisions if policy else None
        if settings is None:
            where = "the policy keeps none (`decisions`)" if policy else "say --store FILE, or -p POLICY"
            raise MisuseError(f"there is no store of decisions to look in: {where}")
        store = Path(settings.file)
    try:
        return DecisionReader(store)
    except DecisionsError as error:
        raise MisuseError(str(error)) from None


def stored(reader: DecisionReader, name: str) -> Transcript:
    """The newest mail with this queue id or session; tells of others. Raises MisuseError."""
    try:
        found = reader.named(name)
        if not found:
            raise MisuseError(
                f"no mail has the queue id or session {name!r}, and no file that name; "
                "`filterd explain` alone lists the last mails"
            )
        if len(found) > 1:
            others = ", ".join(f"{each.session} ({_when(each)})" for each in found[1:6])
            click.echo(f"{len(found)} mails bear {name}: this is the newest; the others are {others}", err=True)
        return reader.transcript(found[0])
    except DecisionsError as error:
        raise MisuseError(str(error)) from None


def list_stored(reader: DecisionReader, wanted: Wanted, ago: float | None, limit: int) -> None:
    """Print a line for each of the newest mails that fit."""
    since = time.time() - ago if ago is not None else None
    try:
        found = reader.search(Wanted(since, wanted.sender, wanted.recipient, wanted.client), limit)
    except DecisionsError as error:
        raise MisuseError(str(error)) from None
    if not found:
        click.echo("no mail fits", err=True)
        sys.exit(1)
    rows = [("when (UTC)", "queue id", "session", "verdict", "rule", "client", "from", "to"), *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    for row in rows:
        click.echo("  ".join([*(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[7]]).rstrip())


def _row(found: Found) -> tuple[str, ...]:
    more = f" +{len(found.recipients) - 1}" if len(found.recipients) > 1 else ""
    to = f"<{found.recipients[0]}>{more}" if found.recipients else "-"
    sender = f"<{found.sender}>" if found.sender is not None else "-"
    cells = (found.queue_id or "-", found.session, found.verdict, found.rule or "-", found.client or "-", sender, to)
    return (_when(found), *map(printable_text, cells))


def _when(found: Found) -> str:
    return datetime.fromtimestamp(found.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
