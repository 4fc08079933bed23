"""The milter engines, the real libmilter and ours: what the MTA says reaches the session, and the answers go back."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.milter_mta import ClosedError, MilterMta
from servers.milter_process import ALL_STAGES, MilterProcess, eventually

from filterd.engine.judgement import MAX_FIELDS
from filterd.wire.milter import (
    Abort,
    Accept,
    Action,
    ChangeHeader,
    Connect,
    Continue,
    Data,
    Discard,
    EndOfHeaders,
    EndOfMessage,
    Family,
    HeaderField,
    Helo,
    InsertHeader,
    Mail,
    Protocol,
    Quarantine,
    Rcpt,
    ReplyCode,
)

DEFERRED = b"451 4.3.0"


@pytest.fixture(params=["libmilter", "native"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What speaks the protocol: the same tests for both."""
    monkeypatch.setattr(MilterProcess, "engine", request.param)
    return str(request.param)


@pytest.fixture
def judging(tmp_path: Path) -> Iterator[MilterProcess]:
    """A front-end whose policy judges at every stage."""
    with MilterProcess(tmp_path) as process:
        yield process


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[MilterProcess]:
    """A front-end whose policy judges at end of message alone."""
    with MilterProcess(tmp_path, stages="") as process:
        yield process


def test_a_message_reaches_the_session_as_it_came(judging: MilterProcess) -> None:
    with MilterMta(judging.address) as mta:
        mta.open()
        answer = mta.send(header=[(b"From", b" a@example.org"), (b"Subject", b"\tb\n c  ")])

    assert answer == Accept()
    assert judging.calls()[:7] == [
        ["connect", "192.0.2.1", "client.example", 12345, "smtpd"],
        ["helo", "client.example", None],
        ["mail", "a@example.org", "a@example.org", None, "4Q1"],
        ["rcpt", "b@example.net", "4Q1"],
        ["data", "4Q1"],
        ["end_of_headers", 2, [["From", " a@example.org"], ["Subject", "\tb\r\n c  "]], "4Q1"],
        ["end_of_message", 6, "4Q1"],
    ]


def test_no_reply_is_wanted_where_no_rule_decides(quiet: MilterProcess) -> None:
    with MilterMta(quiet.address) as mta:
        chosen = mta.negotiate().protocol

    every = [bit for bit in Protocol if bit.name and bit.name.startswith("NO_REPLY") and "UNKNOWN" not in bit.name]
    assert chosen == Protocol.LEADING_SPACE | Protocol.NO_UNKNOWN | sum(every, Protocol(0))


def test_replies_are_wanted_where_rules_decide(judging: MilterProcess) -> None:
    with MilterMta(judging.address) as mta:
        chosen = mta.negotiate()

    assert chosen.protocol == (
        Protocol.LEADING_SPACE | Protocol.NO_UNKNOWN | Protocol.NO_REPLY_HEADER | Protocol.NO_REPLY_BODY
    )
    assert chosen.actions == Action.ADD_HEADER | Action.CHANGE_HEADER | Action.QUARANTINE
    assert chosen.macros == ()


@pytest.mark.parametrize(
    ("version", "actions", "protocol"),
    [(2, Action(0x3F), Protocol(0x7F)), (3, Action(0x3F), Protocol(0x17F)), (6, Action.ADD_HEADER, Protocol.NO_DATA)],
)
def test_what_the_mta_does_not_offer_is_not_asked_for(
    quiet: MilterProcess, version: int, actions: Action, protocol: Protocol
) -> None:
    with MilterMta(quiet.address) as mta:
        chosen = mta.negotiate(actions, protocol, version)
        answers = [
            mta.say(Connect(b"client.example", Family.INET, 1, b"192.0.2.1")),
            mta.say(Helo(b"client.example")),
            mta.say(Mail(b"<a@example.org>")),
            mta.say(Rcpt(b"<b@example.net>")),
            mta.say(HeaderField(b"From", b"a@example.org")),
            mta.say(EndOfHeaders()),
            mta.say(EndOfMessage()),
        ]

    assert chosen.version == version
    assert chosen.actions & ~actions == Action(0)
    assert chosen.protocol & ~protocol == Protocol(0)
    assert answers == [Continue()] * 6 + [Accept()]


def test_the_space_that_an_mta_takes_is_given_back(quiet: MilterProcess) -> None:
    with MilterMta(quiet.address) as mta:
        mta.negotiate(protocol=Protocol(0x3FF))
        mta.say(Connect(b"client.example"))
        mta.send(header=[(b"From", b"a@example.org"), (b"X", b" two"), (b"Y", b"\ttab"), (b"Z", b"\n fold")])

    assert quiet.calls("end_of_headers")[0][1] == [
        ["From", " a@example.org"],
        ["X", "  two"],
        ["Y", "\ttab"],
        ["Z", "\r\n fold"],
    ]


@pytest.mark.parametrize(
    ("stage", "verdict", "expected"),
    [
        *((stage, "reject", ReplyCode(b"550 5.7.1 no 100 ?")) for stage in [*ALL_STAGES.split(","), "end_of_message"]),
        *((stage, "defer", ReplyCode(b"450 4.7.1 later")) for stage in [*ALL_STAGES.split(","), "end_of_message"]),
        ("connect", "discard", ReplyCode(b"451 4.7.1 refused by policy for now, please try again later")),
        ("helo", "discard", ReplyCode(b"451 4.7.1 refused by policy for now, please try again later")),
        *((stage, "discard", Discard()) for stage in ["mail", "rcpt", "data", "end_of_headers", "end_of_message"]),
        *((stage, "accept", Continue()) for stage in ALL_STAGES.split(",")),
        ("end_of_message", "accept", Accept()),
    ],
)
def test_a_verdict_is_answered_at_its_stage(judging: MilterProcess, stage: str, verdict: str, expected: object) -> None:
    word = f"{verdict}-{stage}"
    with MilterMta(judging.address) as mta:
        mta.negotiate()
        answers = {
            "connect": mta.say(Connect(word.encode(), Family.INET, 1, b"192.0.2.1")),
            "helo": mta.say(Helo(word.encode())),
            "mail": mta.say(Mail(f"<{word}@example.org>".encode())),
        }
        if answers["mail"] == Continue():
            answers["rcpt"] = mta.say(Rcpt(b"<b@example.net>"), i=word)
            for name, step in (
                ("data", Data()),
                ("end_of_headers", EndOfHeaders()),
                ("end_of_message", EndOfMessage()),
            ):
                if answers.get("data", Continue()) == Continue() == answers.get("end_of_headers", Continue()):
                    answers[name] = mta.say(step, i=word)

    assert answers[stage] == expected


def test_edits_bring_their_space_and_keep_their_order(judging: MilterProcess) -> None:
    with MilterMta(judging.address) as mta:
        mta.open()
        answer = mta.send(queue_id="edit")

    assert answer == Accept()
    assert mta.edits == [
        ChangeHeader(2, b"Authentication-Results", b""),
        InsertHeader(0, b"X-Test", b" one\n\ttwo"),
    ]


def test_an_edit_that_the_mta_did_not_offer_is_a_fault_and_defers(judging: MilterProcess) -> None:
    with MilterMta(judging.address) as mta:
        mta.negotiate(actions=Action.QUARANTINE)
        mta.say(Connect(b"client.example"))
        answer = mta.send(queue_id="edit")
        second = mta.send()

    assert isinstance(answer, ReplyCode)
    assert answer.text.startswith(DEFERRED)
    assert second == Accept()


def test_a_held_mail_is_quarantined_and_accepted(judging: MilterProcess) -> None:
    with MilterMta(judging.address) as mta:
        mta.open()
        answer = mta.send(queue_id="hold-end_of_message")

    assert answer == Accept()
    assert mta.edits == [Quarantine(b"suspicious mail")]


@pytest.mark.parametrize(
    ("connect", "expected"),
    [
        (Connect(b"c.example", Family.INET, 25, b"192.0.2.1"), ["192.0.2.1", "c.example", 25, None]),
        (Connect(b"[192.0.2.1]", Family.INET, 25, b"192.0.2.1"), ["192.0.2.1", None, 25, None]),
        (Connect(b"unknown", Family.INET, 25, b"192.0.2.1"), ["192.0.2.1", None, 25, None]),
        (Connect(b"c.example", Family.INET6, 25, b"2001:db8::1"), ["2001:db8::1", "c.example", 25, None]),
        (Connect(b"c.example", Family.INET6, 25, b"IPv6:2001:db8::1"), ["2001:db8::1", "c.example", 25, None]),
        (Connect(b"c.example", Family.INET6, 25, b"::ffff:192.0.2.1"), ["192.0.2.1", "c.example", 25, None]),
        (Connect(b"localhost"), [None, "localhost", 0, None]),
        (Connect(b"localhost", Family.UNIX, 0, b"/run/submit"), [None, "localhost", 0, None]),
    ],
)
def test_every_kind_of_client_address_is_read(judging: MilterProcess, connect: Connect, expected: list[object]) -> None:
    with MilterMta(judging.address) as mta:
        mta.negotiate()
        answer = mta.say(connect)

    assert answer == Continue()
    assert judging.calls("connect") == [expected]


def test_a_name_that_sendmail_calls_forged_is_none(judging: MilterProcess) -> None:
    with MilterMta(judging.address) as mta:
        mta.negotiate()
        mta.say(Connect(b"c.example", Family.INET, 0, b"192.0.2.1"), _="c.example [192.0.2.1] (may be forged)")

    assert judging.calls("connect") == [["192.0.2.1", None, 0, None]]


def test_macros_are_read_at_their_stages(judging: MilterProcess) -> None:
    with MilterMta(judging.address) as mta:
        mta.negotiate()
        mta.say(Connect(b"c.example", Family.INET, 0, b"192.0.2.1"), daemon_name="ORIGINATING", client_port="4711")
        mta.say(Helo(b"c"), tls_version="TLSv1.3")
        mta.say(Mail(b"<>"), auth_authen="anna")
        mta.say(Rcpt(b"<postmaster>"), i="4Q9")

    assert judging.calls()[:4] == [
        ["connect", "192.0.2.1", "c.example", 4711, "ORIGINATING"],
        ["helo", "c", "TLSv1.3"],
        ["mail", "", None, "anna", None],
        ["rcpt", "postmaster", "4Q9"],
    ]


def test_each_message_has_its_own_user_and_queue_id(judging: MilterProcess) -> None:
    with MilterMta(judging.address) as mta:
        mta.open()
        mta.say(Mail(b"<a@example.org>"), auth_authen="anna", mail_addr="a@example.org")
        mta.say(Rcpt(b"<b@example.net>"), i="4Q1")
        mta.say(Abort())
        mta.say(Mail(b"<a@example.org>"), mail_addr="a@example.org")

    assert judging.calls("mail") == [
        ["a@example.org", "a@example.org", "anna", None],
        ["a@example.org", "a@example.org", None, None],
    ]


def test_a_macro_that_is_not_utf_8_is_none(judging: MilterProcess) -> None:
    with MilterMta(judging.address) as mta:
        mta.open()
        mta.raw(_packet(b"D", b"Mi\0\xff\xfe\0"))
        answer = mta.say(Mail(b"<a@example.org>"))

    assert answer == Continue()
    assert judging.calls("mail") == [["a@example.org", "a@example.org", None, None]]


@pytest.mark.parametrize(
    ("engine", "unreadable"),
    # No program can name that field, and no signature can cover it: that pymilter cannot read it does no harm.
    [("libmilter", []), ("native", [["Fr\xf6m", " x"]])],
    indirect=["engine"],
)
@pytest.mark.parametrize("stages", [ALL_STAGES, ""])
def test_octets_that_are_not_utf_8_lose_no_mail(tmp_path: Path, stages: str, unreadable: list[list[str]]) -> None:
    with MilterProcess(tmp_path, stages) as process, MilterMta(process.address) as mta:
        mta.open(helo=b"caf\xe9.example")
        answers = [
            mta.send(header=[(b"Fr\xf6m", b" x"), (b"From", b" J\xf6rg <a@example.org>")], sender=b"<\xe9@example.org>")
            for _ in range(2)
        ]

        assert answers == [Accept(), Accept()]
        assert process.calls("helo") == [["caf\udce9.example", None]]
        assert process.calls("mail") == [["\udce9@example.org", None, None, "4Q1"]] * 2
        fields = [*unreadable, ["From", " J\xf6rg <a@example.org>"]]
        assert process.calls("end_of_headers") == [[len(fields), fields, "4Q1"]] * 2
        assert process.errors() == ""


@pytest.mark.parametrize("engine", ["libmilter"], indirect=True)
@pytest.mark.parametrize("stages", [ALL_STAGES, ""])
def test_a_refusal_of_a_helo_that_pymilter_cannot_read_is_given_to_what_comes_next(tmp_path: Path, stages: str) -> None:
    with MilterProcess(tmp_path, stages) as process, MilterMta(process.address) as mta:
        mta.open(helo=b"\xe9 reject-helo")
        answers = [mta.send(), mta.send()]

    assert answers == [ReplyCode(b"550 5.7.1 no 100 ?")] * 2


@pytest.mark.parametrize("engine", ["libmilter"], indirect=True)
def test_a_client_whose_name_cannot_be_read_passes_for_nobody(judging: MilterProcess) -> None:
    with MilterMta(judging.address) as mta:
        mta.open(name=b"caf\xe9.example")
        answer = mta.send()

    assert isinstance(answer, ReplyCode)
    assert answer.text.startswith(DEFERRED)
    assert judging.calls("mail") == []


_FAULTS = [
    (engine, how, stages, stage)
    for engine in ("libmilter", "native")
    for how in ("raise", "exit", "hang")
    for stages in (ALL_STAGES, "")
    for stage in ("mail", "rcpt", "data", "end_of_headers", "end_of_message")
    # Where nobody waits, an engine that is slow does no harm.
    if how != "hang" or stages or stage == "end_of_message"
]


@pytest.mark.parametrize(("engine", "how", "stages", "stage"), _FAULTS, indirect=["engine"])
def test_a_fault_costs_one_message_no_more_than_a_try(
    tmp_path: Path, engine: str, how: str, stages: str, stage: str
) -> None:
    with MilterProcess(tmp_path, stages) as process, MilterMta(process.address) as mta:
        mta.open()
        word = f"{how}-{stage}"
        faulty = mta.send(sender=f"<{word}@example.org>".encode(), queue_id=word)
        mta.say(Abort())
        healthy = eventually(lambda: (answer := mta.send()) == Accept() and answer)

        assert isinstance(faulty, ReplyCode)
        assert faulty.text.startswith(DEFERRED)
        assert healthy == Accept()
        assert f"fault {stage}" in process.errors()


@pytest.mark.parametrize(("on_error", "expected"), [("accept", Accept()), ("reject", None), ("defer", None)])
def test_a_fault_is_answered_as_the_policy_declares(tmp_path: Path, on_error: str, expected: object) -> None:
    with MilterProcess(tmp_path, "", on_error) as process, MilterMta(process.address) as mta:
        mta.open()
        forged = (b"Authentication-Results", b" mx.example.org; spf=pass smtp.mailfrom=bank.example")
        answer = mta.send(header=[forged, (b"From", b" a@example.org")], body=b"raise")

    if expected is None:
        assert isinstance(answer, ReplyCode)
        assert answer.text[:3] == {"reject": b"554", "defer": b"451"}[on_error]
    else:
        assert answer == expected
        assert mta.edits == [ChangeHeader(1, b"Authentication-Results", b"")]


def test_a_fault_before_mail_holds_for_the_connection(tmp_path: Path) -> None:
    with MilterProcess(tmp_path, "") as process, MilterMta(process.address) as mta:
        mta.open(helo=b"raise-helo")
        answers = [mta.send(), mta.send()]

        assert [type(answer) for answer in answers] == [ReplyCode, ReplyCode]
        assert process.calls("mail") == []


@pytest.mark.parametrize("stages", [ALL_STAGES, ""])
@pytest.mark.parametrize("steps", range(5))
def test_abort_ends_a_message_wherever_it_is(tmp_path: Path, stages: str, steps: int) -> None:
    with MilterProcess(tmp_path, stages) as process, MilterMta(process.address) as mta:
        mta.open()
        started = [Mail(b"<a@example.org>"), Rcpt(b"<b@example.net>"), Data(), HeaderField(b"A", b" b"), EndOfHeaders()]
        for step in started[:steps]:
            mta.say(step)
        mta.say(Abort())
        mta.say(Abort())
        answer = mta.send()
        mta.say(Abort())
        second = mta.send()

        assert [answer, second] == [Accept(), Accept()]
        assert process.calls("end_of_headers")[-2:] == [[2, [["From", " a@example.org"], ["Subject", " x"]], "4Q1"]] * 2
        assert process.calls("end_of_message") == [[6, "4Q1"]] * 2


def test_messages_follow_each_other_without_abort(quiet: MilterProcess) -> None:
    with MilterMta(quiet.address) as mta:
        mta.open()
        answers = [mta.send(body=b"x" * size, queue_id=f"4Q{size}") for size in range(1, 6)]

    assert answers == [Accept()] * 5
    assert quiet.calls("end_of_message") == [[size, f"4Q{size}"] for size in range(1, 6)]


@pytest.mark.parametrize("stages", [ALL_STAGES, ""])
def test_a_message_may_have_no_header_and_no_body(tmp_path: Path, stages: str) -> None:
    with MilterProcess(tmp_path, stages) as process, MilterMta(process.address) as mta:
        mta.open()
        bare = mta.send(header=[], body=b"")
        mta.say(Mail(b"<a@example.org>"), mail_mailer="smtp")
        mta.say(Rcpt(b"<b@example.net>"))
        shortest = mta.say(EndOfMessage())

        assert [bare, shortest] == [Accept(), Accept()]
        assert [event for event, *_ in process.calls()][-4:-1] == ["mail", "rcpt", "end_of_headers"]
        assert process.calls("end_of_message") == [[0, "4Q1"], [0, None]]


def test_of_fields_beyond_the_bound_one_arrives_and_mail_goes_on(quiet: MilterProcess) -> None:
    """One more than is taken, so that the mail can be refused; and the next mail is told in full again."""
    with MilterMta(quiet.address) as mta:
        mta.open()
        answers = [
            mta.send(header=[(b"X-%d" % number, b" y") for number in range(count)])
            for count in (MAX_FIELDS, 4 * MAX_FIELDS, 1, MAX_FIELDS)
        ]

    assert answers == [Accept()] * 4
    assert [count for count, *_ in quiet.calls("end_of_headers")] == [MAX_FIELDS, MAX_FIELDS + 1, 1, MAX_FIELDS]


def test_40_megabytes_arrive(quiet: MilterProcess) -> None:
    body = b"slow" + b"x" * 40_000_000
    with MilterMta(quiet.address) as mta:
        mta.open()
        answer = mta.send(body=body)

    assert answer == Accept()
    assert quiet.calls("end_of_message")[0][0] == len(body)


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0" * 64,
        b"\xff" * 64,
        struct.pack("!I", 13) + b"O" + b"\0" * 12,
        struct.pack("!I", 5) + b"O" + b"\0\0\0\6",
        struct.pack("!I", 1) + b"C",
        struct.pack("!I", 0x7FFFFFFF) + b"B",
    ],
)
def test_garbage_ends_its_own_connection_only(judging: MilterProcess, octets: bytes) -> None:
    with MilterMta(judging.address) as mta, MilterMta(judging.address) as other:
        other.open()
        mta.raw(octets)
        mta.socket.close()
        answer = other.send()
        other.quit()

    assert answer == Accept()
    assert judging.end() == "live 0 open 0"


def test_garbage_in_the_middle_ends_the_message(judging: MilterProcess) -> None:
    with MilterMta(judging.address) as mta:
        mta.open()
        mta.say(Mail(b"<a@example.org>"))
        mta.raw(_packet(b"?", b"what"))
        with pytest.raises(ClosedError):
            mta.answer()

    assert eventually(lambda: judging.calls("close")) == [[]]


@pytest.mark.parametrize("steps", range(6))
def test_an_mta_that_goes_away_in_the_middle_leaves_nothing(judging: MilterProcess, steps: int) -> None:
    with MilterMta(judging.address) as mta:
        mta.open()
        started = [Mail(b"<a@example.org>"), Rcpt(b"<b@example.net>"), Data(), HeaderField(b"A", b" b"), EndOfHeaders()]
        for step in started[:steps]:
            mta.say(step)
        mta.raw(struct.pack("!I", 100) + b"B" + b"half")

    assert eventually(lambda: judging.calls("close")) == [[]]
    assert judging.end() == "live 0 open 0"


def _packet(letter: bytes, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload) + 1) + letter + payload
