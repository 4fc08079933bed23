"""The store of decisions: transcripts in one SQLite file, written behind the mail's path.

Nothing here delays or loses a mail: what cannot be kept (the disk is full, the file is broken, mail comes faster than
it can be written) is dropped, counted and told of once an hour. Several processes write, others read meanwhile (WAL).
"""

import json
import sqlite3
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from filterd.backend.decision_words import DICTIONARY
from filterd.policy.explain import DECIDED
from filterd.policy.schema import Decisions
from filterd.policy.transcript import Transcript
from filterd.policy.transcript_personal import impersonal

FORMAT = 1
_MAX_WAITING = 2_000  # transcripts
_MAX_WAITING_OCTETS = 64 * 1024 * 1024  # of mails that are kept with them
_BATCH = 500
_PAUSE = 0.25  # seconds in which what comes is written together
_BUSY = 10.0  # seconds to wait for other writers
_HOUR = 3600.0
_PRUNED = 1_000  # rows that are deleted at once
_PRUNED_PART = 50  # of all rows one in so many goes at once where the file is too large
_PRUNES = 20  # times that a transaction looks whether the file is small enough
_MAX_NAMED = 100  # recipients that a mail is found by

_SCHEMA = """
CREATE TABLE IF NOT EXISTS dictionary (id INTEGER PRIMARY KEY, text BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS decision (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, queue_id TEXT, session TEXT NOT NULL, verdict TEXT NOT NULL, rule TEXT,
    client TEXT, sender TEXT, recipients TEXT NOT NULL, dictionary INTEGER NOT NULL, record BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS decision_at ON decision (at);
CREATE INDEX IF NOT EXISTS decision_queue_id ON decision (queue_id) WHERE queue_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS decision_session ON decision (session);
"""

#: Told of what was not kept: why, and how many decisions since the last time.
Warn = Callable[[str, int], None]


class DecisionWriter:
    """One process's way into the store. Its thread begins at once: make it after the fork."""

    def __init__(self, settings: Decisions, warn: Warn) -> None:
        self._settings = settings
        self._path = Path(settings.file)
        self._warn = warn
        self._warned = -_HOUR
        self._untold = 0
        self._waiting: deque[Transcript] = deque()
        self._octets = 0
        self._wake = threading.Condition()
        self._closing = False
        self._connection: sqlite3.Connection | None = None
        self._dictionary = 0
        self._pruned = 0.0
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)
        self._thread.start()

    def put(self, transcript: Transcript) -> None:
        """Keep a transcript, soon; never waits."""
        octets = _octets(transcript)
        with self._wake:
            if len(self._waiting) >= _MAX_WAITING or self._octets + octets > _MAX_WAITING_OCTETS:
                self._untold += 1
                return
            self._waiting.append(transcript)
            self._octets += octets
            self._wake.notify()

    def close(self, patience: float = 5.0) -> None:
        """Write what waits, for as long as that may take, in seconds."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(patience)

    def _run(self) -> None:
        # What stands in the way is told at the start, not with the first mail.
        self._guarded(self._opened)
        while batch := self._batch():
            if not self._guarded(partial(self._write, batch)):
                with self._wake:
                    self._untold += len(batch)
            if self._untold and time.monotonic() - self._warned >= _HOUR:
                self._tell("they come faster than they can be written")
        if self._untold:
            self._tell("filterd ends")
        if self._connection is not None:
            self._connection.close()

    def _batch(self) -> list[Transcript]:
        """The next transcripts; none where all is done."""
        with self._wake:
            while not self._waiting and not self._closing:
                self._wake.wait()
            if not self._closing:
                # Whatever else comes now is written with it: one transaction costs as much as fifty rows.
                self._wake.wait_for(lambda: self._closing or len(self._waiting) >= _BATCH, _PAUSE)
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            self._octets -= sum(map(_octets, batch))
            return batch

    def _guarded(self, work: Callable[[], object]) -> bool:
        try:
            work()
            return True
        except Exception as error:  # noqa: BLE001 # a store that fails must not take the thread with it
            if self._connection is not None:
                with suppress(sqlite3.Error):
                    self._connection.close()
                self._connection = None
            if time.monotonic() - self._warned >= _HOUR:
                self._tell(_advice(self._path, error))
            return False

    def _tell(self, why: str) -> None:
        with self._wake:
            dropped, self._untold = self._untold, 0
        self._warned = time.monotonic()
        self._warn(why, dropped)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        # Nobody else needs to read whom people write to.
        self._path.touch(0o600)
        connection = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {4 * 2**20}")
            connection.execute("BEGIN IMMEDIATE")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, FORMAT):
                raise sqlite3.DatabaseError(f"the file has the format {version}, this filterd writes {FORMAT}")
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute("INSERT OR IGNORE INTO dictionary (text) VALUES (?)", (DICTIONARY,))
            found = connection.execute("SELECT id FROM dictionary WHERE text = ?", (DICTIONARY,)).fetchone()
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        self._connection, self._dictionary = connection, found[0]
        return connection

    def _write(self, batch: list[Transcript]) -> None:
        rows = [self._row(each if self._settings.personal else impersonal(each)) for each in batch]
        connection = self._opened()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO decision (at, queue_id, session, verdict, rule, client, sender, recipients, dictionary, "
            "record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        self._prune(connection)
        connection.execute("COMMIT")

    def _row(self, transcript: Transcript) -> tuple[object, ...]:
        transaction, verdict = transcript.transaction, transcript.verdict
        refused = [recipient for _, recipient in transcript.refused_recipients()]
        recipients = [*(each.text for each in transaction.recipients), *refused][:_MAX_NAMED]
        return (
            transcript.at,
            _plain(transaction.queue_id) if transaction.queue_id is not None else None,
            transaction.id,
            DECIDED[verdict.disposition],
            verdict.rule,
            str(transaction.client.ip) if transaction.client.ip else None,
            _plain(transaction.sender.text).lower() if transaction.sender else None,
            "\n".join(_plain(each).lower() for each in recipients),
            self._dictionary,
            pack(transcript),
        )

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Old ones go once a minute, a bounded number at a time; the oldest at once where the file is too large."""
        if time.monotonic() - self._pruned >= 60:
            self._pruned = time.monotonic()
            old = time.time() - self._settings.max_age
            connection.execute(
                "DELETE FROM decision WHERE id IN (SELECT id FROM decision WHERE at < ? LIMIT ?)", (old, _PRUNED)
            )
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        for _ in range(_PRUNES):
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            # What is deleted leaves room for what comes: the file itself does not shrink.
            if (pages - free) * size <= self._settings.max_size:
                return
            oldest, newest = connection.execute("SELECT min(id), max(id) FROM decision").fetchone()
            if oldest is None or oldest == newest:
                return
            connection.execute("DELETE FROM decision WHERE id <= ?", (oldest + (newest - oldest) // _PRUNED_PART,))


def pack(transcript: Transcript) -> bytes:
    """A transcript as it is stored."""
    compress = zlib.compressobj(3, zdict=DICTIONARY)
    text = json.dumps(transcript.to_mapping(), separators=(",", ":"))
    return compress.compress(text.encode("ascii")) + compress.flush()


def _plain(text: str) -> str:
    # SQLite takes no lone surrogates, which stand for octets that are no UTF-8.
    return text.encode("utf-8", "replace").decode()


def _octets(transcript: Transcript) -> int:
    content = transcript.content
    if content is None:
        return 0
    return sum(len(each.name) + len(each.value) for each in content.header) + len(content.body or b"")


def _advice(path: Path, error: Exception) -> str:
    """What stands in the way, and what to do."""
    if isinstance(error, FileNotFoundError):
        return f"there is no folder {path.parent}; make it, writable for the user that filterd runs as"
    if isinstance(error, PermissionError):
        return f"{path} cannot be written; it and its folder have to belong to the user that filterd runs as"
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return f"{path}: {error}; move it away, and filterd makes a new one"
    return f"{path}: {error}"
