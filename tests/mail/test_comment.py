"""filterd.mail.comment: where a comment ends."""

import pytest

from filterd.mail.comment import comment_end


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(a)b", 3),
        ("()", 2),
        ("(a (b) c) d", 9),
        (r"(\))x", 4),
        (r"(\()x", 4),
        ('(")")', 3),
        ("(a", None),
        ("(a\\)", None),
        ("(a\\", None),
        ("(" * 32 + ")" * 32, 64),
        ("(" * 33 + ")" * 33, None),
        ("(" * 100_000, None),
    ],
)
def test_comment_end(text: str, expected: int | None) -> None:
    """RFC 5322 3.2.2: comments nest, a quoted pair hides a parenthesis, quotation marks hide nothing."""
    assert expected == comment_end(text, 0)
