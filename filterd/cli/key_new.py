"""`filterd key new DOMAIN`: make keys, and say what to publish and what to write in the policy."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import click

from filterd.backend.keys import KeyFileError, load_key, make_folder, new_key, owner_for, write_key
from filterd.cli.key_show import echo_records
from filterd.dkim.key_record import MAX_RSA_BITS, KeyType
from filterd.mail.domain import Domain, DomainError
from filterd.policy.schema import KeyEntry, SignEntry
from filterd.policy.sign_text import sign_text

_BOTH = (KeyType.RSA, KeyType.ED25519)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@click.command("new")
@click.argument("domain")
@click.option(
    "--selector",
    help="The name of the key; for two keys S-rsa and S-ed25519. By default r or e and the year, as in r2026.",
)
@click.option(
    "--algorithm",
    type=click.Choice([*(kind.value for kind in _BOTH), "both"]),
    default="both",
    show_default=True,
    help="Not all receivers know Ed25519; both means two signatures.",
)
@click.option(
    "--bits", type=click.IntRange(2048, MAX_RSA_BITS), default=2048, show_default=True, help="The size of an RSA key."
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("keys"),
    show_default=True,
    help="Where the files go; it is made if need be.",
)
@click.option(
    "--owner", metavar="USER[:GROUP]", help="Whose the files are; for root by default the directory's owner's."
)
def command(domain: str, selector: str | None, algorithm: str, bits: int, directory: Path, owner: str | None) -> None:
    """Make keys that sign for DOMAIN.

    Writes files that only their owner can read, and overwrites none. Prints the records for DNS, and the lines for the
    policy.
    """
    kinds = _BOTH if algorithm == "both" else (KeyType(algorithm),)
    selectors = [_selector(kind, selector, len(kinds)) for kind in kinds]
    try:
        name = Domain.parse(domain)
        for each in selectors:
            Domain.parse(f"{each}._domainkey.{name}")
    except DomainError as error:
        raise click.UsageError(str(error)) from None
    paths = [directory.absolute() / f"{name}.{each}.pem" for each in selectors]
    try:
        _write(kinds, paths, bits, owner)
        keys = [load_key(path) for path in paths]
    except KeyFileError as error:
        raise click.ClickException(str(error)) from None
    click.echo()
    echo_records(zip((f"{each}._domainkey.{name}" for each in selectors), keys, strict=True))
    entries = tuple(KeyEntry(selector=each, file=str(path)) for each, path in zip(selectors, paths, strict=True))
    click.echo("\nThen sign with it; in the policy:\n")
    click.echo(sign_text([SignEntry(domains=(name.name,), keys=entries)]), nl=False)


def _selector(kind: KeyType, given: str | None, count: int) -> str:
    if given is None:
        return f"{kind[0]}{datetime.now(UTC).year}"
    # RFC 6376 3.1 has selectors with dots; they could not be told from the domain in a file's name.
    if not _LABEL.fullmatch(given):
        raise click.UsageError("a selector is a word of letters, digits and inner hyphens, 63 at most")
    return given if count == 1 else f"{given}-{kind}"


def _write(kinds: tuple[KeyType, ...], paths: list[Path], bits: int, owner: str | None) -> None:
    directory = paths[0].parent
    make_folder(directory)
    whose = owner_for(directory, owner)
    for path in paths:
        # All or none: half a pair would stand in the way of the next try.
        if os.path.lexists(path):
            raise KeyFileError(f"{path}: exists already, and is not overwritten")
    for kind, path in zip(kinds, paths, strict=True):
        write_key(path, new_key(kind, bits), whose)
        click.echo(f"wrote {path}")
