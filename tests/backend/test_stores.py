"""One protocol, one answer: every store against the pure window, on real servers."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from servers import redis
from servers.milter_process import eventually, python_environment

from filterd.backend.guarded_store import GuardedStore
from filterd.backend.memory_store import MemoryStore
from filterd.backend.open_store import _client, open_store
from filterd.backend.redis_store import RedisStore
from filterd.backend.sqlite_store import _COUNT, _KINDS, _TABLE, SqliteStore
from filterd.limits import greylist, window
from filterd.limits.greylist import Attempt, Record, Terms, Welcome
from filterd.limits.state import Store, StoreError
from filterd.limits.window import Bucket, Charge, Ending, Recorded, Standing

HOUR = 3_600_000
T0 = 1_800_000_000_000
KINDS = ("memory", "sqlite", "redis", "unix", "sentinel", "cluster")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Store]]:
    """Makes an empty store of a kind whose time is the caller's; servers run from when they are first asked for."""
    with ExitStack() as stack:
        urls: dict[str, str] = {}

        def url(kind: str) -> str:
            if kind not in urls:
                if kind == "sentinel":
                    urls[kind] = f"redis+sentinel://{stack.enter_context(redis.watched('state'))}/state"
                elif kind == "cluster":
                    urls[kind] = f"redis+cluster://{stack.enter_context(redis.cluster())}"
                else:
                    server = stack.enter_context(redis.running())
                    urls["redis"], urls["unix"] = f"redis://127.0.0.1:{server.port}/1", f"unix://{server.socket}"
            return urls[kind]

        def make(kind: str) -> Store:
            if kind == "memory":
                return MemoryStore()
            if kind == "sqlite":
                return SqliteStore(tmp_path_factory.mktemp("state") / "state.db")
            connect = _client(url(kind), None)
            connect().delete("{filterd}:greylist", "{filterd}:greylist:waits", "{filterd}:greylist:known")
            store = RedisStore(connect, own_time=False)
            store.forget([name for name, _ in store.buckets()])
            return store

        yield make


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, servers: Callable[[str], Store]) -> Iterator[Store]:
    made = servers(request.param)
    yield made
    made.close()


def charge(bucket: str, cost: int = 1, member: str = "m", most: int = 5) -> Charge:
    return Charge(bucket, most, HOUR, cost, member)


class Model:
    """The pure window, kept as a store keeps it."""

    def __init__(self) -> None:
        self.state: dict[str, Bucket] = {}

    def reserve(self, charges: list[Charge], now: int) -> tuple[Standing, ...]:
        copies = {name: Bucket(dict(each.counts), dict(each.held)) for name, each in self.state.items()}
        standings = window.reserve(copies, charges, now)
        for each in charges:
            self.state[each.bucket] = copies[each.bucket]
        return standings

    def settle(self, charges: list[Charge], ending: Ending) -> None:
        window.settle(self.state, charges, ending)


CHARGES = st.builds(
    Charge,
    bucket=st.just(""),
    most=st.integers(0, 6),
    span=st.sampled_from([1000, 61_234, HOUR]),
    cost=st.integers(1, 4),
    member=st.sampled_from(["m1", "m2", "m3"]),
    kept=st.booleans(),
    binding=st.booleans(),
    recorded=st.sampled_from(Recorded),
    held_for=st.sampled_from([5000, HOUR]),
)
STEPS = st.lists(
    st.tuples(
        st.lists(CHARGES, min_size=1, max_size=3),
        st.one_of(st.integers(0, 2000), st.integers(-HOUR, HOUR), st.just(30 * HOUR)),
        st.one_of(st.none(), st.sampled_from(Ending)),
    ),
    max_size=12,
)


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
@settings(max_examples=60)
@given(steps=STEPS)
def test_every_store_is_the_window(
    servers: Callable[[str], Store], kind: str, steps: list[tuple[list[Charge], int, Ending | None]]
) -> None:
    """Whatever is charged, however the clock jumps, and however mails end."""
    store, model, now = servers(kind), Model(), T0
    for charges, pause, ending in steps:
        now += pause
        # As in a policy, a bucket has one span.
        named = [
            Charge(f"b{number}/{each.span}", *(getattr(each, name) for name in list(Charge.__slots__)[1:]))
            for number, each in enumerate(charges)
        ]
        assert store.reserve(named, now) == model.reserve(named, now)
        if ending is not None:
            store.settle(named, ending, now)
            model.settle(named, ending)
    peek = Charge("", 0, HOUR, 0, "-", binding=False, recorded=Recorded.NEVER)
    for name, bucket in store.buckets():
        span = int(name.partition("/")[2])
        asked = Charge(name, peek.most, span, 0, "-", binding=False, recorded=Recorded.NEVER)
        assert window.current(bucket, asked, now) == window.current(model.state[name], asked, now)
    store.close()


def test_all_or_nothing_over_many_keys(store: Store) -> None:
    """Also where a Cluster would have spread them."""
    names = [f"limit{number} messages/3600000 anna@example.org" for number in range(8)]
    store.reserve([charge(names[3], 5, "earlier")], T0)

    refused = store.reserve([charge(name) for name in names], T0)
    others = store.reserve([charge(name) for name in names if name != names[3]], T0)

    assert [each.fits for each in refused] == [True] * 3 + [False] + [True] * 4
    assert [each.used for each in refused] == [0] * 3 + [5] + [0] * 4
    assert [each.used for each in others] == [1] * 7
    store.settle([charge(name) for name in names], Ending.REFUND, T0)
    assert {name: bucket.used for name, bucket in store.buckets() if bucket.used} == {names[3]: 5}


def test_what_is_shown_and_forgotten(store: Store) -> None:
    store.reserve([charge("one", 2), charge("two", 3)], T0)
    store.settle([charge("one", 2)], Ending.COUNT, T0)

    assert {name: bucket.used for name, bucket in store.buckets()} == {"one": 2, "two": 3}
    assert store.forget(["one", "none"]) == 1
    assert [name for name, _ in store.buckets()] == ["two"]


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
def test_exactly_as_many_as_there_is_room_for_by_many_threads(servers: Callable[[str], Store], kind: str) -> None:
    store = servers(kind)
    fits: list[bool] = []

    def many(thread: int) -> None:
        for number in range(50):
            [standing] = store.reserve([charge("b", 1, f"{thread}.{number}", most=100)], T0)
            fits.append(standing.fits)

    threads = [threading.Thread(target=many, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(fits), sum(fits)) == (400, 100)
    store.close()


def test_what_has_run_out_is_cleared_away(servers: Callable[[str], Store]) -> None:
    for kind in ("memory", "sqlite"):
        store = servers(kind)
        for number in range(1001):
            store.reserve([charge(f"b{number}")], T0 + (0 if number < 900 else 3 * HOUR))
        assert len(list(store.buckets())) <= 102
        store.close()


_DYING = """\
import os, signal, sys
from pathlib import Path
from filterd.backend.sqlite_store import SqliteStore
from filterd.limits.window import Charge
store = SqliteStore(Path(sys.argv[1]))
store.reserve([Charge("b", 5, 86400000, 5, "dead")], int(sys.argv[2]))
store._connection.execute("BEGIN IMMEDIATE")
store._connection.execute("DELETE FROM bucket")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_killed_in_the_middle_leaves_a_sound_file_and_what_it_held_lapses(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    subprocess.run([sys.executable, "-c", _DYING, path, str(T0)], env=python_environment(), check=False)
    store = SqliteStore(path)
    day = Charge("b", 5, 24 * HOUR, 1, "next")

    assert store.reserve([day], T0 + 1)[0].fits is False
    assert store.reserve([day], T0 + window.HELD_FOR)[0].fits is True


def test_a_full_disk_is_a_fault_and_is_over_when_there_is_room(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")
    store.reserve([charge("b")], T0)
    assert store._connection is not None
    # As a disk that is full: SQLite reports the same.
    [[pages]] = store._connection.execute("PRAGMA page_count").fetchall()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(StoreError, match="full"):
        store.reserve([charge(f"{number} {'x' * 200}") for number in range(1000)], T0)

    assert store.reserve([charge("b", 2)], T0) == (Standing(True, 2),)


@pytest.mark.parametrize("what", ["no folder", "no database", "a lock that is never let go"])
def test_a_file_that_cannot_be_used(tmp_path: Path, what: str) -> None:
    path = tmp_path / ("none/state.db" if what == "no folder" else "state.db")
    store = SqliteStore(path, deadline=0.05)
    locked = None
    if what == "no database":
        path.write_text("no database\n" * 1000)
    elif what == "a lock that is never let go":
        store.reserve([charge("b")], T0)
        locked = sqlite3.connect(path)
        locked.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreError, match=r"state\.db"):
        store.reserve([charge("b")], T0)

    if locked is not None:
        locked.close()
        assert store.reserve([charge("b")], T0)[0].fits


@pytest.mark.parametrize(
    "state", ["", "[1,2]", '[{"1":Infinity},{}]', '[{},{"m":[NaN,1,1]}]', "[" * 50_000, '[{"1":null},{}]']
)
def test_what_somebody_else_wrote_into_the_file_counts_nothing_and_is_written_over(tmp_path: Path, state: str) -> None:
    store = SqliteStore(tmp_path / "state.db")
    store.reserve([charge("one", 2)], 0)
    store.attempt(attempt(), 0)
    with closing(sqlite3.connect(tmp_path / "state.db")) as other:
        other.execute("UPDATE bucket SET state = ?", (state,))
        other.execute("UPDATE greylist SET since = 9e999, until = 'x'")
        other.commit()

    assert list(store.buckets()) == [("one", Bucket())]
    assert store.reserve([charge("one")], 0) == (Standing(True, 1),)
    assert [bucket.used for _, bucket in store.buckets()] == [1]
    assert [store.attempt(attempt(), at).welcome for at in (0, 1)] == [Welcome.FIRST, Welcome.EARLY]
    store.close()


def test_what_somebody_else_wrote_into_redis_counts_nothing_and_is_written_over(
    servers: Callable[[str], Store],
) -> None:
    store = servers("redis")
    assert isinstance(store, RedisStore)
    client = store._connect()
    client.hset("{filterd}:bucket:fields", mapping={"c": "x", "cx": "1", "c7": "y", "h": "1", "hm": "a b c", "z": "3"})
    client.set("{filterd}:bucket:text", "no hash")

    assert dict(store.buckets()) == {"fields": Bucket(), "text": Bucket()}
    for name in ("fields", "text"):
        assert store.reserve([charge(name)], T0) == (Standing(True, 1),)
        store.settle([charge(name)], Ending.COUNT, T0)
    assert [bucket.used for _, bucket in store.buckets()] == [1, 1]


@pytest.mark.parametrize("rest", [True, False], ids=["with its log", "alone"])
@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_a_file_that_is_taken_away_is_a_fault_once_and_then_a_new_one(
    tmp_path: Path, replaced: bool, rest: bool
) -> None:
    """As by a postmaster who wants to begin anew, or puts back a copy: two workers go on with one file."""
    path, copy = tmp_path / "state.db", tmp_path / "copy.db"
    one, two = SqliteStore(path), SqliteStore(path)
    for store in (one, two):
        store.reserve([charge("b", 2, str(id(store)))], T0)
    with closing(SqliteStore(copy)) as other:
        other.reserve([charge("b", 3)], T0)
    for file in (path, *((Path(f"{path}-wal"), Path(f"{path}-shm")) if rest else ())):
        file.unlink()
    if replaced:
        copy.rename(path)

    for store in (one, two):
        with pytest.raises(StoreError, match="deleted or replaced"):
            store.reserve([charge("b")], T0)
    before = 3 if replaced else 0
    used = [store.reserve([charge("b", 1, str(id(store)))], T0)[0].used for store in (one, two)]

    assert used == [before + 1, before + 2]


def test_the_file_is_its_owners(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")
    store.reserve([charge("b")], T0)

    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}


def test_redis_goes_by_its_own_clock(servers: Callable[[str], Store]) -> None:
    """A machine whose clock is wrong counts with all others."""
    servers("redis").close()
    server = servers("redis")
    assert isinstance(server, RedisStore)
    store = RedisStore(server._connect)

    assert store.reserve([charge("b", 5, "one")], 0)[0].fits
    assert not store.reserve([charge("b", 5, "two")], T0 * 2)[0].fits


def test_a_store_that_was_away_is_back_without_a_restart() -> None:
    with redis.running() as server:
        told: list[str | None] = []
        now = [0.0]
        store = GuardedStore(open_store(f"redis://127.0.0.1:{server.port}"), told.append, lambda: now[0])
        assert store.reserve([charge("b")], T0)[0].fits
        server.stop()
        for _ in range(3):
            with pytest.raises(StoreError):
                store.reserve([charge("b")], T0)
            now[0] += 10
        server.start()
        now[0] -= 9.5
        with pytest.raises(StoreError):
            store.reserve([charge("b")], T0)  # not tried again so soon
        now[0] += 60

        assert store.reserve([charge("b")], T0)[0].fits
        assert [each is None for each in told] == [False, True]


def test_while_one_tries_a_store_that_is_away_nobody_else_waits() -> None:
    class Slow(MemoryStore):
        def reserve(self, charges: object, now: int) -> tuple[Standing, ...]:
            calls.append(threading.get_ident())
            answering.wait(30)
            raise StoreError("too slow")

    calls: list[int] = []
    answering = threading.Event()
    answering.set()
    now = [0.0]
    store = GuardedStore(Slow(), lambda _: None, lambda: now[0])
    with pytest.raises(StoreError):
        store.reserve([], T0)
    answering.clear()
    now[0] = 5.0

    def ask() -> None:
        with pytest.raises(StoreError):
            store.reserve([], T0)

    one = threading.Thread(target=ask)
    one.start()
    eventually(lambda: len(calls) == 2)
    ask()  # does not wait for the one that tries
    answering.set()
    one.join()

    assert len(calls) == 2


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://db.example", "sqlite:/PATH or redis://"),
        ("sqlite:relative.db", "sqlite:/PATH"),
        ("redis+sentinel://127.0.0.1:26379", "mymaster"),
        ("redis+cluster://127.0.0.1:port", "cannot be used"),
    ],
)
def test_what_is_no_store(url: str, problem: str) -> None:
    with pytest.raises(StoreError, match=problem):
        open_store(url)


def test_without_a_url_state_is_the_processs_own() -> None:
    assert isinstance(open_store(None), MemoryStore)


def test_a_server_with_a_password() -> None:
    with redis.running("requirepass s3cret") as server:
        url = f"unix://{server.socket}"
        assert open_store(url, SecretStr("s3cret")).reserve([charge("b")], T0)[0].fits
        with pytest.raises(StoreError) as refused:
            open_store(url, SecretStr("wr0ng")).reserve([charge("b")], T0)
        assert "wr0ng" not in str(refused.value)


ATTEMPTS = st.builds(
    Attempt,
    client=st.sampled_from(["c1", "c2"]),
    sender=st.sampled_from(["s1", "s2"]),
    recipient=st.sampled_from(["r1", "r2", "r3"]),
    terms=st.just(Terms(1000, 60_000, 200_000, 2)),
)
TRIES = st.lists(
    st.tuples(ATTEMPTS, st.one_of(st.integers(0, 3000), st.integers(-70_000, 250_000)), st.booleans(), st.booleans()),
    max_size=15,
)


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
@settings(max_examples=60)
@given(tries=TRIES)
def test_every_store_greylists_alike(
    servers: Callable[[str], Store], kind: str, tries: list[tuple[Attempt, int, bool, bool]]
) -> None:
    """Whoever tries, however the clock jumps, and whatever becomes of the mails."""
    store, now = servers(kind), T0
    records: dict[str, Record] = {}
    for asked, pause, taken, proven in tries:
        now += pause
        assert store.attempt(asked, now) == greylist.attempt(records, asked, now)
        if taken:
            mail = [asked, *(Attempt(asked.client, asked.sender, each, asked.terms) for each in ("r1", "r4"))]
            store.delivered(mail, now, proven=proven)
            greylist.delivered(records, mail, now, proven=proven)
    store.close()


def attempt(number: int = 0) -> Attempt:
    return Attempt("192.0.2.0/24", "shop.example", f"{number}@example.org", Terms(60_000, 24 * HOUR, 30 * 24 * HOUR, 5))


def test_every_store_remembers_what_waits(store: Store) -> None:
    assert store.attempt(attempt(), T0).welcome is Welcome.FIRST
    assert store.attempt(attempt(), T0 + HOUR).welcome is Welcome.PASSED
    store.delivered([attempt()], T0 + HOUR, proven=True)
    assert store.attempt(attempt(1), T0 + HOUR).welcome is Welcome.KNOWN
    assert list(store.buckets()) == []


@pytest.fixture
def small_stores(servers: Callable[[str], Store], tmp_path: Path) -> list[tuple[Store, int]]:
    """Stores for a thousand names of each kind, and how many they may have after all."""
    servers("redis").close()
    server = servers("redis")
    assert isinstance(server, RedisStore)
    return [
        (MemoryStore(most=1000), 2000),
        (SqliteStore(tmp_path / "state.db", most=1000), 2999),  # it looks after a thousand tries
        (RedisStore(server._connect, own_time=False, most=1000), 2000),
    ]


def test_whoever_tries_how_often_no_more_is_kept_and_who_is_known_stays(small_stores: list[tuple[Store, int]]) -> None:
    for store, most in small_stores:
        store.attempt(attempt(), T0)
        store.delivered([attempt()], T0 + HOUR, proven=False)
        for number in range(1, 4000):
            store.attempt(attempt(number), T0 + HOUR + number)
        assert _greylisted(store) <= most
        assert store.attempt(attempt(), T0 + HOUR).welcome is Welcome.KNOWN
        assert store.attempt(attempt(3999), T0 + 3 * HOUR).welcome is Welcome.PASSED
        store.close()


def test_however_many_are_known_there_is_room_to_wait_in(small_stores: list[tuple[Store, int]]) -> None:
    """What is known lasts longer than what waits: were it the last to go, nobody new would ever come in."""
    for store, most in small_stores:
        for number in range(4000):
            each = replace(attempt(), client=f"client {number}")
            store.attempt(each, T0 + number)
            store.delivered([each], T0 + number, proven=False)
        for number in range(1000):
            store.attempt(attempt(number), T0 + HOUR + number)
        assert _greylisted(store) <= most
        assert store.attempt(attempt(999), T0 + 2 * HOUR).welcome is Welcome.PASSED
        store.close()


def test_a_million_names_are_counted_without_reading_them(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.executescript(_TABLE)
        for kind in _KINDS:
            [plan] = connection.execute(f"EXPLAIN QUERY PLAN {_COUNT.format(kind)}").fetchall()
            assert "COVERING INDEX" in plan[-1]


def _greylisted(store: Store) -> int:
    """How many names it keeps."""
    if isinstance(store, MemoryStore):
        return len(store._greylist)
    if isinstance(store, SqliteStore):
        assert store._connection is not None
        [[count]] = store._connection.execute("SELECT count(*) FROM greylist").fetchall()
        return int(count)
    assert isinstance(store, RedisStore)
    redis = store._connect()
    kinds = redis.zcard("{filterd}:greylist:waits") + redis.zcard("{filterd}:greylist:known")
    assert kinds == redis.hlen("{filterd}:greylist")
    return int(redis.hlen("{filterd}:greylist"))
