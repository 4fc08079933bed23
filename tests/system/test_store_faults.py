"""What filterd keeps is taken away while mail comes in by a real Postfix: each mail ends by `on_error`, and it comes back.

The same for a name server that lies. One warning tells of it, not one a mail.
"""

import itertools
import resource
import smtplib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import dns.rcode
import pytest
from example_org import MAIL, SENDER, STRANGER, policy, results
from servers import redis
from servers.fake_dns import FakeDns, reply
from servers.filterd import Filterd
from servers.milter_process import eventually
from servers.postfix import Postfix

pytestmark = pytest.mark.system

AWAY, BACK = "the state store is away; limits do as their on_error says", "the state store is back"
LIMIT = """dmarc: { on_multiple_authors: skip }
limits: [{ name: many, key: client.ip, rate: 1000 recipients per 1d, on_error: defer }]
"""


def send(postfix: Postfix, recipient: str) -> int:
    """The code that settles a mail."""
    with postfix.connect("192.0.2.1") as smtp:
        try:
            smtp.sendmail(SENDER, [recipient], MAIL)
        except smtplib.SMTPRecipientsRefused as refused:
            return refused.recipients[recipient][0]
    return 250


def send_from(postfix: Postfix, recipient: str, domain: str) -> int:
    """The same for a mail of an author whose domain nobody asked for yet."""
    with postfix.connect("192.0.2.1") as smtp:
        smtp.mail(f"joe@{domain}")
        smtp.rcpt(recipient)
        return smtp.data(MAIL.replace(b"joe@example.org", b"joe@" + domain.encode()))[0]


@contextmanager
def judging(postfix: Postfix, state: str, more: str = "") -> Iterator[Filterd]:
    """filterd with one worker, as each finds out for itself what is away."""
    with FakeDns(lambda query, _: [reply(query, code=dns.rcode.NXDOMAIN)]) as nobody:
        address = f"127.0.0.1:{nobody.address[1]}"
        with Filterd(postfix.milters, policy(address, LIMIT + more), server=f'state: "{state}"', workers=1) as filterd:
            yield filterd
            assert filterd.events("fault") == filterd.events("worker ended") == []


def flows(postfix: Postfix, filterd: Filterd, recipient: str, broken: Callable[[], Callable[[], object]]) -> None:
    """Mail before, while it is broken, and after; what was taken is delivered, what was not was told so."""
    assert send(postfix, recipient) == 250
    mend = broken()
    assert [send(postfix, recipient) for _ in range(3)] == [451] * 3
    mend()
    eventually(lambda: send(postfix, recipient) == 250)

    assert (len(filterd.events(AWAY)), len(filterd.events(BACK))) == (1, 1)
    assert len(postfix.maildir(recipient)) == 2
    assert postfix.queue() == []


def test_redis_is_killed_and_started_again(postfix: Postfix, recipient: str) -> None:
    with redis.running() as server, judging(postfix, f"redis://127.0.0.1:{server.port}") as filterd:

        def broken() -> Callable[[], object]:
            server.stop()
            return server.start

        flows(postfix, filterd, recipient, broken)


def test_sqlite_is_locked_by_somebody_who_does_not_end(postfix: Postfix, recipient: str, tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    with judging(postfix, f"sqlite:{file}") as filterd:

        def broken() -> Callable[[], object]:
            other = sqlite3.connect(file, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            return other.close

        flows(postfix, filterd, recipient, broken)


def test_a_state_file_that_is_deleted_is_made_anew(postfix: Postfix, recipient: str, tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    with judging(postfix, f"sqlite:{file}") as filterd:
        assert send(postfix, recipient) == 250
        for each in tmp_path.glob("state.db*"):
            each.unlink()
        eventually(lambda: send(postfix, recipient) == 250)
        (away,) = filterd.events(AWAY)

    assert "deleted or replaced" in away["error"]
    assert len(filterd.events(BACK)) == 1
    # What was taken since is counted there.
    with closing(sqlite3.connect(file)) as reader:
        assert reader.execute("SELECT count(*) FROM bucket").fetchall() == [(1,)]


def test_a_full_disk_holds_up_what_must_be_counted_and_nothing_else(
    postfix: Postfix, recipient: str, tmp_path: Path
) -> None:
    """No file of a worker may grow: what SQLite is told then is what it is told by a full disk."""
    state, kept = tmp_path / "state.db", tmp_path / "decisions.db"

    def decisions() -> int:
        with (
            suppress(sqlite3.OperationalError),
            closing(sqlite3.connect(f"{kept.as_uri()}?mode=ro", uri=True)) as reader,
        ):
            return int(reader.execute("SELECT count(*) FROM decision").fetchone()[0])
        return 0  # it is not there yet

    with judging(postfix, f"sqlite:{state}", f"decisions: {{ file: {kept} }}\n") as filterd:

        def full() -> Callable[[], object]:
            eventually(lambda: decisions() == 1)
            (worker,) = filterd.workers()
            size = min(each.with_name(f"{each.name}-wal").stat().st_size for each in (state, kept))
            before = resource.prlimit(worker, resource.RLIMIT_FSIZE)
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (size, before[1]))

            def mend() -> None:
                filterd.wait_for("decisions are not kept")
                resource.prlimit(worker, resource.RLIMIT_FSIZE, before)

            return mend

        flows(postfix, filterd, recipient, full)
        # The last mail is kept again; those before it are told of as dropped.
        eventually(lambda: decisions() >= 2)
        assert len(filterd.events("decisions are not kept")) == 1


def test_a_name_server_that_is_too_slow_is_told_of_once_and_costs_its_deadline(
    postfix: Postfix, recipient: str
) -> None:
    """It answers every question, when nobody waits any more."""
    answering = threading.Event()

    def late(query: bytes, _: bool) -> list[bytes]:
        assert answering.wait(60)
        return [reply(query, code=dns.rcode.NXDOMAIN)]

    with (
        FakeDns(late) as slow,
        Filterd(
            postfix.milters,
            policy(f"127.0.0.1:{slow.address[1]}", asking="timeout: 1s, on_error: defer"),
            workers=1,
        ) as filterd,
    ):
        domains = (f"{number}.example.org" for number in itertools.count())
        codes = [send_from(postfix, recipient, next(domains)) for _ in range(3)]
        answering.set()
        eventually(lambda: send_from(postfix, recipient, next(domains)) == 250)
        away = filterd.events("no DNS server answers; mail does as dns.on_error says")
        back = filterd.wait_for("DNS servers answer again")
        assert filterd.events("fault") == []

    assert (codes, len(away), len(back)) == ([451] * 3, 1, 1)
    assert len(postfix.maildir(recipient)) == 1
    assert postfix.queue() == []


def test_a_name_server_that_lies_makes_no_forgery_pass(postfix: Postfix, recipient: str) -> None:
    """Guessed ids, garbage, answers to other questions with records that nobody asked for."""

    def lies(query: bytes, tcp: bool) -> list[bytes]:
        name = "example.org."
        poison = reply(query, f'{name} 300 TXT "v=spf1 +all"', f'_dmarc.{name} 300 TXT "v=DMARC1; p=none"')
        guessed = bytes([query[0] ^ 0xFF, query[1]]) + poison[2:]
        other = poison[:2] + poison[2:].replace(b"\x07example", b"\x07exampla", 1)
        return [b"\0", b"\xff" * 600, guessed, guessed, other]

    with (
        FakeDns(lies) as liar,
        Filterd(postfix.milters, policy(f"127.0.0.1:{liar.address[1]}", asking="timeout: 500ms")) as filterd,
        postfix.connect(STRANGER) as smtp,
    ):
        smtp.sendmail(SENDER, [recipient], MAIL)
        assert filterd.events("fault") == []
    (delivered,) = postfix.maildir(recipient)

    assert results(delivered) == "spf=temperror dkim=none dmarc=temperror"
