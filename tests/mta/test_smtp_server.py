"""The SMTP side: what is taken, what is refused, and what XCLIENT and AUTH make of a client."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from filterd.mta.config import MtaConfig
from filterd.mta.server import BundledMta

Start = Callable[..., Any]
_TAKEN = b"250 2.0.0 Ok: queued as"


class Raw:
    """A client that writes octets as they are."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.file = self.socket.makefile("rb")

    def reply(self) -> bytes:
        line = bytes(self.file.readline())
        return line if line[3:4] != b"-" else self.reply()

    def say(self, octets: bytes) -> bytes:
        self.socket.sendall(octets)
        return self.reply()

    def to_data(self) -> None:
        self.reply()
        for command in (b"EHLO x\r\n", b"MAIL FROM:<a@example.org>\r\n", b"RCPT TO:<b@example.net>\r\n", b"DATA\r\n"):
            self.say(command)


@pytest.fixture
def raw(start: Start) -> Any:
    mta = start()
    client = Raw(mta.server.port)
    client.to_data()
    yield mta, client
    client.file.close()
    client.socket.close()


def test_ehlo_offers_what_there_is(start: Start) -> None:
    client = start(users={"alice": "secret"}).client()

    offered = {"pipelining", "size", "auth", "xclient", "enhancedstatuscodes", "8bitmime", "smtputf8"}
    assert offered == set(client.esmtp_features)
    assert client.esmtp_features["auth"].strip() == "PLAIN LOGIN"


def test_without_users_and_xclient_they_are_not_offered(start: Start) -> None:
    client = start(xclient=False).client()

    assert not {"auth", "xclient"} & set(client.esmtp_features)
    assert client.docmd("AUTH PLAIN")[0] == 500
    assert client.docmd("XCLIENT ADDR=192.0.2.1")[0] == 550


@pytest.mark.parametrize("mechanism", ["auth_plain", "auth_login"])
def test_a_user_logs_in(start: Start, mechanism: str) -> None:
    mta = start(users={"alice": "secret"})
    client = mta.client()
    client.user, client.password = "alice", "secret"
    client.auth(mechanism[5:].upper(), getattr(client, mechanism))
    mta.send(client=client)

    assert b"with ESMTPA id" in mta.mail()


@pytest.mark.parametrize(("user", "password"), [("alice", "wrong"), ("bob", "secret"), ("bob", "secretx"), ("", "")])
def test_a_stranger_does_not(start: Start, user: str, password: str) -> None:
    client = start(users={"alice": "secret"}).client()
    client.user, client.password = user, password

    assert client.docmd("AUTH PLAIN", _plain(user, password))[0] == 535
    assert client.docmd("AUTH PLAIN", _plain(user, password))[0] == 535
    assert client.docmd("AUTH PLAIN", _plain(user, password))[0] == 421


def _plain(user: str, password: str) -> str:
    from base64 import b64encode

    return b64encode(f"\0{user}\0{password}".encode()).decode()


def test_users_may_be_a_function(start: Start) -> None:
    client = start(users=lambda user, password: user == password[::-1]).client()

    assert client.login("abc", "cba")[0] == 235


def test_xclient_makes_the_client_another(start: Start) -> None:
    mta = start({})
    client = mta.client()
    attributes = "NAME=h.example.com ADDR=192.0.2.7 PORT=1234 LOGIN=alice"

    assert client.docmd("XCLIENT", attributes)[0] == 220
    client.ehlo("other.example")
    mta.send(client=client)
    assert mta.milter.arguments("connect") == [
        ["localhost", mta.milter.arguments("connect")[0][1]],
        ["h.example.com", ["192.0.2.7", 1234]],
    ]
    (mail,) = mta.milter.macros("envfrom")
    assert {
        "{auth_authen}": "alice",
        "{auth_type}": "XCLIENT",
        "_": "h.example.com [192.0.2.7]",
    }.items() <= mail.items()
    assert b"Received: from other.example (h.example.com [192.0.2.7])\n" in mta.mail()
    assert b"with ESMTPA id" in mta.mail()


@pytest.mark.parametrize(
    ("attributes", "connect", "described"),
    [
        ("NAME=[UNAVAILABLE] ADDR=192.0.2.7", ["[192.0.2.7]", ["192.0.2.7"]], "localhost [192.0.2.7] (may be forged)"),
        (
            "NAME=[UNAVAILABLE] REVERSE_NAME=h.example ADDR=192.0.2.7",
            ["[192.0.2.7]", ["192.0.2.7"]],
            "h.example [192.0.2.7] (may be forged)",
        ),
        ("NAME=h.example ADDR=IPV6:2001:db8::1", ["h.example", ["2001:db8::1"]], "h.example [2001:db8::1]"),
        ("ADDR=192.0.2.7", ["localhost", ["192.0.2.7"]], "localhost [192.0.2.7]"),
    ],
)
def test_xclient_as_postfix_takes_it(start: Start, attributes: str, connect: list[Any], described: str) -> None:
    mta = start({})
    client = mta.client()
    client.docmd("XCLIENT", attributes)
    mta.milter.wait_for("connect", times=2)

    name, address = mta.milter.arguments("connect")[1]
    assert connect == [name, address[:1]]
    assert described == mta.milter.macros("connect")[1]["_"]


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        "ADDR",
        "ADDR=",
        "ADDR=nonsense",
        "NAME=not..a.name",
        "PORT=65536",
        "PROTO=X",
        "FOO=1",
        "HELO=+00",
        "HELO=" + "a" * 256,
    ],
)
def test_xclient_that_is_wrong_changes_nothing(start: Start, attributes: str) -> None:
    mta = start()
    client = mta.client()

    assert client.docmd("XCLIENT", attributes)[0] == 501
    mta.send(client=client)
    assert b"(localhost [127.0.0.1])" in mta.mail()


def test_xclient_is_not_for_the_middle_of_a_mail(start: Start) -> None:
    client = start().client()
    client.docmd("MAIL FROM:<>")

    assert client.docmd("XCLIENT ADDR=192.0.2.1")[0] == 503


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("MAIL FROM:<a@example.org> SIZE=1000 BODY=8BITMIME", 250),
        ("MAIL FROM:<a@example.org> AUTH=<>", 250),
        ("mail from: <a@example.org>", 250),
        ("MAIL FROM:<>", 250),
        ('MAIL FROM:<"a b"@example.org>', 250),
        ("MAIL FROM:<@relay.example:a@example.org>", 250),
        ("MAIL FROM:<rené@example.org> SMTPUTF8", 250),
        ("MAIL FROM:<rené@example.org>", 553),
        ("MAIL FROM:<a@example.org> SIZE=999999999999", 552),
        ("MAIL FROM:<a@example.org> RET=HDRS", 555),
        ("MAIL FROM:<a@example.org> BODY=BINARYMIME", 555),
        ("MAIL FROM:<a@example.org> =x", 501),
        ("MAIL FROM:a@example.org", 501),
        ("MAIL FROM:<a@example.org", 501),
        ("MAIL FROM:<a@example.org> <b@example.org>", 501),
        ("MAIL TO:<a@example.org>", 501),
        ("MAIL", 501),
        ("MAIL FROM:<a@>", 553),
        ("MAIL FROM:<a@@b>", 553),
    ],
)
def test_mail(start: Start, command: str, code: int) -> None:
    client = start().client()
    client.command_encoding = "utf-8"

    assert code == client.docmd(command)[0]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("RCPT TO:<b@example.net>", 250),
        ("RCPT TO:<postmaster>", 250),
        ("RCPT TO:<b@[192.0.2.1]>", 250),
        ("RCPT TO:<>", 501),
        ("RCPT TO:<b>", 553),
        ("RCPT TO:<b@example.net> NOTIFY=NEVER", 555),
        ("RCPT", 501),
    ],
)
def test_rcpt(start: Start, command: str, code: int) -> None:
    client = start().client()
    client.docmd("MAIL FROM:<>")

    assert code == client.docmd(command)[0]


def test_commands_out_of_order(start: Start) -> None:
    client = start().client()

    assert client.docmd("RCPT TO:<b@example.net>")[0] == 503
    assert client.docmd("DATA")[0] == 503
    client.docmd("MAIL FROM:<>")
    assert client.docmd("MAIL FROM:<>")[0] == 503
    assert client.docmd("DATA")[0] == 503


def test_no_helo_no_mail(start: Start) -> None:
    client = Raw(start().server.port)
    client.reply()

    assert client.say(b"MAIL FROM:<>\r\n").startswith(b"503 ")


def test_there_are_only_so_many_recipients(start: Start) -> None:
    client = start(recipient_limit=2).client()
    client.docmd("MAIL FROM:<>")

    assert [client.docmd(f"RCPT TO:<{number}@example.net>")[0] for number in range(3)] == [250, 250, 452]


def test_the_same_recipient_twice_gets_one_mail(start: Start) -> None:
    mta = start()
    mta.send(recipients=("b@example.net", "b@example.net"))

    assert len(mta.mails()) == 1


def test_an_internationalized_address_is_delivered(start: Start) -> None:
    mta = start()
    client = mta.client()
    client.command_encoding = "utf-8"
    client.docmd("MAIL FROM:<rené@example.org> SMTPUTF8")
    client.docmd("RCPT TO:<björn@example.net>")
    client.docmd("DATA")
    client.send(b"Subject: x\r\n\r\n.\r\n")

    assert client.getreply()[0] == 250
    assert "Delivered-To: björn@example.net\n".encode() in mta.mail("bj%C3%B6rn@example.net")
    assert b"with UTF8SMTP id" in mta.mail("bj%C3%B6rn@example.net")


@pytest.mark.parametrize(
    ("content", "delivered"),
    [
        (b"Subject: x\r\n\r\nbody\r\n", b"Subject: x\n\nbody\n"),
        (b"Subject: x\r\n", b"Subject: x\n"),
        (b"", b""),
        (b"\r\n", b"\n"),
        (b"no header\r\n", b"\nno header\n"),
        (b"Subject: x\r\nno header\r\n", b"Subject: x\n\nno header\n"),
        (b" first\r\nSubject: x\r\n", b"\n first\nSubject: x\n"),
        (b"Subject : x\r\n\r\n", b"Subject: x\n\n"),
        (b"Subject: x\r\n\r\n..\r\n...x\r\n.y\r\n", b"Subject: x\n\n.\n..x\ny\n"),
        (b"Subject: x\r\n\r\nends in a dot.\r\n", b"Subject: x\n\nends in a dot.\n"),
        (b"Bcc: secret@example.com\r\nSubject: x\r\nReturn-Path: <forged>\r\n\r\n", b"Subject: x\n\n"),
        (b"Subject: x\r\n\r\n" + b"y" * 200_000 + b"\r\n", b"Subject: x\n\n" + b"y" * 200_000 + b"\n"),
    ],
)
def test_content_is_what_was_sent(raw: Any, content: bytes, delivered: bytes) -> None:
    mta, client = raw

    assert client.say(content + b".\r\n").startswith(_TAKEN)
    (_, trace, rest) = mta.mail().partition(b"Received: ")
    assert trace
    assert rest.partition(b"; ")[2].partition(b"\n")[2] == delivered


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\r\n.\r\n\n"])
def test_nothing_but_crlf_dot_crlf_ends_the_message(raw: Any, end: bytes) -> None:
    """SMTP smuggling: what follows is not taken as commands, and nothing is delivered."""
    mta, client = raw
    smuggled = b"\r\nMAIL FROM:<smuggled@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\nSubject: smuggled\r\n\r\n"

    assert client.say(b"Subject: x\r\n\r\nbody" + end + smuggled + b".\r\n")[:3] in (b"521", b"550")
    assert client.file.read() == b""
    assert mta.files == []


@pytest.mark.parametrize(("octet", "code"), [(b"\r", 521), (b"\n", 521), (b"\0", 550)])
def test_stray_octets_are_refused_in_header_and_body(start: Start, octet: bytes, code: int) -> None:
    mta = start()

    assert mta.send(b"Subject: a" + octet + b"b\r\n\r\n")[-1][0] == code
    assert mta.send(b"Subject: x\r\n\r\na" + octet + b"b\r\n")[-1][0] == code
    assert mta.files == []


def test_commands_may_be_pipelined(start: Start) -> None:
    mta = start({})
    client = Raw(mta.server.port)
    client.reply()
    message = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
    client.say(b"EHLO x\r\n" + message)
    client.reply(), client.reply(), client.reply()
    client.socket.sendall(b"Subject: x\r\n\r\n.\r\n" + message)

    assert [client.reply()[:3] for _ in range(4)] == [b"250", b"250", b"250", b"354"]
    assert client.say(b".\r\nNOOP\r\n").startswith(_TAKEN)
    assert client.reply().startswith(b"250 ")
    assert len(mta.mails()) == 2


def test_a_message_that_is_too_large_is_read_to_its_end_and_refused(start: Start) -> None:
    mta = start(message_size_limit=10_000)
    client = mta.client()

    assert mta.send(b"x" * 100_000 + b"\r\n", client=client)[-1][0] == 552
    assert mta.send(b"x\r\n" * 5_000, client=client)[-1][0] == 552
    assert mta.send(b"x" * 9_998 + b"\r\n", client=client)[-1][0] == 250


def test_many_fields_and_a_large_body_go_through(start: Start) -> None:
    mta = start({"flags": {"noreply": ["header", "body"]}})
    header = b"".join(b"X-%d: value\r\n" % number for number in range(20_000))
    body = b"0123456789" * 7 + b"\r\n"

    assert mta.send(header + b"\r\n" + body * (40_000_000 // len(body)))[-1][0] == 250
    assert mta.milter.events.count("header") == 20_000
    assert len(mta.mail()) > 39_000_000


def test_a_header_field_that_libmilter_would_break_on_gets_round_no_milter(start: Start) -> None:
    mta = start({"eom": ["REJECT"]}, default_action="accept")
    client = mta.client()

    assert [mta.send(b"X: " + b"y" * size + b"\r\n\r\n", client=client)[-1][0] for size in (64_995, 64_996)] == [
        550,
        552,
    ]
    assert [[name, len(value)] for name, value in mta.milter.arguments("header")] == [["X", 64_995]]


@pytest.mark.parametrize("command", [b"EHLO a\0b", b"HELO a\tb", b"MAIL FROM:<a\0@b>", b'MAIL FROM:<"\0"@b.example>'])
def test_control_characters_get_round_no_milter(start: Start, command: bytes) -> None:
    mta = start({"eom": ["REJECT"]}, default_action="accept")
    client = Raw(mta.server.port)
    client.reply()
    client.say(b"EHLO x\r\n")

    assert client.say(command + b"\r\n").startswith(b"5")
    assert mta.send()[-1][0] == 550


def test_a_mail_that_goes_round_in_circles_is_refused(raw: Any) -> None:
    _, client = raw

    assert client.say(b"Received: x\r\n" * 51 + b"\r\n.\r\n").startswith(b"554 5.4.6")


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(start: Start) -> None:
    mta = start({})
    client = Raw(mta.server.port)
    client.to_data()
    client.socket.sendall(b"Subject: x\r\n\r\nhalf a mess")
    client.file.close()
    client.socket.close()
    mta.milter.wait_for("close")

    assert mta.files == []


def test_a_helo_name_cannot_break_out_of_the_trace_field(start: Start) -> None:
    mta = start()
    mta.send(client=mta.client('x) by (<evil>;"\\'))

    assert b"Received: from x??by???evil???? (localhost [127.0.0.1])\n" in mta.mail()


def test_two_recipients_do_not_learn_of_each_other(start: Start) -> None:
    mta = start()
    mta.send(recipients=("b@example.net", "c@example.net"))

    assert b"c@example.net" not in mta.mail("b@example.net")


def test_a_disk_that_cannot_be_written_is_a_temporary_failure(start: Start) -> None:
    mta = start()
    (mta.maildir / ".queue" / "tmp").rmdir()

    assert mta.send()[-1][0] == 451


@pytest.mark.parametrize(
    "setting",
    [
        {"milters": ("unix:",)},
        {"milters": ("inet:25",)},
        {"milters": ("inet:65536@host",)},
        {"default_action": "perhaps"},
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(tmp_path: Path, setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"socket|port|perhaps"):
        BundledMta(MtaConfig("mx.example.net", tmp_path, **setting))


def test_stopping_closes_what_is_open(tmp_path: Path) -> None:
    async def _run() -> bytes:
        mta = BundledMta(MtaConfig("mx.example.net", tmp_path))
        await mta.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", mta.port)
        await reader.readline()
        await mta.stop()
        rest = await reader.read()
        writer.close()
        return rest

    assert asyncio.run(_run()) == b"421 4.3.2 mx.example.net Service shutting down\r\n"
