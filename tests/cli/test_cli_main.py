"""`filterd` alone: what it can do, and what it says to a word that it does not know."""

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import filterd

from filterd.cli import main


def test_every_command_has_a_file_and_a_line_of_help() -> None:
    # A file with an underscore in its name is a part of a command; one without a command in it serves several.
    files = [file for file in Path(main.__file__).parent.glob("*.py") if "_" not in file.stem]
    assert {file.stem for file in files if "\ndef command(" in file.read_text()} == set(main.COMMANDS)

    result = filterd("--help")

    assert result.exit_code == 0
    listed = [line.split(maxsplit=1) for line in result.stdout.partition("Commands:\n")[2].splitlines()]
    assert [line[0] for line in listed if line[0] in main.COMMANDS] == list(main.COMMANDS)


@pytest.mark.parametrize("command", main.COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = filterd(command, "--help")

    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: filterd {command} ")


def test_what_is_no_command_is_misuse() -> None:
    result = filterd("chek")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such command 'chek'" in result.stderr


def test_it_is_a_module_too() -> None:
    done = subprocess.run([sys.executable, "-m", "filterd", "--version"], capture_output=True, text=True)

    assert done.returncode == 0
    assert done.stdout.startswith("python -m filterd, version ")
    assert done.stderr == ""
