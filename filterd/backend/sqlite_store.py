"""State in one SQLite file, which all workers of a machine share.

A charge is one transaction. It survives the death of any process; a crash of the machine may forget the last moments,
and never breaks the file (WAL, synchronous=NORMAL). A full disk or a broken file is a StoreError, as is a lock that
nobody lets go of in time, and, once, a file that was deleted or replaced. A row that cannot be read counts as none, and
is written over.
"""

import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filterd.limits import greylist, window
from filterd.limits.greylist import MOST, Answer, Attempt, Record
from filterd.limits.state import StoreError
from filterd.limits.window import Bucket, Charge, Ending, Held, Standing

#: How long, in seconds, a charge may wait for those of others.
DEADLINE = 3.0
# How many charges come between two looks for what has run out, and how much of it is dropped at once.
_LOOK_AFTER, _DROPPED = 1000, 2000
_TABLE = """\
CREATE TABLE IF NOT EXISTS bucket (name TEXT PRIMARY KEY, state TEXT NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS bucket_until ON bucket (until);
CREATE TABLE IF NOT EXISTS greylist (
  name TEXT PRIMARY KEY, since INTEGER NOT NULL, until INTEGER NOT NULL, delivered INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS greylist_waits ON greylist (until, delivered) WHERE delivered = 0;
CREATE INDEX IF NOT EXISTS greylist_known ON greylist (until, delivered) WHERE delivered > 0;
"""
_SOONEST = "DELETE FROM {0} WHERE name IN (SELECT name FROM {0} WHERE {1} AND until <= ? ORDER BY until LIMIT ?)"
_COUNT = "SELECT count(*) FROM greylist WHERE {0}"
# As the indexes have them. Those hold all that counting a million asks for: 20 ms, not 4 s with the file locked.
_KINDS = ("delivered = 0", "delivered > 0")

# Later than any time; SQLite's integers have 64 bits.
_NEVER = 2**63 - 1

T = TypeVar("T")


class SqliteStore:
    """The store in the file at `path`, which is made unless `create` is False. The file is opened when it is needed,
    and again after a fault."""

    def __init__(self, path: Path, deadline: float = DEADLINE, *, create: bool = True, most: int = MOST) -> None:
        self._path = path
        self._deadline = deadline
        self._create = create
        self._most = most
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._log = Path(f"{path}-wal")
        self._opened: tuple[int, int] | None = None
        self._opened_log: tuple[int, int] | None = None
        self._charged = self._tried = 0

    def reserve(self, charges: Sequence[Charge], now: int) -> tuple[Standing, ...]:
        def reserved(connection: sqlite3.Connection) -> tuple[Standing, ...]:
            before = _read(connection, charges)
            buckets = {name: _decoded(state) for name, state in before.items()}
            standings = window.reserve(buckets, charges, now)
            _write(connection, charges, buckets, before)
            self._charged += 1
            if self._charged % _LOOK_AFTER == 0:
                connection.execute(_SOONEST.format("bucket", "true"), (now, _DROPPED))
            return standings

        return self._transaction(reserved)

    def settle(self, charges: Sequence[Charge], ending: Ending, now: int) -> None:
        def settled(connection: sqlite3.Connection) -> None:
            before = _read(connection, charges)
            buckets = {name: _decoded(state) for name, state in before.items()}
            window.settle(buckets, charges, ending)
            _write(connection, charges, buckets, before)

        self._transaction(settled)

    def buckets(self) -> Iterator[tuple[str, Bucket]]:
        rows = self._transaction(lambda connection: connection.execute("SELECT name, state FROM bucket").fetchall())
        for name, state in rows:
            yield name, _decoded(state)

    def forget(self, names: Sequence[str]) -> int:
        def forgotten(connection: sqlite3.Connection) -> int:
            return sum(connection.execute("DELETE FROM bucket WHERE name = ?", (name,)).rowcount for name in names)

        return self._transaction(forgotten)

    def attempt(self, asked: Attempt, now: int) -> Answer:
        def tried(connection: sqlite3.Connection) -> Answer:
            answer = _kept(connection, asked.names, lambda records: greylist.attempt(records, asked, now))
            self._tried += 1
            if self._tried % _LOOK_AFTER == 0:
                for kind in _KINDS:
                    soonest = _SOONEST.format("greylist", kind)
                    connection.execute(soonest, (now, _DROPPED))
                    [[count]] = connection.execute(_COUNT.format(kind)).fetchall()
                    connection.execute(soonest, (_NEVER, max(0, count - self._most)))
            return answer

        return self._transaction(tried)

    def delivered(self, attempts: Sequence[Attempt], now: int, *, proven: bool) -> None:
        names = tuple(dict.fromkeys(name for each in attempts for name in each.names))
        self._transaction(
            lambda connection: _kept(
                connection, names, lambda records: greylist.delivered(records, attempts, now, proven=proven)
            )
        )

    def close(self) -> None:
        with self._lock:
            self._drop_connection()

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do all of it or nothing, with nobody in between."""
        if not self._lock.acquire(timeout=self._deadline):
            raise StoreError(f"{self._path}: other threads have waited {self._deadline:g} s for it")
        try:
            connection = self._connection = self._connection or self._open()
            connection.execute("BEGIN IMMEDIATE")
            self._check_place()
            done = work(connection)
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._drop_connection()
            raise StoreError(f"{self._path}: {error}") from None
        except BaseException:
            self._drop_connection()
            raise
        finally:
            self._lock.release()
        return done

    def _open(self) -> sqlite3.Connection:
        if self._create:
            self._make()
        self._opened = _place(self._path)
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",
            timeout=self._deadline,
            isolation_level=None,
            check_same_thread=False,
            uri=True,
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(_TABLE)
            self._opened_log = _place(self._log)
        except (sqlite3.Error, OSError):
            connection.close()
            raise
        return connection

    def _make(self) -> None:
        with _locked(self._path.absolute().parent):
            if not self._path.exists():
                self._unlink_log()
            # The addresses in it are nobody else's business; SQLite's other files get the same mode.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _check_place(self) -> None:
        """Raises OSError where the open file is no longer the one at the path. Its log is none of the next one's:
        SQLite would write the one into the other."""
        if _place(self._path) == self._opened:
            return
        with _locked(self._path.absolute().parent):
            # It is open here, so that nobody else's can have its number.
            if _place(self._log) == self._opened_log:
                self._unlink_log()
        raise OSError("it was deleted or replaced, and is opened anew")

    def _unlink_log(self) -> None:
        for file in (self._log, Path(f"{self._path}-shm")):
            file.unlink(missing_ok=True)

    def _drop_connection(self) -> None:
        """What was begun is undone; a file that was replaced is found anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _place(file: Path) -> tuple[int, int] | None:
    """Which file is at a path now: its device and number."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Whoever makes or removes files there does so alone."""
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _read(connection: sqlite3.Connection, charges: Sequence[Charge]) -> dict[str, str]:
    states = {}
    for charge in charges:
        row = connection.execute("SELECT state FROM bucket WHERE name = ?", (charge.bucket,)).fetchone()
        if row is not None:
            states[charge.bucket] = row[0]
    return states


def _write(
    connection: sqlite3.Connection, charges: Sequence[Charge], buckets: dict[str, Bucket], before: dict[str, str]
) -> None:
    for charge in charges:
        bucket = buckets.get(charge.bucket)
        state = _encoded(bucket) if bucket is not None else None
        if bucket is not None and state != before.get(charge.bucket):
            row = (charge.bucket, state, bucket.until(charge.width))
            connection.execute("INSERT OR REPLACE INTO bucket VALUES (?, ?, ?)", row)


def _kept(connection: sqlite3.Connection, names: Sequence[str], do: Callable[[dict[str, Record]], T]) -> T:
    """Do something to the records of these names."""
    before: dict[str, Record] = {}
    for name in names:
        query = connection.execute("SELECT since, until, delivered FROM greylist WHERE name = ?", (name,))
        # Who stores text or a fraction here is somebody else.
        if (row := query.fetchone()) is not None and all(isinstance(each, int) for each in row):
            before[name] = Record(*row)
    records = dict(before)
    done = do(records)
    for name, each in records.items():
        if each != before.get(name):
            row = (name, each.since, each.until, each.delivered)
            connection.execute("INSERT OR REPLACE INTO greylist VALUES (?, ?, ?, ?)", row)
    return done


def _encoded(bucket: Bucket) -> str:
    held = {member: (each.at, each.cost, int(each.kept)) for member, each in bucket.held.items()}
    return json.dumps((bucket.counts, held), separators=(",", ":"))


def _decoded(state: str) -> Bucket:
    """An empty one where somebody else wrote it."""
    try:
        counts, held = json.loads(state)
        return Bucket(
            {int(slot): int(count) for slot, count in counts.items()},
            {member: Held(int(at), int(cost), bool(kept)) for member, (at, cost, kept) in held.items()},
        )
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return Bucket()
