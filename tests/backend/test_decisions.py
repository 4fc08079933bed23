"""The store of decisions: what is kept, how it is found, how it stays bounded, and that nothing of it harms mail."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import shake_256
from ipaddress import ip_address
from pathlib import Path

import pytest

from filterd.backend.decision_reader import DecisionReader, DecisionsError, Found, Wanted
from filterd.backend.decisions import DecisionWriter
from filterd.mail.address import parse_path
from filterd.mail.header import Field, Header
from filterd.mail.transaction import Client, ForwardPath, ReversePath, Transaction
from filterd.policy.results import Results
from filterd.policy.schema import Decisions
from filterd.policy.transcript import Content, Transcript
from filterd.policy.verdict import Disposition, Verdict

NOW = 4_000_000_000.0  # in the far future, so that nothing here is ever old by the machine's clock


def transcript(
    number: int, *, at: float = NOW, content: Content | None = None, queue_id: str | None = None
) -> Transcript:
    sender, recipient = f"Anna{number}@bank.example", f"b{number}@home.example"
    transaction = Transaction(
        f"c.{number}",
        Client(ip_address("192.0.2.7")),
        sender=ReversePath(sender, parse_path(sender)),
        recipients=(ForwardPath(recipient, parse_path(recipient)),),
        queue_id=queue_id,
    )
    verdict = Verdict(Disposition.REJECT, rule="no")
    return Transcript(transaction, at + number, "p", "mx", False, None, 1, Results(), (), verdict, content=content)


class Told:
    """What the operator was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.dropped = 0

    def __call__(self, why: str, dropped: int) -> None:
        self.lines.append(why)
        self.dropped += dropped


def write(file: Path, *transcripts: Transcript, told: Told | None = None, **settings: object) -> None:
    writer = DecisionWriter(Decisions(file=str(file), **settings), told or Told())  # type: ignore[arg-type]
    for each in transcripts:
        writer.put(each)
    writer.close(60)


@contextmanager
def reading(file: Path) -> Iterator[DecisionReader]:
    reader = DecisionReader(file)
    try:
        yield reader
    finally:
        reader.close()


def sessions(found: tuple[Found, ...]) -> list[str]:
    return [each.session for each in found]


def test_what_was_put_is_found(tmp_path: Path) -> None:
    file = tmp_path / "d.db"
    mails = [transcript(number, queue_id="Q1" if number < 2 else None) for number in range(4)]
    write(file, *mails)

    with reading(file) as reader:
        assert sessions(reader.named("Q1")) == ["c.1", "c.0"]
        assert sessions(reader.named("c.3")) == ["c.3"]
        assert reader.named("Q2") == ()
        assert sessions(reader.search(Wanted(), 2)) == ["c.3", "c.2"]
        assert sessions(reader.search(Wanted(since=NOW + 2.5), 9)) == ["c.3"]
        assert sessions(reader.search(Wanted(sender="anna2@"), 9)) == ["c.2"]
        assert sessions(reader.search(Wanted(recipient="B1@home", client="192.0.2.7"), 9)) == ["c.1"]
        assert sessions(reader.search(Wanted(client="192.0.2.8"), 9)) == []
        (found,) = reader.named("c.2")
        assert (
            found.verdict,
            found.rule,
            found.client,
            found.recipients,
        ) == ("rejected", "no", "192.0.2.7", ("b2@home.example",))
        assert mails[2] == reader.transcript(found)


def test_octets_that_are_no_text_cost_no_decision(tmp_path: Path) -> None:
    file = tmp_path / "d.db"
    write(file, transcript(0), transcript(1, queue_id="Q\udcff"), told=(told := Told()))

    with reading(file) as reader:
        assert sessions(reader.search(Wanted(), 9)) == ["c.1", "c.0"]
    assert told.dropped == 0


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    write(tmp_path / "d.db", transcript(1))

    assert (tmp_path / "d.db").stat().st_mode & 0o777 == 0o600


def test_without_personal_data_nothing_of_it_is_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "d.db"
    write(file, transcript(1), personal=False)

    with reading(file) as reader:
        (found,) = reader.named("c.1")
        kept = str(reader.transcript(found).to_mapping()) + str(found)
    assert not any(each in kept.lower() for each in ("anna", "b1@", "192.0.2.7"))
    assert "bank.example" in kept


def test_old_decisions_go(tmp_path: Path) -> None:
    file = tmp_path / "d.db"
    write(file, transcript(1, at=1000.0), transcript(2))

    with reading(file) as reader:
        assert sessions(reader.search(Wanted(), 9)) == ["c.2"]


def test_the_file_stays_below_its_size_and_keeps_the_newest(tmp_path: Path) -> None:
    file = tmp_path / "d.db"
    settings = Decisions(file=str(file), max_size=2**20, keep="message")
    writer = DecisionWriter(settings, Told())
    for number in range(600):
        body = shake_256(str(number).encode()).digest(4096)  # cannot be compressed
        writer.put(transcript(number, content=Content(Header.of([Field(b"A", b"b")]), body)))
    writer.close(60)
    # A second writer looks again: one transaction removes no more than some.
    write(file, transcript(600), max_size=2**20)

    assert file.stat().st_size < 4 * 2**20
    with reading(file) as reader:
        assert sessions(reader.search(Wanted(), 1)) == ["c.600"]
        assert reader.named("c.0") == ()


def test_several_writers_and_a_reader_at_once(tmp_path: Path) -> None:
    file = tmp_path / "d.db"
    told = Told()

    def fill(first: int) -> None:
        write(file, *(transcript(number) for number in range(first, first + 300)), told=told)

    write(file)
    threads = [threading.Thread(target=fill, args=(first,)) for first in (0, 1000, 2000)]
    for each in threads:
        each.start()
    with reading(file) as reader:
        while any(each.is_alive() for each in threads):
            reader.search(Wanted(), 10)
        for each in threads:
            each.join()
        assert len(reader.search(Wanted(), 10_000)) == 900
    assert (told.lines, told.dropped) == ([], 0)


@pytest.mark.parametrize("broken", ["no folder", "not a database", "another format", "a folder"])
def test_what_cannot_be_kept_is_told_once_and_harms_nothing(tmp_path: Path, broken: str) -> None:
    file, told = tmp_path / "d.db", Told()
    match broken:
        case "no folder":
            file = tmp_path / "missing" / "d.db"
        case "not a database":
            file.write_bytes(b"no database" * 1000)
        case "a folder":
            file.mkdir()
        case _:
            sqlite3.connect(file).execute("PRAGMA user_version = 99").connection.close()
    write(file, *map(transcript, range(5)), told=told)

    assert told.lines[1:] == ["filterd ends"]
    assert told.dropped == 5
    assert str(file.parent) in told.lines[0]


def test_a_file_that_breaks_meanwhile_costs_decisions_and_no_mail(tmp_path: Path) -> None:
    file, told = tmp_path / "d.db", Told()
    write(file, transcript(1))
    with sqlite3.connect(file) as connection:  # as if the disk were full: there is no room for one more page
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON decision BEGIN SELECT RAISE(ABORT, 'full'); END")
    connection.close()
    write(file, transcript(2), transcript(3), told=told)

    assert told.lines == [f"{file}: full; move it away, and filterd makes a new one", "filterd ends"]
    assert told.dropped == 2


def test_mail_that_comes_faster_than_it_is_written_is_not_kept_waiting(tmp_path: Path) -> None:
    file, told = tmp_path / "d.db", Told()
    write(file)
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")  # the writer waits for this one
        writer = DecisionWriter(Decisions(file=str(file)), told)
        for number in range(6_000):
            writer.put(transcript(number))
        other.execute("ROLLBACK")
    writer.close(60)

    with reading(file) as reader:
        kept = len(reader.search(Wanted(), 10_000))
    assert kept + told.dropped == 6_000
    assert told.dropped >= 3_000


@pytest.mark.parametrize("text", ["", "no database" * 1000])
def test_what_is_no_store_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "d.db").write_text(text)
    for file in (tmp_path / "d.db", tmp_path / "missing", tmp_path):
        with pytest.raises(DecisionsError):
            DecisionReader(file)


def test_a_broken_record_is_told(tmp_path: Path) -> None:
    file = tmp_path / "d.db"
    write(file, transcript(1), transcript(2))
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE decision SET record = x'00'")
    with reading(file) as reader, pytest.raises(DecisionsError, match=r"the record of c\.1 is broken"):
        reader.transcript(reader.named("c.1")[0])
