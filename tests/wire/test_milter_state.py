"""Which packet may come when."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.wire import milter as m
from filterd.wire.milter_state import (
    EDITS,
    NOT_ANSWERED,
    REPLIES,
    VERSIONS,
    Order,
    is_answered,
    is_legal_reply,
    is_sent,
)

_KINDS = [kind for kind in vars(m).values() if isinstance(kind, type) and issubclass(kind, m.Packet)]
_ALL = m.Action(0x1FF)
_NONE = m.Protocol(0)
_MESSAGE = [m.Mail, m.Rcpt, m.Data, m.HeaderField, m.EndOfHeaders, m.BodyChunk, m.EndOfMessage]


def _follows(*commands: type[m.Packet], protocol: m.Protocol = _NONE) -> list[bool]:
    order = Order()
    return [order.follow(command, protocol) for command in commands]


def test_a_whole_session_is_in_order() -> None:
    session = [m.Negotiate, m.Macros, m.Connect, m.Macros, m.Helo, m.Helo, *_MESSAGE, *_MESSAGE, m.Abort, m.Abort]

    assert all(_follows(*session, m.Helo, m.Mail, m.Rcpt, m.Rcpt, m.Abort, m.Mail, m.Quit))


@pytest.mark.parametrize("left_out", [m.Helo, m.Data, m.HeaderField, m.EndOfHeaders, m.BodyChunk])
def test_some_commands_may_be_missing(left_out: type[m.Packet]) -> None:
    session = [m.Negotiate, m.Connect, m.Helo, *_MESSAGE]

    assert all(_follows(*(command for command in session if command is not left_out)))


@pytest.mark.parametrize(
    ("left_out", "flag"),
    [
        (m.Connect, m.Protocol.NO_CONNECT),
        (m.Mail, m.Protocol.NO_MAIL),
        (m.Rcpt, m.Protocol.NO_RCPT),
    ],
)
def test_others_only_where_it_was_negotiated(left_out: type[m.Packet], flag: m.Protocol) -> None:
    session = [command for command in [m.Negotiate, m.Connect, m.Helo, *_MESSAGE] if command is not left_out]

    assert all(_follows(*session, protocol=flag))
    assert not all(_follows(*session))


@pytest.mark.parametrize(
    "session",
    [
        [m.Connect],
        [m.Negotiate, m.Negotiate],
        [m.Negotiate, m.Connect, m.Connect],
        [m.Negotiate, m.Connect, m.Mail, m.Mail],
        [m.Negotiate, m.Connect, m.Mail, m.Data],
        [m.Negotiate, m.Connect, *_MESSAGE, m.Connect],
        [m.Negotiate, m.Connect, *_MESSAGE, m.BodyChunk],
        [m.Negotiate, m.Connect, m.Mail, m.Rcpt, m.EndOfHeaders, m.HeaderField],
        [m.Negotiate, m.Quit, m.Mail],
        [m.Negotiate, m.Quit, m.Abort],
        [m.Negotiate, m.Connect, m.Continue],
    ],
)
def test_what_is_out_of_order_may_not_come(session: list[type[m.Packet]]) -> None:
    *before, last = _follows(*session)

    assert all(before)
    assert not last


def test_after_quit_nc_another_client_comes() -> None:
    session = [m.Negotiate, m.Connect, m.Helo, *_MESSAGE, m.QuitNewConnection, m.Connect, m.Mail]

    assert all(_follows(*session))


def test_an_abort_before_connect_does_not_stand_for_it() -> None:
    before, abort, mail = _follows(m.Negotiate, m.Abort, m.Mail)

    assert before
    assert abort
    assert not mail


@given(st.lists(st.sampled_from(_KINDS)), st.integers(0, 2**32 - 1))
def test_no_order_of_packets_breaks_it(session: list[type[m.Packet]], protocol: int) -> None:
    assert len(session) == len(_follows(*session, protocol=m.Protocol(protocol)))


def test_edits_are_legal_at_the_end_of_a_message_alone() -> None:
    legal = {(command, edit) for command in REPLIES for edit in EDITS if is_legal_reply(command, edit, _ALL)}

    assert {(m.EndOfMessage, edit) for edit in EDITS} == legal


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_needs_what_was_negotiated(edit: type[m.Packet]) -> None:
    assert is_legal_reply(m.EndOfMessage, edit, EDITS[edit])
    assert not is_legal_reply(m.EndOfMessage, edit, _ALL & ~EDITS[edit])


@pytest.mark.parametrize("command", [m.Connect, m.Helo])
def test_a_session_cannot_be_discarded(command: type[m.Packet]) -> None:
    assert not is_legal_reply(command, m.Discard, _ALL)


@pytest.mark.parametrize("command", [m.Macros, m.Abort, m.Quit, m.QuitNewConnection])
def test_some_commands_are_never_answered(command: type[m.Packet]) -> None:
    assert not is_answered(command, _NONE)


@pytest.mark.parametrize("command", NOT_ANSWERED)
def test_others_only_as_negotiated(command: type[m.Packet]) -> None:
    assert is_answered(command, _NONE)
    assert not is_answered(command, NOT_ANSWERED[command])


def test_the_end_of_a_message_is_always_sent_and_answered() -> None:
    everything = m.Protocol(0x1FFFFF)

    assert is_sent(m.EndOfMessage, everything)
    assert is_answered(m.EndOfMessage, everything)


def test_later_versions_know_more() -> None:
    known = [VERSIONS[version] for version in sorted(VERSIONS)]

    assert all(earlier | later == later for earlier, later in pairwise(known))
