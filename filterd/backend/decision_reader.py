"""What the store of decisions has: found by queue id, session, time or envelope, while others write."""

import json
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filterd.backend.decisions import FORMAT
from filterd.policy.transcript import Transcript
from filterd.policy.transcript_read import TranscriptError, from_mapping

_MAX_RECORD = 64 * 1024 * 1024
_COLUMNS = "id, at, queue_id, session, verdict, rule, client, sender, recipients"


class DecisionsError(Exception):
    """The store cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """One decision in a list. `at` is in seconds since 1970."""

    id: int
    at: float
    queue_id: str | None
    session: str
    verdict: str
    rule: str | None
    client: str | None
    sender: str | None
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for; None is anything. Addresses may be parts of one, such as `@example.org`."""

    since: float | None = None
    sender: str | None = None
    recipient: str | None = None
    client: str | None = None


def _row(row: tuple[Any, ...]) -> Found:
    id_, at, queue_id, session, verdict, rule, client, sender, recipients = row
    named = tuple(recipients.split("\n")) if recipients else ()
    return Found(id_, at, queue_id, session, verdict, rule, client, sender, named)


class DecisionReader:
    """The store, read only. Raises DecisionsError wherever it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise DecisionsError(f"there is no file {path}")
        with self._reading():
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version != FORMAT:
            raise DecisionsError(f"{path} is no store of decisions that this filterd reads")

    def close(self) -> None:
        self._connection.close()

    def named(self, name: str) -> tuple[Found, ...]:
        """The mails with this queue id or session, the newest first; at most 100."""
        return self._found("queue_id = ? OR session = ?", (name, name), 100)

    def search(self, wanted: Wanted, limit: int) -> tuple[Found, ...]:
        """The newest mails that fit, newest first."""
        conditions, values = ["1"], []
        for text, value in (
            ("at >= ?", wanted.since),
            ("client = ?", wanted.client),
            ("instr(sender, ?)", wanted.sender and wanted.sender.lower()),
            ("instr(recipients, ?)", wanted.recipient and wanted.recipient.lower()),
        ):
            if value is not None:
                conditions.append(text)
                values.append(value)
        return self._found(" AND ".join(conditions), tuple(values), limit)

    def transcript(self, found: Found) -> Transcript:
        """The whole record."""
        query = (
            "SELECT record, text FROM decision JOIN dictionary ON dictionary.id = decision.dictionary "
            "WHERE decision.id = ?"
        )
        with self._reading():
            row = self._connection.execute(query, (found.id,)).fetchone()
        if row is None:
            raise DecisionsError(f"{found.session}: the record has just been removed")
        try:
            text = zlib.decompressobj(zdict=row[1]).decompress(row[0], _MAX_RECORD)
            return from_mapping(json.loads(text))
        except (zlib.error, TypeError, ValueError, RecursionError, TranscriptError) as error:
            raise DecisionsError(f"{self._path}: the record of {found.session} is broken: {error}") from None

    def _found(self, condition: str, values: tuple[object, ...], limit: int) -> tuple[Found, ...]:
        query = f"SELECT {_COLUMNS} FROM decision WHERE {condition} ORDER BY at DESC, id DESC LIMIT ?"  # noqa: S608 # all of it is ours
        with self._reading(), closing(self._connection.execute(query, (*values, limit))) as rows:
            return tuple(_row(row) for row in rows)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise DecisionsError(f"{self._path}: {error}") from None
