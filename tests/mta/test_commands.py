"""Arguments, read from any octets: what is taken is what was said, all else is a CommandError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.mta.client_identity import ClientIdentity, XclientError
from filterd.mta.commands import CommandError, parse_mail_parameters, parse_path_command
from filterd.mta.judgement import refusal
from filterd.wire.milter import ReplyCode
from filterd.wire.milter_codec import ProtocolError, encode

_TEXT = st.text(st.characters(codec=None), max_size=60) | st.lists(
    st.sampled_from(
        ["FROM:", "<", ">", '"', "\\", "a", "@", "b.c", ":", " ", "=", "SIZE", "\0", "é", "\udcff", "[", "1.2.3.4]"]
    )
).map("".join)


@given(_TEXT, st.sampled_from(["FROM", "TO"]), st.booleans())
def test_any_argument_is_a_path_or_a_command_error(argument: str, keyword: str, allow_null: bool) -> None:
    try:
        path = parse_path_command(f"{keyword}:{argument}", keyword, allow_null)
        parse_mail_parameters(path.parameters)
    except CommandError as error:
        assert str(error)[0] == "5"
        return

    said = b" ".join([path.written, *path.parameters])
    assert not any(octet < 32 or octet == 127 for octet in said)
    assert path.written.startswith(b"<")
    assert path.address or allow_null


@pytest.mark.parametrize(
    ("argument", "written", "address", "parameters"),
    [
        ("FROM:<a@b.c>", b"<a@b.c>", b"a@b.c", ()),
        ("from: <a@b.c>  X=1 Y", b"<a@b.c>", b"a@b.c", (b"X=1", b"Y")),
        ("FROM:<>", b"<>", b"", ()),
        ("FROM:<@r.example,@s.example:a@b.c>", b"<@r.example,@s.example:a@b.c>", b"a@b.c", ()),
        ('FROM:<"a b> c"@d.e>', b'<"a b> c"@d.e>', b'"a b> c"@d.e', ()),
    ],
)
def test_paths(argument: str, written: bytes, address: bytes, parameters: tuple[bytes, ...]) -> None:
    path = parse_path_command(argument, "FROM", allow_null=True)

    assert (written, address, parameters) == (path.written, path.address, path.parameters)


@given(st.text(st.characters(codec=None), max_size=60) | st.lists(
    st.sampled_from(["NAME=", "ADDR=", "PORT=", "HELO=", "LOGIN=", "PROTO=", " ", "1", "a.b", "::1", "+41", "+00", "²", "\udcff"])
).map("".join))  # fmt: skip
def test_any_xclient_is_a_client_or_an_error_and_its_packets_can_be_written(arguments: str) -> None:
    try:
        client = ClientIdentity.of_peer("127.0.0.1", 1).pretending(arguments)
    except XclientError:
        return

    encode(client.connect)
    trace = client.received("mx.example", "4X", (b"a@b",), smtputf8=False)
    assert trace.isascii()
    assert trace.count(b"\n") == 2


@given(
    st.binary(max_size=40)
    | st.lists(st.sampled_from([b"550", b"451", b"-", b" ", b"5.7.1", b"%", b"\r\n", b"x"])).map(b"".join)
)
def test_any_reply_code_is_a_reply_or_a_protocol_error(text: bytes) -> None:
    try:
        reply = refusal(ReplyCode(text)).text
    except ProtocolError:
        return

    *more, last = reply.split(b"\r\n")
    assert all(line[3:4] == b"-" for line in more)
    assert last[3:4] == b" "
    assert reply.count(b"\n") == reply.count(b"\r") == len(more)
