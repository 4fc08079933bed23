"""A filter that breaks the protocol, or does what libmilter never does: scripted packet by packet."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from filterd.mta.config import DefaultAction, Milter
from filterd.wire import milter as m
from filterd.wire.milter_codec import encode
from filterd.wire.milter_decoder import Decoder
from filterd.wire.milter_state import VERSIONS

Start = Callable[..., Any]
Answers = dict[type[m.Packet], Any]

_ALL = m.Negotiate(6, m.Action(0x1FF), m.Protocol(0))
_DEFERRED = (451, b"4.7.1 Service unavailable - try again later")
_SILENT = (m.Macros, m.Abort, m.Quit)


class FakeFilter:
    """Answers each command with the packets or octets given for its kind, else with Continue; None: hangs up."""

    def __init__(self, path: Path, answers: Answers) -> None:
        self.socket = f"unix:{path}"
        self.seen: list[m.Packet] = []
        self._answers = {m.Negotiate: [_ALL], **answers}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._connection: socket.socket | None = None
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self._connection, _ = self._listener.accept()
                with self._connection, suppress(OSError):
                    self._serve(self._connection)

    def _serve(self, connection: socket.socket) -> None:
        decoder = Decoder()
        while received := connection.recv(65536):
            for packet in decoder.feed(received):
                self.seen.append(packet)
                if isinstance(packet, _SILENT):
                    continue
                answer = self._answers.get(type(packet), [m.Continue()])
                if answer is None:
                    return
                connection.sendall(b"".join(each if isinstance(each, bytes) else encode(each) for each in answer))

    def close(self) -> None:
        # The thread must wake, or it takes connections for whoever is given the number of the descriptor next.
        self._listener.shutdown(socket.SHUT_RDWR)
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Callable[[Answers], FakeFilter]]:
    filters: list[FakeFilter] = []

    def _start(answers: Answers) -> FakeFilter:
        filters.append(FakeFilter(tmp_path / f"fake{len(filters)}.sock", answers))
        return filters[-1]

    yield _start
    for each in filters:
        each.close()


@pytest.mark.parametrize(
    "answers",
    [
        {m.Negotiate: None},
        {m.Negotiate: [m.Continue()]},
        {m.Negotiate: [m.Negotiate(7, m.Action(0), m.Protocol(0))]},
        {m.Negotiate: [m.Negotiate(1, m.Action(0), m.Protocol(0))]},
        {m.Negotiate: [m.Negotiate(6, m.Action(0x200), m.Protocol(0))]},
        {m.Negotiate: [b"\0\0\0\5O\0\0\0\6"]},
        {m.Negotiate: [b"\xff\xff\xff\xffO"]},
        {m.Connect: [m.Discard()]},
        {m.Connect: [m.Data()]},
        {m.Helo: [b"\0\0\0\0"]},
        {m.Helo: [b"\0\0\0\1!"]},
        {m.Mail: [b"\0\0\0\2c!"]},
        {m.Mail: [m.Skip()]},
        {m.Mail: [m.AddHeader(b"X", b"v")]},
        {m.Mail: [m.ReplyCode(b"250 Ok")]},
        {m.Mail: [m.ReplyCode(b"550 4.7.1 No")]},
        {m.Mail: [m.ReplyCode(b"550-5.7.1 No")]},
        {m.Mail: [m.ReplyCode(b"550-5.7.1 a\r\n551 5.7.1 b")]},
        {m.Mail: [m.ReplyCode(b"550 a\r\nRSET")]},
        {m.Mail: [m.ReplyCode(b"550 a\nb")]},
        {m.Mail: [m.ReplyCode(b"")]},
        {m.EndOfMessage: [m.AddHeader(b"X: y\r\nZ", b"v"), m.Accept()]},
        {m.EndOfMessage: [m.AddHeader(b"", b"v"), m.Accept()]},
        {m.EndOfMessage: [m.ChangeHeader(1, b"a b", b"v"), m.Accept()]},
        {m.EndOfMessage: [m.ReplaceBody(b"a"), m.AddHeader(b"X", b"v"), m.ReplaceBody(b"b"), m.Accept()]},
        {m.EndOfMessage: [m.ReplaceBody(b"x" * 1000)] * 1100 + [m.Accept()]},
        {m.EndOfMessage: [m.Progress()] * 3 + [b"\0"]},
    ],
)
def test_what_breaks_the_protocol_gets_the_default_action(
    start: Start, fake: Callable[[Answers], FakeFilter], answers: Answers
) -> None:
    settings = {"message_size_limit": 1_000_000, "milter_command_timeout": 0.5, "milter_content_timeout": 0.5}
    mta = start(milters=(fake(answers).socket,), **settings)
    client = mta.client()

    assert mta.send(client=client)[-1] == _DEFERRED
    client.rset()
    assert mta.send(client=client) == [_DEFERRED]
    assert mta.files == []


@pytest.mark.parametrize("edit", [m.AddHeader(b"X", b"v"), m.Quarantine(b"q"), m.DeleteRecipient(b"b@example.net")])
def test_edits_that_were_not_negotiated_are_not_made(
    start: Start, fake: Callable[[Answers], FakeFilter], edit: m.Packet
) -> None:
    choice = m.Negotiate(6, m.Action.CHANGE_BODY, m.Protocol(0))
    mta = start(milters=(fake({m.Negotiate: [choice], m.EndOfMessage: [edit, m.Accept()]}).socket,))

    assert mta.send()[-1] == _DEFERRED


@pytest.mark.parametrize(
    ("version", "unknown"), [(2, {m.Data, m.UnknownCommand}), (3, {m.Data}), (4, set()), (6, set())]
)
def test_an_older_filter_is_not_sent_what_it_does_not_know(
    start: Start, fake: Callable[[Answers], FakeFilter], version: int, unknown: set[type[m.Packet]]
) -> None:
    old = fake({m.Negotiate: [m.Negotiate(version, m.Action(0x3F), m.Protocol(0))]})
    mta = start(milters=(old.socket,))
    client = mta.client()
    client.docmd("FROB")

    assert mta.send(client=client)[-1][0] == 250
    assert unknown == {m.Data, m.UnknownCommand} - {type(packet) for packet in old.seen}


@pytest.mark.parametrize("version", [2, 3, 4, 6])
def test_a_filter_is_offered_no_more_than_its_version_has(
    start: Start, fake: Callable[[Answers], FakeFilter], version: int
) -> None:
    old = fake({m.Negotiate: [m.Negotiate(version, m.Action(0x3F), m.Protocol(0))]})
    mta = start(milters=(Milter(old.socket, version=version),))

    assert mta.send()[-1][0] == 250
    (offer,) = (packet for packet in old.seen if isinstance(packet, m.Negotiate))
    assert offer == m.Negotiate(version, m.Action(0x1FF), VERSIONS[version])


def test_each_filter_has_its_own_settings(start: Start, fake: Callable[[Answers], FakeFilter]) -> None:
    slow = Milter(fake({m.Mail: []}).socket, default_action=DefaultAction.ACCEPT, command_timeout=0.1)
    away = Milter("unix:/nonexistent/milter", default_action=DefaultAction.QUARANTINE)
    mta = start(milters=(slow, away), default_action="reject")

    assert mta.send()[-1][0] == 250
    assert [mail.hold for mail in mta.held] == ["default_action"]


def test_shutdown_is_421_and_the_end(start: Start, fake: Callable[[Answers], FakeFilter]) -> None:
    mta = start(milters=(fake({m.Rcpt: [m.Shutdown()]}).socket,))

    assert mta.send()[-1] == (421, b"4.7.0 Server closing connection")


def test_a_client_that_is_shut_out_at_connect_is_greeted_with_421(
    start: Start, fake: Callable[[Answers], FakeFilter]
) -> None:
    mta = start(milters=(fake({m.Connect: [m.Shutdown()]}).socket,))
    with socket.create_connection(("127.0.0.1", mta.server.port), timeout=60) as client:
        said = client.makefile("rb").read()

    assert said == b"421 mx.example.net Service unavailable - try again later\r\n"


def test_headers_may_be_skipped(start: Start, fake: Callable[[Answers], FakeFilter]) -> None:
    skipper = fake({m.HeaderField: [m.Skip()]})
    mta = start(milters=(skipper.socket,))
    client = mta.client()
    for _ in range(2):
        assert mta.send(client=client)[-1][0] == 250

    assert sum(isinstance(packet, m.HeaderField) for packet in skipper.seen) == 2


def test_a_filter_may_answer_in_one_piece_and_a_reply_in_many(
    start: Start, fake: Callable[[Answers], FakeFilter]
) -> None:
    answers = {m.EndOfMessage: [m.Progress(), m.InsertHeader(0, b"X-A", b"1"), m.AddHeader(b"X-B", b"2"), m.Continue()]}
    mta = start(milters=(fake(answers).socket,))
    mta.send()

    assert b"X-A: 1\n" in mta.mail()
    assert b"X-B: 2\n" in mta.mail()


def test_an_empty_new_body_is_empty(start: Start, fake: Callable[[Answers], FakeFilter]) -> None:
    mta = start(milters=(fake({m.EndOfMessage: [m.ReplaceBody(b""), m.Accept()]}).socket,))
    mta.send()

    assert mta.mail().endswith(b"Subject: two\n\n")


def test_abort_and_quit_reach_the_filter_at_once(start: Start, fake: Callable[[Answers], FakeFilter]) -> None:
    quiet = fake({})
    mta = start(milters=(quiet.socket,))
    client = mta.client()
    mta.send(client=client)
    client.quit()
    client.close()
    mta.stack.close()

    assert quiet.seen[-2:] == [m.Abort(), m.Quit()]


def test_the_offer_is_postfix_s(start: Start, fake: Callable[[Answers], FakeFilter]) -> None:
    quiet = fake({})
    start(milters=(quiet.socket,)).client()

    assert quiet.seen[0] == m.Negotiate(6, m.Action(0x1FF), m.Protocol(0x1FFFFF))


def test_the_filter_hears_nothing_of_what_it_did_not_want(start: Start, fake: Callable[[Answers], FakeFilter]) -> None:
    choice = m.Negotiate(6, m.Action(0), m.Protocol.NO_HEADERS | m.Protocol.NO_BODY)
    quiet = fake({m.Negotiate: [choice]})
    start(milters=(quiet.socket,)).send()
    heard = {type(packet) for packet in quiet.seen}

    assert m.EndOfMessage in heard
    assert not {m.HeaderField, m.BodyChunk} & heard
