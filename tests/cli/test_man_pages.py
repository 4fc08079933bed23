"""There is a page for each command, it says what the command says, and roff has nothing to complain of."""

import subprocess
import sys
from pathlib import Path

import pytest

from filterd.cli.main import COMMANDS

HOME = Path(__file__).parents[2]
PAGES = ["filterd.1", *(f"filterd-{word}.1" for word in COMMANDS)]


def test_pages_are_what_the_commands_say(tmp_path: Path) -> None:
    subprocess.run([sys.executable, HOME / "tools" / "man_pages.py", tmp_path], cwd=HOME, check=True)
    kept = {file.name: file.read_text() for file in (HOME / "man").glob("*.1")}

    assert kept == {file.name: file.read_text() for file in tmp_path.iterdir()}, "run: python tools/man_pages.py man"
    assert set(PAGES) == set(kept)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_renders_without_a_warning(page: str) -> None:
    shown = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-Kutf8", HOME / "man" / page], capture_output=True, text=True, check=True
    )

    assert shown.stderr == ""
    assert "filterd manual" in shown.stdout
