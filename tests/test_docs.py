"""Whoever looks for the words that filterd says finds them in docs/troubleshooting.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

from filterd.mail.reason import Reason

HOME = Path(__file__).parents[1]
PAGE = (HOME / "docs" / "troubleshooting.md").read_text()


def said() -> Iterator[str]:
    """What the daemon's log says at the levels warning and error, where it is a text of its own."""
    for file in [*(HOME / "filterd" / "daemon").glob("*.py"), HOME / "filterd" / "cli" / "run.py"]:
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("warning", "error")
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                yield str(node.args[0].value)


def test_every_warning_is_a_heading() -> None:
    headings = "\n".join(line for line in PAGE.splitlines() if line.startswith("### "))

    assert [text for text in said() if f"`{text}`" not in headings] == []


def test_every_reason_is_explained() -> None:
    assert [reason for reason in Reason if f"`{reason}`" not in PAGE] == []
