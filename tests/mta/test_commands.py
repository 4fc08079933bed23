"""Arguments and content, read from any octets: what is taken is what was said, all else is a CommandError."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.mta.client_identity import ClientIdentity, XclientError
from filterd.mta.commands import CommandError, parse_mail_parameters, parse_path_command, read_content
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


def _read(wire: bytes, cuts: list[int], limit: int, window: int) -> tuple[bytes | None, bytes]:
    async def _go() -> tuple[bytes | None, bytes]:
        reader = asyncio.StreamReader(limit=window)
        task = asyncio.ensure_future(read_content(reader, limit))
        for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            reader.feed_data(wire[start:end])
            await asyncio.sleep(0)
        reader.feed_eof()
        return await task, await reader.read()

    return asyncio.run(_go())


_LINES = st.lists(
    st.sampled_from([b"", b".", b"..", b".x", b"x", b"x.", b"\r", b"\n.", b".\r", b"\r.", b"y" * 40]), max_size=12
)


@given(_LINES, st.data(), st.integers(4, 64))
def test_content_ends_at_the_lone_dot_wherever_the_stream_is_cut(
    lines: list[bytes], data: st.DataObject, window: int
) -> None:
    message = b"".join(line + b"\r\n" for line in lines)
    # As a client writes it (RFC 5321 4.5.2): every line that begins with a dot gets another.
    stuffed = (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:]
    wire = stuffed + b".\r\nQUIT\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))

    assert (message, b"QUIT\r\n") == _read(wire, cuts, limit=10_000, window=window)


@given(_LINES, st.integers(0, 100), st.integers(4, 64))
def test_content_that_is_too_large_is_read_to_its_end(lines: list[bytes], limit: int, window: int) -> None:
    stuffed = (b"\r\n" + b"".join(line + b"\r\n" for line in lines)).replace(b"\r\n.", b"\r\n..")[2:]
    content, rest = _read(stuffed + b".\r\nQUIT\r\n", [], limit, window)

    assert (content is None) == (len(stuffed) > limit)
    assert rest == b"QUIT\r\n"


def test_a_client_that_goes_away_before_the_end_has_sent_nothing() -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        _read(b"half a mess", [], 1000, 64)


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
