"""filterd.mail.message: exactly one author, or a reason."""

import pytest

from filterd.mail.address import parse_mailbox_list
from filterd.mail.domain import Domain
from filterd.mail.header import Field, Header
from filterd.mail.message import Author, author_of
from filterd.mail.reason import Reason


def header(*values: bytes) -> Header:
    return Header.of([Field(b"Subject", b" x"), *(Field(b"From", value) for value in values)])


def test_one_author() -> None:
    value = b" Carla <ceo@good.example>"

    expected = Author(Domain("good.example"), parse_mailbox_list(value))

    assert expected == author_of(header(value))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], Reason.AUTHOR_MISSING),
        ([b" ceo@good.example", b" x@evil.example"], Reason.AUTHOR_SEVERAL_FIELDS),
        ([b" ceo@good.example", b" ceo@good.example"], Reason.AUTHOR_SEVERAL_FIELDS),
        ([b" ceo@good.example, x@evil.example"], Reason.AUTHOR_SEVERAL),
        ([b" a@good.example, b@good.example"], Reason.AUTHOR_SEVERAL),
        ([b" Nobody:;"], Reason.AUTHOR_SEVERAL),
        ([b" Carla"], Reason.AUTHOR_MALFORMED),
        ([b" <x@evil.example> ceo@good.example"], Reason.AUTHOR_MALFORMED),
        ([b" ceo@[192.0.2.1]"], Reason.AUTHOR_MALFORMED),
        ([b""], Reason.AUTHOR_MALFORMED),
    ],
)
def test_no_author_domain(values: list[bytes], reason: Reason) -> None:
    """RFC 9989 5.3.1, 11.5: never "the first one wins"."""
    author = author_of(header(*values))

    assert author.domain is None
    assert reason is author.reason


def test_group_of_one_is_an_author() -> None:
    """RFC 6854."""
    assert Domain("good.example") == author_of(header(b" Board: ceo@good.example;")).domain
