"""`filterd mta passwd`: who may log in to the bundled MTA."""

import os
import sys
import tempfile
from pathlib import Path

import click

from filterd.cli.misuse import MisuseError
from filterd.mta.users import UserFileError, hash_password, is_name, read_users


@click.command("passwd")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("name")
@click.option("--delete", is_flag=True, help="NAME may log in no more.")
def passwd(file: Path, name: str, delete: bool) -> None:
    """Let NAME log in: ask for a password, and write its hash into FILE, which is made if there is none.

    Where standard input is no terminal, its first line is the password. The MTA reads the file when it starts.
    """
    if not is_name(name):
        raise MisuseError("a name has up to 255 printable characters, without spaces, colons and #")
    try:
        users = read_users(file.read_text(encoding="utf-8")) if file.exists() else {}
    except UserFileError as error:
        raise MisuseError(f"{file}:{error.line}:1: {error}") from None
    except UnicodeDecodeError:
        raise MisuseError(f"{file}: this is no UTF-8") from None
    if not delete:
        users[name] = hash_password(_password(name))
    elif users.pop(name, None) is None:
        raise MisuseError(f"{file} has no user {name}")
    _write(file, "".join(f"{each}:{hashed}\n" for each, hashed in users.items()))


def _password(name: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True))
    password = sys.stdin.readline().removesuffix("\n")
    if not password:
        raise MisuseError("standard input has no password")
    return password


def _write(file: Path, text: str) -> None:
    """Whoever reads the file meanwhile reads the old one or the new one; others cannot read it."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as written:
            written.write(text)
            written.flush()
            os.fsync(descriptor)
        os.replace(temporary, file)
    except OSError:
        os.unlink(temporary)
        raise
