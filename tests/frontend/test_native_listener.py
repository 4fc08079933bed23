"""Connections of the native engine: who waits holds up nobody, who is too many waits, and nothing is left behind."""

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from servers.milter_mta import ClosedError, MilterMta
from servers.milter_process import eventually

import filterd.frontend.native_listener as native_listener
from filterd.backend.waiting import about_to_wait
from filterd.daemon.listen import listen
from filterd.engine.changes import DeleteField
from filterd.engine.finish import Finished
from filterd.engine.runtime import Runtime
from filterd.frontend.conversation import Bounds, Reception
from filterd.frontend.native_listener import NativeDoor
from filterd.frontend.seats import Seat, seats
from filterd.lookup import ZoneResolver
from filterd.mail.transaction import ReversePath
from filterd.policy.load import load
from filterd.policy.verdict import Verdict
from filterd.wire.milter import Accept, EndOfMessage, Mail, Rcpt, ReplyCode
from filterd.wire.milter_codec import ProtocolError, encode

LONG = 30.0  # seconds; no test waits for it
DEFERRED = ReplyCode(b"451 4.3.0 cannot judge this mail now, try again later")


class Session:
    """Does what the sender's address says: `wait` and `block` until `go` is set; `edit` makes 50,000 edits."""

    def __init__(self, house: "House") -> None:
        self._house = house
        self._edits = 0

    def mail(self, sender: ReversePath, user: str | None, queue_id: str | None) -> Verdict:
        word = sender.text.partition("@")[0]
        if word in ("wait", "block"):
            if word == "wait":
                about_to_wait()
            with self._house.stuck:
                self._house.stuck_count += 1
                self._house.stuck.notify_all()
            assert self._house.go.wait(LONG)
        self._edits = 50_000 if word == "edit" else 0
        return Verdict()

    def end_of_message(self, queue_id: str | None, lacks: object = frozenset()) -> Finished:
        return Finished(Verdict(), (DeleteField("X", 1),) * self._edits)

    def __getattr__(self, name: str) -> Callable[..., Verdict]:
        return lambda *_: Verdict()


class House:
    """A door at a socket of its own, with scripted sessions."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:{folder}/milter"
        self.listener = listen(self.address, None, 0o600)
        self.go = threading.Event()
        self.stuck = threading.Condition()
        self.stuck_count = 0
        self.faults: list[BaseException] = []
        self.session: Callable[..., Any] = lambda *_: Session(self)
        policy = load("version: 1\n", "p.yaml")
        runtime = Runtime(policy, "mx.example.org", lambda _: ZoneResolver({}), lambda _: None)
        self.reception = Reception(
            runtime, lambda _, error, __: self.faults.append(error), None, lambda *_: self.session()
        )
        self.doors: list[NativeDoor] = []

    def open(self, listener: Any = None, seat: Seat | None = None, **bounds: int) -> NativeDoor:
        door = NativeDoor(listener or self.listener.socket, self.reception, seat, **bounds)
        self.doors.append(door)
        threading.Thread(target=door.run, daemon=True).start()
        return door

    def wait_until_stuck(self, count: int) -> None:
        with self.stuck:
            assert self.stuck.wait_for(lambda: self.stuck_count == count, LONG)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.go.set()
    for door in found.doors:
        if not door._closed:
            door.close()
    found.listener.close()


@pytest.fixture
def mtas(house: House) -> Iterator[Callable[[], MilterMta]]:
    """Makes MTAs that are connected."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(MilterMta(house.address))


def begin(mta: MilterMta, word: bytes) -> None:
    """Send a whole message without waiting for its answer."""
    mta.open()
    for packet in (Mail(b"<" + word + b"@example.org>"), Rcpt(b"<b@example.net>"), EndOfMessage()):
        mta.raw(encode(packet))


def nothing_came(mta: MilterMta) -> bool:
    mta.socket.setblocking(False)
    try:
        return not mta.socket.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        mta.socket.settimeout(LONG)


@pytest.mark.parametrize("how", [b"wait", b"block"])
def test_who_waits_holds_up_nobody(house: House, mtas: Callable[[], MilterMta], how: bytes) -> None:
    """Whether the engine says so beforehand, or not."""
    house.open()
    waiting = [mtas() for _ in range(20)]
    for number, mta in enumerate(waiting, 1):
        begin(mta, how)
        house.wait_until_stuck(number)
    others = [mtas() for _ in range(3)]
    answers = []
    for mta in others:
        mta.open()
        answers.append(mta.send())
    assert answers == [Accept()] * 3
    assert all(nothing_came(mta) for mta in waiting)
    house.go.set()

    assert [mta.answer() for mta in waiting] == [Accept()] * 20
    assert [mta.send() for mta in waiting] == [Accept()] * 20


def test_where_no_thread_is_left_others_wait_too_and_are_served(house: House, mtas: Callable[[], MilterMta]) -> None:
    house.open(threads=3)
    waiting = [mtas() for _ in range(5)]
    for number, mta in enumerate(waiting, 1):
        if number <= 3:
            begin(mta, b"wait")
            house.wait_until_stuck(number)
    house.go.set()
    for mta in waiting[3:]:
        begin(mta, b"wait")

    assert [mta.answer() for mta in waiting] == [Accept()] * 5


def test_an_mta_that_goes_away_while_the_engine_waits_leaves_nothing(
    house: House, mtas: Callable[[], MilterMta]
) -> None:
    door = house.open()
    for number in (1, 2):
        mta = mtas()
        begin(mta, b"wait")
        house.wait_until_stuck(number)
        mta.socket.close()
    house.go.set()

    assert eventually(lambda: (house.reception.live, door.connections()) == (0, 0))


def test_who_is_too_many_waits_until_another_has_gone(house: House, mtas: Callable[[], MilterMta]) -> None:
    door = house.open(most=2)
    first, second, third = mtas(), mtas(), mtas()
    first.open()
    second.open()
    assert door.connections() == 2
    first.quit()
    third.open()

    assert third.send() == Accept()
    assert second.send() == Accept()


def test_a_closed_door_leaves_who_comes_to_another(house: House, mtas: Callable[[], MilterMta]) -> None:
    first = house.open()
    old = mtas()
    old.open()
    first.close()
    new = mtas()
    second = house.open()
    new.open()

    assert [old.send(), new.send()] == [Accept(), Accept()]
    assert [first.connections(), second.connections()] == [1, 1]
    old.quit()
    assert eventually(lambda: first.connections() == 0)


def test_who_comes_is_left_to_who_has_fewer(house: House, mtas: Callable[[], MilterMta]) -> None:
    mine, others = seats(2)
    others.tell(None)
    busy = house.open(seat=mine)
    for _ in range(10):
        mtas().open()
    idle = house.open(seat=others)
    for _ in range(20):
        mtas().open()

    assert busy.connections() + idle.connections() == 30
    assert idle.connections() >= 1


def test_who_has_fewer_and_does_not_come_is_not_waited_for(house: House, mtas: Callable[[], MilterMta]) -> None:
    mine, others = seats(2)
    others.tell(0)
    house.open(seat=mine)
    found = []
    for _ in range(3):
        mta = mtas()
        mta.open()
        found.append(mta.send())

    assert found == [Accept()] * 3


def test_an_mta_that_is_silent_for_too_long_is_given_up(
    house: House, mtas: Callable[[], MilterMta], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_listener, "_SILENCE", 0.1)
    monkeypatch.setattr(native_listener, "_LOOK_AFTER", 0.1)
    house.open()
    mta = mtas()
    mta.negotiate()
    with pytest.raises(ClosedError):
        mta.answer()

    assert eventually(lambda: house.reception.live == 0)


def test_an_answer_that_is_larger_than_the_mta_takes_at_once_holds_up_nobody(
    house: House, mtas: Callable[[], MilterMta]
) -> None:
    house.open()
    slow, other = mtas(), mtas()
    begin(slow, b"edit")
    other.open()

    assert other.send() == Accept()
    assert slow.answer() == Accept()
    assert len(slow.edits) == 50_000
    assert slow.send() == Accept()


def test_what_breaks_the_protocol_is_told_once_and_costs_one_connection(
    house: House, mtas: Callable[[], MilterMta]
) -> None:
    house.open()
    bad, good = mtas(), mtas()
    good.open()
    bad.raw(b"GET / HTTP/1.1\r\n\r\n" * 2)
    with pytest.raises((ClosedError, ConnectionResetError)):
        bad.answer()

    assert good.send() == Accept()
    assert [type(fault) for fault in house.faults] == [ProtocolError]


def test_an_engine_that_cannot_begin_costs_one_connection(house: House, mtas: Callable[[], MilterMta]) -> None:
    house.session = lambda *_: 1 / 0
    house.open()
    with pytest.raises((ClosedError, ConnectionResetError, BrokenPipeError)):
        mtas().open()
    house.session = lambda *_: Session(house)
    mta = mtas()
    mta.open()

    assert mta.send() == Accept()
    assert [type(fault) for fault in house.faults] == [ZeroDivisionError]


def test_when_descriptors_run_out_who_comes_waits(house: House, mtas: Callable[[], MilterMta]) -> None:
    class Exhausted:
        """A listener that has no descriptor left, three times."""

        left = 3

        def dup(self) -> "Exhausted":
            return self

        def accept(self) -> Any:
            if self.left:
                self.left -= 1
                raise OSError(errno.EMFILE, "too many open files")
            return house.listener.socket.accept()

        def fileno(self) -> int:
            return house.listener.socket.fileno()

        def close(self) -> None:
            pass

    house.open(Exhausted())
    mta = mtas()
    mta.open()

    assert mta.send() == Accept()
    assert len(house.faults) == 1


def test_a_door_that_cannot_serve_says_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    door = NativeDoor(house.listener.socket, house.reception)
    monkeypatch.setattr(door, "wait", lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        door.run()


def test_an_mta_gets_its_answer_though_the_engine_does_not_come_back(
    house: House, mtas: Callable[[], MilterMta]
) -> None:
    """As the policy declares, and again and again; once the engine is back, so is judgement."""
    house.reception.bounds = Bounds(command=0.1, content=0.1)
    house.open()
    mta = mtas()
    begin(mta, b"block")
    assert [mta.answer(), mta.send()] == [DEFERRED] * 2
    house.go.set()

    assert eventually(lambda: mta.send() == Accept())
    assert {type(fault) for fault in house.faults} == {TimeoutError}


def test_a_process_whose_threads_are_all_stuck_gives_up(
    house: House, mtas: Callable[[], MilterMta], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_listener, "_HOPE", 1)
    house.reception.bounds = Bounds(command=0.1, content=0.1)
    door = NativeDoor(house.listener.socket, house.reception, threads=1)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(door.run)
        begin(mtas(), b"block")
        assert str(running.exception(LONG)) == "all threads wait for an engine that does not come back"


def test_it_is_told_once_that_there_is_no_room(house: House, mtas: Callable[[], MilterMta]) -> None:
    told: list[None] = []
    door = NativeDoor(house.listener.socket, house.reception, most=1, full=lambda: told.append(None))
    house.doors.append(door)
    threading.Thread(target=door.run, daemon=True).start()
    for _ in range(3):
        with MilterMta(house.address) as mta:
            mta.open()
            assert mta.send() == Accept()
    assert told == [None]
