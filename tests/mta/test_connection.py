"""What ends a message, wherever the stream is cut, and when it is waited for no more."""

import asyncio
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.mta.connection import Connection


def _read(wire: bytes, cuts: list[int], limit: int, window: int) -> tuple[bytes | None, bytes]:
    async def _go() -> tuple[bytes | None, bytes]:
        reader = asyncio.StreamReader(limit=window)
        task = asyncio.ensure_future(Connection(reader, cast(asyncio.StreamWriter, None), 60.0).content(limit))
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


@pytest.mark.parametrize("begun", [b"", b"half a mess"])
def test_a_message_that_does_not_come_on_is_given_up(begun: bytes) -> None:
    async def _go() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(begun)
        await Connection(reader, cast(asyncio.StreamWriter, None), 0.05).content(1000)

    with pytest.raises(TimeoutError):
        asyncio.run(_go())
