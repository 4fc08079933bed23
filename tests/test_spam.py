"""What a scanner is given to see."""

from ipaddress import ip_address

import pytest

from filterd.mail.address import parse_path
from filterd.mail.header import Field, Header
from filterd.mail.transaction import Client, ReversePath, Transaction
from filterd.spam import message

_AT = 1_767_268_800.0  # 2026-01-01 12:00:00


def _mail(**changed: object) -> bytes:
    given: dict[str, object] = {
        "id": "c1.1",
        "client": Client(ip_address("203.0.113.9"), "mail.example.org"),
        "helo": "mail.example.org",
        "sender": ReversePath("anna@example.org", parse_path("anna@example.org")),
        "queue_id": "4Q",
    }
    transaction = Transaction(**{**given, **changed})  # type: ignore[arg-type]
    return message(transaction, "mx.home.example", _AT, Header.of([Field(b"Subject", b" x")]), b"text\r\n")


def test_it_is_the_mail_as_it_would_be_delivered() -> None:
    expected = (
        b"Return-Path: <anna@example.org>\r\n"
        b"Received: from mail.example.org (mail.example.org [203.0.113.9])\r\n"
        b"\tby mx.home.example with ESMTP id 4Q; Thu, 01 Jan 2026 12:00:00 +0000\r\n"
        b"Subject: x\r\n\r\ntext\r\n"
    )

    assert expected == _mail()


def test_who_logged_in_is_told_from_strangers() -> None:
    assert b"with ESMTPA id" in _mail(user="anna")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"helo": "x\r\nX-Spam-Status: No"}, b"Received: from unknown ("),
        ({"helo": "x (y [127.0.0.1])"}, b"Received: from unknown ("),
        ({"helo": None}, b"Received: from unknown ("),
        ({"client": Client(None, "ä")}, b"(unknown [127.0.0.1])"),
        ({"sender": ReversePath("a> b\r\n", None)}, b"Return-Path: <>\r\n"),
        ({"sender": None}, b"Return-Path: <>\r\n"),
        ({"queue_id": None}, b"id unknown;"),
    ],
    ids=range(7),
)
def test_nothing_remote_leaves_its_place(changed: dict[str, object], expected: bytes) -> None:
    made = _mail(**changed)

    assert expected in made
    assert made.count(b"\r\n") == 6
