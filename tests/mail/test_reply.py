"""filterd.mail.reply: whatever goes in, what comes out is a legal reply."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.mail.reply import Reply, ReplyError, printable


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("550 5.7.1 no", Reply(550, "5.7.1", "no")),
        ("450 4.7.1 later", Reply(450, "4.7.1", "later")),
        ("550 no", Reply(550, "5.7.1", "no")),
        ("451", Reply(451, "4.7.1", "refused by policy")),
        ("550 5.7.1", Reply(550, "5.7.1", "refused by policy")),
        ("550 5.7.1 100% sure\r\n250 ok", Reply(550, "5.7.1", "100? sure\n250 ok")),
    ],
)
def test_reads_reply(line: str, expected: Reply) -> None:
    assert expected == Reply.parse(line)


@pytest.mark.parametrize(
    "line", ["", "no", "250 ok", "350 more", "600 x", "560 x", "499 x", "550 4.7.1 no", "450 5.7.1 no", "550-5.7.1 no"]
)
def test_refuses_what_is_no_reply(line: str) -> None:
    with pytest.raises(ReplyError):
        Reply.parse(line)


def test_temporary() -> None:
    assert Reply.parse("451 4.3.0 x").temporary
    assert not Reply.parse("550 5.7.1 x").temporary


def test_writes_what_it_reads() -> None:
    assert str(Reply.parse("550 5.7.1 no")) == "550 5.7.1 no"


def test_several_lines_are_one_reply() -> None:
    reply = Reply.parse("550 5.7.1 no\n\n  and why: " + "word " * 100)

    assert reply.smtp.split("\r\n")[0] == "550-5.7.1 no"
    assert reply.smtp.split("\r\n")[1].startswith("550-5.7.1 and why: word")
    assert reply.smtp.split("\r\n")[2].startswith("550 5.7.1 word")
    assert "\n" not in str(reply)


@given(st.text(max_size=3_000), st.integers(400, 599))
def test_whatever_the_text_the_reply_is_legal(text: str, code: int) -> None:
    """RFC 5321 4.2.1, 4.5.3.1.5."""
    try:
        reply = Reply.parse(f"{code} {text}")
    except ReplyError:
        return
    *more, last = reply.smtp.split("\r\n")
    assert re.fullmatch(rf"{code} {reply.status} [ -$&-~]+", last)
    assert all(re.fullmatch(rf"{code}-{reply.status} [ -$&-~]+", line) for line in more)
    assert max(map(len, [*more, last])) <= 510
    assert len(more) < 16


@given(st.text(max_size=1_000))
def test_printable_is_one_short_line(text: str) -> None:
    """RFC 5321 4.5.3.1.5; libmilter takes the text for a format."""
    assert re.fullmatch(r"[ -$&-~]{0,480}", printable(text))
