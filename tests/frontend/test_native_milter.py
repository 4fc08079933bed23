"""The native engine's side of the protocol, octet by octet: what libmilter or pymilter cannot do, and what they forgive."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.engine.changes import InsertField
from filterd.engine.finish import Finished
from filterd.engine.runtime import Runtime
from filterd.frontend.conversation import Reception
from filterd.frontend.native_milter import NativeMilter
from filterd.lookup import ZoneResolver
from filterd.mail.header import Field
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.load import load
from filterd.policy.verdict import Verdict
from filterd.wire import milter as m
from filterd.wire.milter_codec import ProtocolError, encode
from filterd.wire.milter_decoder import Decoder

EVERYTHING = m.Negotiate(6, m.Action(0x1FF), m.Protocol(0x1FFFFF))
SESSION = (EVERYTHING, m.Connect(b"client.example", m.Family.INET, 4711, b"192.0.2.1"), m.Helo(b"client.example"))
MESSAGE = (
    m.Macros(b"M", ((b"i", b"4Q1"),)),
    m.Mail(b"<a@example.org>"),
    m.Rcpt(b"<b@example.net>"),
    m.Data(),
    m.HeaderField(b"From", b" a@example.org"),
    m.EndOfHeaders(),
    m.BodyChunk(b"text\r\n"),
    m.EndOfMessage(),
)


class Session:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def connect(self, client: Client, daemon: str | None) -> Verdict:
        return self._note("connect", client, daemon)

    def helo(self, name: str, tls: str | None) -> Verdict:
        return self._note("helo", name, tls)

    def mail(self, sender: ReversePath, user: str | None, queue_id: str | None) -> Verdict:
        return self._note("mail", sender.text, user, queue_id)

    def rcpt(self, recipient: ForwardPath, queue_id: str | None) -> Verdict:
        return self._note("rcpt", recipient.text, queue_id)

    def refused(self, recipient: ForwardPath, queue_id: str | None) -> None:
        self._note("refused", recipient.text, queue_id)

    def data(self, queue_id: str | None, accepted: int | None = None) -> Verdict:
        return self._note("data", queue_id)

    def end_of_headers(self, fields: Sequence[Field], queue_id: str | None) -> Verdict:
        return self._note("end_of_headers", tuple(field.raw for field in fields), queue_id)

    def body(self, chunk: bytes) -> None:
        self._note("body", chunk)

    def end_of_message(self, queue_id: str | None, lacks: object = frozenset()) -> Finished:
        return Finished(self._note("end_of_message", queue_id), (InsertField(0, "X-Test", "yes"),))

    def abort(self) -> None:
        self._note("abort")

    def close(self) -> None:
        self._note("close")

    def _note(self, *told: Any) -> Verdict:
        self.told.append(told)
        return Verdict()


class Filter:
    """An engine whose sessions note what they are told, and whose faults are kept."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.faults: list[BaseException] = []
        policy = load("version: 1\ndmarc: { on_multiple_authors: skip }\n", "p.yaml")
        runtime = Runtime(policy, "mx.example.org", lambda _: ZoneResolver({}), lambda _: None)
        self.reception = Reception(runtime, lambda _, error, __: self.faults.append(error), None, self._open)
        self.milter = NativeMilter(self.reception)

    def _open(self, *_: object) -> Session:
        self.sessions.append(Session())
        return self.sessions[-1]

    def tell(self, *packets: m.Packet) -> list[m.Packet]:
        """What is answered."""
        return self.hear(b"".join(map(encode, packets)))

    def hear(self, octets: bytes) -> list[m.Packet]:
        return list(Decoder().feed(self.milter.hear(octets)))

    def told(self, *events: str) -> list[tuple[Any, ...]]:
        return [told for session in self.sessions for told in session.told if not events or told[0] in events]


def test_a_message_takes_two_answers() -> None:
    filter_ = Filter()

    assert [type(packet) for packet in filter_.tell(*SESSION, *MESSAGE)] == [m.Negotiate, m.InsertHeader, m.Accept]
    assert filter_.told() == [
        ("connect", filter_.sessions[0].told[0][1], None),
        ("helo", "client.example", None),
        ("mail", "a@example.org", None, "4Q1"),
        ("rcpt", "b@example.net", "4Q1"),
        ("data", "4Q1"),
        ("end_of_headers", (b"From: a@example.org\r\n",), "4Q1"),
        ("body", b"text\r\n"),
        ("end_of_message", "4Q1"),
    ]


@given(st.data())
def test_every_cut_of_the_stream_gives_the_same_answers(data: st.DataObject) -> None:
    stream = b"".join(map(encode, (*SESSION, *MESSAGE, m.Abort(), *MESSAGE, m.Quit())))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    whole, cut = Filter(), Filter()
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert whole.milter.hear(stream) == b"".join(map(cut.milter.hear, pieces))
    assert whole.told("mail", "body", "end_of_message") == cut.told("mail", "body", "end_of_message")
    assert cut.milter.over


def test_a_header_field_of_100_kilobytes_arrives() -> None:
    """libmilter ends the connection at 64 kB."""
    filter_ = Filter()
    filter_.tell(*SESSION, *MESSAGE[:4], m.HeaderField(b"X", b" " + b"x" * 100_000), *MESSAGE[5:])

    assert filter_.told("end_of_headers") == [("end_of_headers", (b"X: " + b"x" * 100_000 + b"\r\n",), "4Q1")]


def test_octets_that_are_not_utf_8_arrive() -> None:
    filter_ = Filter()
    answers = filter_.tell(
        EVERYTHING,
        m.Connect(b"caf\xe9.example", m.Family.INET, 4711, b"192.0.2.1"),
        m.Helo(b"caf\xe9.example"),
        m.Macros(b"M", ((b"i", b"\xff"),)),
        m.Mail(b"<\xe9@example.org>"),
        m.Rcpt(b"<b@example.net>"),
        m.Data(),
        m.HeaderField(b"Fr\xf6m", b" \xe9"),
        *MESSAGE[5:],
    )

    assert answers[-1] == m.Accept()
    assert [client.name for _, client, _ in filter_.told("connect")] == [None]
    assert [str(client.ip) for _, client, _ in filter_.told("connect")] == ["192.0.2.1"]
    assert filter_.told("helo", "mail", "end_of_headers") == [
        ("helo", "caf\udce9.example", None),
        ("mail", "\udce9@example.org", None, None),
        ("end_of_headers", (b"Fr\xf6m: \xe9\r\n",), None),
    ]
    assert filter_.faults == []


@pytest.mark.parametrize("address", [b"192.0.2", b"", b"\xff", b"2001:db8::1::2"])
def test_a_client_whose_address_is_none_passes_for_nobody(address: bytes) -> None:
    filter_ = Filter()
    answers = filter_.tell(EVERYTHING, m.Connect(b"a.example", m.Family.INET, 1, address), *MESSAGE, *MESSAGE)

    assert [type(answer) for answer in answers] == [m.Negotiate, m.ReplyCode, m.ReplyCode]
    assert filter_.told("connect", "mail") == []
    assert len(filter_.faults) == 1


@pytest.mark.parametrize(("offered", "agreed"), [(2, 2), (6, 6), (7, 6), (2**32 - 1, 6)])
def test_both_speak_the_newest_version_that_both_know(offered: int, agreed: int) -> None:
    (answer,) = Filter().tell(m.Negotiate(offered, m.Action(0x1FF), m.Protocol(0x1FFFFF)))

    assert isinstance(answer, m.Negotiate)
    assert answer.version == agreed


def test_an_mta_that_knows_no_unanswered_command_is_answered_each() -> None:
    filter_ = Filter()
    answers = filter_.tell(m.Negotiate(5, m.Action(0x1FF), m.Protocol(0)), *SESSION[1:], *MESSAGE)

    assert answers[1:] == [m.Continue()] * 8 + [m.InsertHeader(0, b"X-Test", b"yes"), m.Accept()]


def test_the_last_piece_of_a_body_may_come_with_its_end() -> None:
    filter_ = Filter()
    filter_.tell(*SESSION, *MESSAGE[:-1], m.EndOfMessage(b"more\r\n"))

    assert filter_.told("body") == [("body", b"text\r\n"), ("body", b"more\r\n")]


def test_an_unknown_command_is_not_the_sessions() -> None:
    filter_ = Filter()
    answers = filter_.tell(m.Negotiate(6, m.Action(0), m.Protocol(0)), SESSION[1], m.UnknownCommand(b"XYZZY"))

    assert answers[1:] == [m.Continue()] * 2


def test_another_client_on_the_same_connection_is_another_session() -> None:
    filter_ = Filter()
    filter_.tell(*SESSION, m.Macros(b"M", ((b"{auth_authen}", b"anna"),)), *MESSAGE[1:], m.QuitNewConnection())
    answers = filter_.tell(*SESSION[1:], *MESSAGE[1:])

    assert answers[-1] == m.Accept()
    assert [[told[2] for told in session.told if told[0] == "mail"] for session in filter_.sessions] == [
        ["anna"],
        [None],
    ]
    assert filter_.sessions[0].told[-1] == ("close",)
    assert filter_.reception.live == 1


@pytest.mark.parametrize("steps", range(1, 8))
@pytest.mark.parametrize("anew", [(m.Helo(b"again"),), ()])
def test_helo_and_mail_end_a_message_that_was_given_up_without_a_word(anew: Iterable[m.Packet], steps: int) -> None:
    filter_ = Filter()
    answers = filter_.tell(*SESSION, *MESSAGE[:steps], *anew, *MESSAGE)

    assert answers[1:] == [m.InsertHeader(0, b"X-Test", b" yes"), m.Accept()]
    assert filter_.told("end_of_headers")[-1] == ("end_of_headers", (b"From: a@example.org\r\n",), "4Q1")


@pytest.mark.parametrize(
    "packets",
    [
        [m.Connect(b"a")],
        [m.Negotiate(1, m.Action(0xF), m.Protocol(0x3F))],
        [EVERYTHING, EVERYTHING],
        [EVERYTHING, m.Mail(b"<>")],
        [*SESSION, SESSION[1]],
        [*SESSION, m.Rcpt(b"<b@example.net>")],
        [*SESSION, *MESSAGE, m.BodyChunk(b"x")],
        [*SESSION, *MESSAGE[:6], m.HeaderField(b"A", b"b")],
        [*SESSION, m.Continue()],
        [*SESSION, m.Quit(), *MESSAGE],
    ],
)
def test_what_breaks_the_protocol_ends_the_connection(packets: list[m.Packet]) -> None:
    filter_ = Filter()
    with pytest.raises(ProtocolError):
        filter_.tell(*packets)

    assert filter_.faults == []


_BYTES = st.binary(max_size=12).map(lambda text: text.replace(b"\0", b""))
_PACKETS = st.one_of(
    st.sampled_from(
        [*SESSION, *MESSAGE, m.Abort(), m.Quit(), m.QuitNewConnection(), m.Continue(), m.UnknownCommand(b"")]
    ),
    st.builds(m.Macros, st.sampled_from([b"C", b"H", b"M", b"R", b"T", b"N", b"E", b"?"]), st.just(((b"i", b"\xff"),))),
    st.builds(m.Connect, _BYTES, st.sampled_from(m.Family), st.integers(0, 65535), _BYTES),
    st.builds(m.Mail, _BYTES, st.lists(_BYTES, max_size=2).map(tuple)),
    st.builds(m.HeaderField, _BYTES, _BYTES),
)


@given(st.lists(_PACKETS, max_size=20))
def test_no_order_of_packets_raises_anything_else(packets: list[m.Packet]) -> None:
    filter_ = Filter()
    with suppress(ProtocolError):
        filter_.tell(EVERYTHING, *packets)
    filter_.milter.close()

    assert filter_.reception.live == 0


@given(st.binary(max_size=300))
def test_no_octets_raise_anything_else(octets: bytes) -> None:
    filter_ = Filter()
    with suppress(ProtocolError):
        filter_.milter.hear(octets)
