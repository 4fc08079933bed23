"""The bundled MTA and a real milter: every answer at every stage, every edit, and a milter that goes away."""

import re
import smtplib
from collections.abc import Callable
from typing import Any

import pytest

Start = Callable[..., Any]

_REJECTED = (550, b"5.7.1 Command rejected")
_DEFERRED = (451, b"4.7.1 Service unavailable - try again later")
_TAKEN = re.compile(rb"2\.0\.0 Ok: queued as \w+")
_STAGES = ["envfrom", "envrcpt", "data", "header", "eoh", "body", "eom"]


def _taken(reply: tuple[int, bytes]) -> bool:
    return reply[0] == 250 and _TAKEN.fullmatch(reply[1]) is not None


def _edited(start: Start, *steps: Any, **flags: Any) -> bytes:
    """The header and body below our Received field, after the edits."""
    mta = start({"eom": [*steps, "CONTINUE"], "flags": flags})
    (*_, reply) = mta.send()
    assert _taken(reply), reply
    return _below_trace(mta.mail())


def _below_trace(mail: bytes) -> bytes:
    return re.sub(rb"(?s)\AReturn-Path: [^\n]*\nDelivered-To: [^\n]*\n(.*?)Received: from .*?\n(?=\S|\n)", rb"\1", mail)


def test_a_mail_goes_through_as_it_came(start: Start) -> None:
    mta = start({})
    mail, rcpt, content = mta.send()

    assert mail == (250, b"2.1.0 Ok")
    assert rcpt == (250, b"2.1.5 Ok")
    assert _taken(content)
    assert _below_trace(mta.mail()) == b"From: a@example.org\nSubject: one\nTo: b@example.net\nSubject: two\n\nbody\n"


def test_the_milter_sees_what_postfix_shows(start: Start) -> None:
    mta = start({})
    client = mta.client("client.example")
    mta.send(client=client)
    client.quit()
    mta.milter.wait_for("close")

    seen = [[event, *arguments] for event, *arguments, _ in mta.milter.seen if event != "close"]
    (port,) = [arguments[1][1] for event, *arguments in seen if event == "connect"]
    assert [
        ["connect", "localhost", ["127.0.0.1", port]],
        ["hello", "client.example"],
        ["envfrom", "<a@example.org>", []],
        ["envrcpt", "<b@example.net>", []],
        ["data"],
        ["header", "From", "a@example.org"],
        ["header", "Subject", "one"],
        ["header", "To", "b@example.net"],
        ["header", "Subject", "two"],
        ["eoh"],
        ["body", 6, "body\r\n"],
        ["eom"],
    ] == seen


def test_macros_are_there_when_postfix_sends_them(start: Start) -> None:
    mta = start({}, users={"alice": "secret"})
    client = mta.client()
    client.login("alice", "secret")
    mta.send(client=client, recipients=("b@example.net", "c@example.net"))

    (connect,) = mta.milter.macros("connect")
    assert connect == {
        "j": "mx.example.net",
        "_": "localhost [127.0.0.1]",
        "v": "filterd mta",
        "{daemon_name}": "mx.example.net",
        "{daemon_addr}": "127.0.0.1",
    }
    (mail,) = mta.milter.macros("envfrom")
    sender = {"{mail_addr}": "a@example.org", "{mail_host}": "example.org", "{mail_mailer}": "smtp"}
    assert {**connect, **sender, "{auth_type}": "PLAIN", "{auth_authen}": "alice"} == mail
    first, second = mta.milter.macros("envrcpt")
    assert {**mail, "{rcpt_addr}": "b@example.net", "{rcpt_host}": "example.net", "{rcpt_mailer}": "virtual"} == first
    # The queue file is made after the first recipient is accepted.
    assert {**first, "{rcpt_addr}": "c@example.net", "i": second["i"]} == second
    (end,) = mta.milter.macros("eom")
    assert second["i"] == end["i"]


def test_a_milter_may_ask_for_other_macros(start: Start) -> None:
    mta = start({"flags": {"macros": {"M_CONNECT": "{client_addr} {client_port} {daemon_port}"}}})
    mta.send()

    (connect,) = mta.milter.macros("connect")
    assert {"{client_addr}", "{client_port}", "{daemon_port}"} == set(connect)
    assert str(mta.server.port) == connect["{daemon_port}"]
    # A stage that it says nothing of keeps the MTA's list.
    (mail,) = mta.milter.macros("envfrom")
    assert mail["{mail_addr}"] == "a@example.org"


@pytest.mark.parametrize("stage", _STAGES)
@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (["REJECT"], _REJECTED),
        (["TEMPFAIL"], _DEFERRED),
        ([["setreply", "554", "5.7.0", "no %% thanks"], "REJECT"], (554, b"5.7.0 no % thanks")),
        ([["setreply", "450", "4.7.0", "a", "b"], "TEMPFAIL"], (450, b"4.7.0 a\n4.7.0 b")),
    ],
)
def test_a_refusal_is_the_reply_to_the_command_that_it_was_given_for(
    start: Start, stage: str, answer: list[Any], reply: tuple[int, bytes]
) -> None:
    mta = start({stage: answer})
    replies = mta.send()

    assert reply == replies[-1]
    assert min(_STAGES.index(stage) + 1, 3) == len(replies)
    assert mta.files == []


def test_a_refused_recipient_leaves_the_others(start: Start) -> None:
    mta = start({"envrcpt": {"<no@example.net>": ["REJECT"]}})
    client = mta.client()
    client.docmd("MAIL FROM:<>")

    assert client.docmd("RCPT TO:<no@example.net>") == _REJECTED
    assert client.docmd("RCPT TO:<b@example.net>") == (250, b"2.1.5 Ok")
    assert client.docmd("DATA")[0] == 354
    client.send(b"Subject: x\r\n\r\n.\r\n")
    assert _taken(client.getreply())
    assert b"Return-Path: <>\n" in mta.mail()
    assert not (mta.maildir / "no@example.net").exists()


def test_a_refused_sender_can_be_followed_by_another(start: Start) -> None:
    mta = start({"envfrom": ["REJECT"]})
    client = mta.client()

    assert mta.send(client=client) == [_REJECTED]
    assert mta.send(client=client) == [_REJECTED]
    assert mta.milter.events.count("envfrom") == 2


@pytest.mark.parametrize("stage", _STAGES)
def test_accept_ends_the_questions_for_this_message_only(start: Start, stage: str) -> None:
    mta = start({stage: ["ACCEPT"]})
    client = mta.client()

    assert _taken(mta.send(client=client)[-1])
    assert _taken(mta.send(client=client)[-1])
    later = _STAGES[_STAGES.index(stage) + 1 :]
    assert mta.milter.events.count(stage) == 2
    assert not {*later} & {*mta.milter.events}
    assert len(mta.mails()) == 2


@pytest.mark.parametrize("stage", _STAGES)
def test_discard_says_ok_and_delivers_nothing(start: Start, stage: str) -> None:
    mta = start({stage: ["DISCARD"]})

    assert _taken(mta.send()[-1])
    assert mta.files == []


@pytest.mark.parametrize("stage", ["connect", "hello"])
def test_accept_before_mail_ends_the_questions_for_the_session(start: Start, stage: str) -> None:
    mta = start({stage: ["ACCEPT"]})
    client = mta.client()

    assert _taken(mta.send(client=client)[-1])
    assert _taken(mta.send(client=client)[-1])
    assert not {"envfrom", "eom"} & {*mta.milter.events}


def test_a_client_that_is_rejected_at_connect_is_greeted_with_554(start: Start) -> None:
    mta = start({"connect": ["REJECT"]})
    client = mta.client()

    assert client.greeting[0] == 554
    assert mta.send(client=client) == [_REJECTED]
    assert client.quit()[0] == 221


@pytest.mark.parametrize(
    ("stage", "answer", "reply"),
    [
        ("connect", ["TEMPFAIL"], _DEFERRED),
        ("hello", ["TEMPFAIL"], _DEFERRED),
        ("hello", ["REJECT"], _REJECTED),
        ("hello", [["setreply", "550", "5.7.1", "go away"], "REJECT"], (550, b"5.7.1 go away")),
    ],
)
def test_any_other_refusal_before_mail_is_said_at_mail(
    start: Start, stage: str, answer: list[Any], reply: tuple[int, bytes]
) -> None:
    mta = start({stage: answer})
    client = mta.client()

    assert client.greeting[0] == 220
    assert [reply] == mta.send(client=client)
    assert [reply] == mta.send(client=client)
    assert "envfrom" not in mta.milter.events


@pytest.mark.parametrize("stage", ["envfrom", "eom"])
def test_421_ends_the_connection(start: Start, stage: str) -> None:
    mta = start({stage: [["setreply", "421", "4.7.0", "bye"], "TEMPFAIL"]})
    client = mta.client()

    assert mta.send(client=client)[-1] == (421, b"4.7.0 bye")
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.noop()


def test_skip_ends_the_body_but_not_the_message(start: Start) -> None:
    mta = start({"body": ["SKIP"]})
    mta.send(b"Subject: x\r\n\r\n" + b"x" * 70 * 1024 + b"\r\n" * 70 * 1024)

    assert mta.milter.events.count("body") == 1
    assert mta.milter.events.count("eom") == 1


def test_a_body_comes_in_chunks(start: Start) -> None:
    mta = start({})
    mta.send(b"Subject: x\r\n\r\n" + b"0123456789abcd\r\n" * 10_000)

    assert [arguments[:1] for arguments in mta.milter.arguments("body")] == [[65535], [65535], [28930]]


@pytest.mark.parametrize(
    "noreply", [["header"], ["header", "eoh", "body"], ["connect", "hello", *_STAGES[:-1], "unknown"]]
)
def test_commands_that_are_not_answered(start: Start, noreply: list[str]) -> None:
    mta = start({"flags": {"noreply": noreply}, "eom": [["addheader", "X-Seen", "yes"], "CONTINUE"]})
    client = mta.client()
    for _ in range(2):
        assert _taken(mta.send(client=client)[-1])
    assert all(b"X-Seen: yes\n" in mail for mail in mta.mails())
    assert mta.milter.events.count("header") == 8


@pytest.mark.parametrize("unsent", [[each] for each in ("connect", "hello", *_STAGES[:-1])] + [_STAGES[:-1]])
def test_commands_that_are_not_sent(start: Start, unsent: list[str]) -> None:
    mta = start({"flags": {"nocallback": unsent}})

    assert _taken(mta.send()[-1])
    assert not {*unsent} & {*mta.milter.events}
    assert mta.milter.events.count("eom") == 1


@pytest.mark.parametrize(
    ("edit", "header"),
    [
        (["addheader", "X-New", "v"], "FSTS+"),
        (["addheader", "X-New", "v", 0], "+FSTS"),
        (["addheader", "X-New", "v", 1], "+FSTS"),
        (["addheader", "X-New", "v", 2], "F+STS"),
        (["addheader", "X-New", "v", 99], "FSTS+"),
        (["chgheader", "Subject", 1, "changed"], "FsTS"),
        (["chgheader", "subject", 2, "changed"], "FSTs"),
        (["chgheader", "Subject", 0, "changed"], "FsTS"),
        (["chgheader", "Subject", 3, "changed"], "FSTSs"),
        (["chgheader", "Subject", 1, ""], "FTS"),
        (["chgheader", "Subject", 2, ""], "FST"),
        (["chgheader", "Subject", 3, ""], "FSTS"),
        (["chgheader", "X-Not-There", 1, ""], "FSTS"),
        (["chgheader", "Received", 1, ""], "FSTS"),
    ],
)
@pytest.mark.parametrize("leading_space", [False, True])
def test_header_edits(start: Start, edit: list[Any], header: str, leading_space: bool) -> None:
    """As Postfix's cleanup_milter.c counts: inserts in the mail as delivered, changes in the header as shown."""
    letters = {
        "F": b"From: a@example.org\n",
        "T": b"To: b@example.net\n",
        "+": b"X-New: v\n",
        "s": b"Subject: changed\n",
    }
    subjects = iter(
        [b"Subject: two\n"]
        if edit[:2] == ["chgheader", "Subject"] and header in ("FTS", "FsTS")
        else [b"Subject: one\n", b"Subject: two\n"]
    )
    expected = b"".join(next(subjects) if letter == "S" else letters[letter] for letter in header)
    if leading_space and edit[-1] and edit[0] == "chgheader":
        edit = [*edit[:-1], " " + edit[-1]]
    elif leading_space and edit[0] == "addheader":
        edit = [*edit[:2], " " + edit[2], *edit[3:]]
    name = expected if edit[1] != "subject" else expected.replace(b"Subject: changed", b"subject: changed")

    assert name + b"\nbody\n" == _edited(start, edit, leading_space=leading_space)


def test_index_0_is_above_our_own_received_field_and_1_below(start: Start) -> None:
    mta = start({"eom": [["addheader", "X-Below", "v", 1], ["addheader", "X-Above", "v", 0], "ACCEPT"]})
    mta.send()
    names = re.findall(rb"(?m)^([\w-]+):", mta.mail())

    assert names[:6] == [b"Return-Path", b"Delivered-To", b"X-Above", b"Received", b"X-Below", b"From"]


def test_a_received_field_of_others_counts_and_ours_does_not(start: Start) -> None:
    mta = start({"eom": [["chgheader", "Received", 1, "changed"], "ACCEPT"]})
    mta.send(b"Received: from elsewhere\r\nSubject: x\r\n\r\n")

    assert mta.milter.arguments("header") == [["Received", "from elsewhere"], ["Subject", "x"]]
    assert _below_trace(mta.mail()) == b"Received: changed\nSubject: x\n\n"


def test_deleting_in_descending_order_deletes_what_was_counted(start: Start) -> None:
    edits = [["chgheader", "Subject", 2, ""], ["chgheader", "Subject", 1, ""]]

    assert _edited(start, *edits) == b"From: a@example.org\nTo: b@example.net\n\nbody\n"


def test_a_value_of_several_lines_is_folded_where_it_breaks(start: Start) -> None:
    value = "a\n\tb\nSubject: not a field"

    assert b"X-Long: a\n\tb\n\tSubject: not a field\n" in _edited(start, ["addheader", "X-Long", value])


def test_a_milter_that_asks_for_it_sees_the_space(start: Start) -> None:
    mta = start({"flags": {"leading_space": True}})
    mta.send(b"A: one\r\nB:two\r\nC:  three\r\nD:\tfour\r\n five\r\nE:\r\n\r\n")

    expected = [["A", " one"], ["B", "two"], ["C", "  three"], ["D", "\tfour\n five"], ["E", ""]]
    assert expected == mta.milter.arguments("header")


def test_without_it_one_space_is_eaten_but_no_tab(start: Start) -> None:
    mta = start({})
    mta.send(b"A: one\r\nB:two\r\nC:  three\r\nD:\tfour\r\n five\r\n\r\n")

    assert mta.milter.arguments("header") == [["A", "one"], ["B", "two"], ["C", " three"], ["D", "\tfour\n five"]]


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        (["new\r\n"], b"new\n"),
        (["one\n", "two"], b"one\ntwo\n"),
        (["a" * 100_000 + "\r\n"], b"a" * 100_000 + b"\n"),
        ([".\r\n"], b".\n"),
    ],
)
def test_the_body_can_be_replaced(start: Start, pieces: list[str], body: bytes) -> None:
    mail = _edited(start, *(["replacebody", piece] for piece in pieces))

    assert body == mail.partition(b"\n\n")[2]


def test_recipients_can_be_added_and_removed(start: Start) -> None:
    edits = [["addrcpt", "<new@example.net>"], ["addrcpt", "new@example.net"], ["delrcpt", "<b@example.net>"]]
    mta = start({"eom": [*edits, ["addrcpt", "<par@example.net>", "NOTIFY=NEVER"], "CONTINUE"]})

    assert _taken(mta.send()[-1])
    assert mta.mails("b@example.net") == []
    assert 1 == len(mta.mails("new@example.net")) == len(mta.mails("par@example.net"))


def test_a_mail_that_has_lost_all_recipients_goes_nowhere(start: Start) -> None:
    mta = start({"eom": [["delrcpt", "<b@example.net>"], "CONTINUE"]})

    assert _taken(mta.send()[-1])
    assert mta.files == []


@pytest.mark.parametrize(("sender", "path"), [("<x@example.com>", b"<x@example.com>"), ("<>", b"<>")])
def test_the_sender_can_be_changed(start: Start, sender: str, path: bytes) -> None:
    mta = start({"eom": [["chgfrom", sender, "RET=HDRS"], "CONTINUE"]})
    mta.send()

    assert mta.mail().startswith(b"Return-Path: " + path + b"\n")


def test_quarantine_keeps_the_mail_with_its_envelope_and_reason(start: Start) -> None:
    mta = start({"eom": [["addheader", "X-New", "v"], ["quarantine", "smells of spam"], "ACCEPT"]})

    assert _taken(mta.send()[-1])
    assert mta.mails() == []
    (held,) = mta.held
    assert held.sender == "a@example.org"
    assert [each.address for each in held.recipients] == ["b@example.net"]
    assert held.hold == "smells of spam"
    assert b"X-New: v\r\n" in mta.server.queue.content(held.queue_id)


def test_a_mail_that_was_to_be_held_can_still_be_refused(start: Start) -> None:
    mta = start({"eom": [["quarantine", "hm"], "REJECT"]})

    assert mta.send()[-1] == _REJECTED
    assert mta.files == []


def test_edits_of_a_refused_message_leave_no_trace_in_the_next(start: Start) -> None:
    first = [["addheader", "X-First", "v"], ["addrcpt", "<x@example.net>"], ["quarantine", "q"], "REJECT"]
    mta = start({"per_message": [first, [["addheader", "X-Second", "v"], "ACCEPT"]]})
    client = mta.client()

    assert mta.send(client=client)[-1] == _REJECTED
    assert _taken(mta.send(client=client)[-1])
    assert b"X-First" not in mta.mail()
    assert b"X-Second: v\n" in mta.mail()
    assert mta.held == []


def test_progress_does_nothing_but_wait(start: Start) -> None:
    mta = start({"eom": [["progress"], ["addheader", "X-New", "v"], ["progress"], "CONTINUE"]})
    mta.send()

    assert b"X-New: v\n" in mta.mail()


def test_many_messages_go_over_one_connection_to_the_milter(start: Start) -> None:
    mta = start({})
    client = mta.client()
    for number in range(20):
        assert _taken(mta.send(b"Subject: %d\r\n\r\n" % number, client=client)[-1])

    assert mta.milter.events.count("connect") == 1
    assert mta.milter.events.count("eom") == 20
    assert len({macros["i"] for macros in mta.milter.macros("eom")}) == 20


def test_rset_aborts(start: Start) -> None:
    mta = start({})
    client = mta.client()
    client.docmd("MAIL FROM:<a@example.org>")
    client.rset()
    mta.milter.wait_for("abort")

    assert _taken(mta.send(client=client)[-1])


def test_ehlo_in_the_middle_of_a_message_aborts_it(start: Start) -> None:
    mta = start({})
    client = mta.client()
    client.docmd("MAIL FROM:<a@example.org>")
    client.docmd("RCPT TO:<b@example.net>")
    client.ehlo("again.example")

    assert client.docmd("RCPT TO:<b@example.net>")[0] == 503
    assert _taken(mta.send(client=client)[-1])
    assert mta.milter.arguments("hello") == [["client.example"], ["again.example"]]


def test_unknown_commands_are_told(start: Start) -> None:
    mta = start({"unknown": ["TEMPFAIL"]})

    assert mta.client().docmd("FROB", "nicate") == _DEFERRED
    assert mta.milter.arguments("unknown") == [["FROB"]]


def test_a_hard_refusal_of_an_unknown_command_does_not_replace_ours(start: Start) -> None:
    assert start({"unknown": ["REJECT"]}).client().docmd("FROB")[0] == 500


def test_milters_see_what_those_before_them_made(start: Start) -> None:
    first = {"eom": [["chgheader", "Subject", 1, "changed"], ["addheader", "X-First", "v", 0], "ACCEPT"]}
    mta = start(first, {"eom": [["addheader", "X-Second", "v"], "CONTINUE"]})
    mta.send()

    first, second = mta.milters
    assert second.arguments("header")[0] == ["X-First", "v"]
    assert ["Subject", "changed"] in second.arguments("header")
    assert b"X-First: v\nReceived:" in mta.mail()
    assert b"X-Second: v\n" in mta.mail()


def test_the_first_refusal_decides(start: Start) -> None:
    mta = start({"envfrom": ["REJECT"]}, {"envfrom": ["TEMPFAIL"]})

    assert mta.send() == [_REJECTED]
    assert "envfrom" not in mta.milters[1].events


_AWAY = [("tempfail", _DEFERRED), ("reject", (550, b"5.5.0 Service unavailable"))]


@pytest.mark.parametrize("stage", ["connect", "hello", *_STAGES])
@pytest.mark.parametrize(("action", "reply"), _AWAY)
def test_a_milter_that_dies_gets_the_default_action(
    start: Start, stage: str, action: str, reply: tuple[int, bytes]
) -> None:
    mta = start({stage: [["die"], "CONTINUE"]}, default_action=action)
    client = mta.client()

    assert reply == mta.send(client=client)[-1]
    client.rset()
    assert [reply] == mta.send(client=client)
    assert mta.files == []


@pytest.mark.parametrize("stage", ["connect", "hello", *_STAGES])
def test_by_accept_its_mail_goes_on_unedited(start: Start, stage: str) -> None:
    mta = start({stage: [["die"], "CONTINUE"]}, default_action="accept")
    client = mta.client()

    assert _taken(mta.send(client=client)[-1])
    assert _taken(mta.send(client=client)[-1])
    assert len(mta.mails()) == 2


@pytest.mark.parametrize("stage", ["connect", "envrcpt", "eom"])
def test_by_quarantine_it_is_held(start: Start, stage: str) -> None:
    mta = start({stage: [["die"], "CONTINUE"]}, default_action="quarantine")

    assert _taken(mta.send()[-1])
    assert mta.mails() == []
    assert len(mta.held) == 1


def test_edits_of_a_milter_that_dies_before_its_verdict_are_not_made(start: Start) -> None:
    edits = [["addheader", "X-New", "v"], ["replacebody", "half"], ["delrcpt", "<b@example.net>"]]
    mta = start({"eom": [*edits, ["die"], "CONTINUE"]}, default_action="accept")
    mta.send()

    assert mta.mail().endswith(b"Subject: two\n\nbody\n")


def test_the_next_session_tries_again(start: Start, tmp_path: Any) -> None:
    mta = start(milters=(f"unix:{tmp_path}/nobody.sock",))

    assert mta.send() == [_DEFERRED]


@pytest.mark.parametrize("stage", ["connect", "envfrom", "eom"])
def test_a_milter_that_is_too_slow_is_as_good_as_away(start: Start, stage: str) -> None:
    script = {stage: [["sleep", 60], "CONTINUE"]}
    mta = start(script, milter_command_timeout=0.3, milter_content_timeout=0.3)

    assert mta.send()[-1] == _DEFERRED


def test_a_milter_over_tcp(start: Start, tmp_path: Any) -> None:
    mta = start(milters=("inet:1@127.0.0.1",), default_action="accept")

    assert _taken(mta.send()[-1])


@pytest.mark.parametrize("wanted", [True, False])
def test_a_recipient_that_is_refused_before_is_told_to_who_wants_that(start: Start, wanted: bool) -> None:
    """No policy service answers: only the postmaster is taken, about whom none is asked."""
    script = {"flags": {"rejected_recipients": wanted}}
    mta = start(script, policy_services=("unix:/nonexistent/policy",), policy_retry_delay=0)
    replies = mta.send(recipients=("b@example.net", "postmaster"))

    assert [code for code, _ in replies] == [250, 451, 250, 250]
    told = [
        (path, *(macros[f"{{rcpt_{name}}}"] for name in ("mailer", "host", "addr")))
        for (path, _), macros in zip(mta.milter.arguments("envrcpt"), mta.milter.macros("envrcpt"), strict=True)
    ]
    refused = ("<b@example.net>", "error", "4.3.5", replies[1][1].decode())
    taken = ("<postmaster>", "virtual", "mx.example.net", "postmaster")
    assert told == ([refused, taken] if wanted else [taken])
