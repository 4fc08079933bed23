"""The manual is what the code says, and roff has nothing to complain of."""

import subprocess
import sys
from pathlib import Path

from filterd.policy.action_entries import ACTIONS
from filterd.policy.conditions import FUNCTIONS
from filterd.policy.facts import FACTS

HOME = Path(__file__).parents[2]
PAGE = HOME / "man" / "filterd.yaml.5"


def test_the_page_is_made_from_this_code() -> None:
    made = subprocess.run(
        [sys.executable, HOME / "tools" / "manual.py"], cwd=HOME, capture_output=True, text=True, check=True
    )

    assert PAGE.read_text() == made.stdout, "run: python tools/manual.py > man/filterd.yaml.5"


def test_every_fact_function_and_action_is_in_it() -> None:
    text = PAGE.read_text().replace(r"\-", "-")

    assert [name for name in (*FACTS, *FUNCTIONS, *ACTIONS) if f".TP\n\\fB{name}\\fR" not in text] == []
    assert [name for name, doc in FUNCTIONS.items() if doc[1:20].replace("-", r"\-") not in PAGE.read_text()] == []


def test_it_renders_without_warnings() -> None:
    result = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-Kutf8", PAGE], capture_output=True, text=True, check=True
    )

    assert result.stderr == ""
    assert "spf.result" in result.stdout
