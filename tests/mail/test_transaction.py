"""filterd.mail.transaction: stages have an order and a word, and a null path is no malformed one."""

from filterd.mail.transaction import ReversePath, Stage


def test_stages_in_their_order() -> None:
    expected = ["connect", "helo", "mail", "rcpt", "data", "end_of_headers", "end_of_message"]

    assert expected == [stage.word for stage in sorted(Stage)]


def test_null_path_is_not_a_malformed_one() -> None:
    assert ReversePath("", None).null
    assert not ReversePath("postmaster", None).null
