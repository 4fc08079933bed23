"""filterd.mail.transaction: stages have an order and a word, and a null path is no malformed one; an address has one form."""

import pytest

from filterd.mail.address import parse_path
from filterd.mail.transaction import ForwardPath, ReversePath, Stage


def test_stages_in_their_order() -> None:
    expected = ["connect", "helo", "mail", "rcpt", "data", "end_of_headers", "end_of_message"]

    assert expected == [stage.word for stage in sorted(Stage)]


def test_null_path_is_not_a_malformed_one() -> None:
    assert ReversePath("", None).null
    assert not ReversePath("postmaster", None).null


@pytest.mark.parametrize(
    "written",
    [
        "anna@xn--bcher-kva.example",
        "Anna@B\u00fccher.EXAMPLE",
        '"anna"@b\u00fccher.example',
        '"an\\na"@b\u00fccher.example.',
        "@relay.example:anna@b\u00fccher.example",
        "anna@b\u00fccher.example.",
        "<anna@b\u00fccher.example.>",
    ],
)
def test_a_mailbox_has_one_address_however_it_is_written(written: str) -> None:
    mailbox = parse_path(written)
    for path in (ReversePath(written, mailbox), ForwardPath(written, mailbox)):
        assert path.address == "anna@xn--bcher-kva.example"


def test_quotes_that_are_needed_stay_and_what_is_no_mailbox_is_as_written() -> None:
    assert ForwardPath('"an na"@x.example', parse_path('"an na"@x.example')).address == '"an na"@x.example'
    assert ForwardPath("an na@x.example", parse_path("an na@x.example")).address == '"an na"@x.example'
    assert ForwardPath("Postmaster", None).address == "postmaster"
    assert ReversePath("", None).address == ""
