"""`filterd key import-opendkim CONF`: the `sign` section that does what an OpenDKIM does, and its keys."""

import os
import sys
from pathlib import Path

import click

from filterd.backend.keys import KeyFileError, load_key, make_folder, owner_for, parse_key, pem_of, read_key, write_key
from filterd.backend.opendkim_config import OpenDkimConfig, OpenDkimError, printable
from filterd.backend.opendkim_sign import OpenDkimKey, OpenDkimSigning, read_signing
from filterd.policy.schema import KeyEntry, SignEntry
from filterd.policy.sign_text import sign_text

_Sources = dict[OpenDkimKey, str]  # a key, and the name of its file without the folder


@click.command("import-opendkim")
@click.argument("conf", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--copy",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Copy the keys there, readable by their owner alone; the folder is made if need be.",
)
@click.option(
    "--owner", metavar="USER[:GROUP]", help="Whose the copies are; for root by default the directory's owner's."
)
def command(conf: Path, directory: Path | None, owner: str | None) -> None:
    """Print the sign section for a policy that signs as the OpenDKIM with the file CONF (opendkim.conf).

    What has no equivalent is told in comments, with file and line. Ends with 1 if mail would go unsigned that OpenDKIM
    signs, or if a key cannot be used as it is; with 2 if CONF cannot be understood, or a copy not written.
    """
    if owner is not None and directory is None:
        raise click.UsageError("--owner is for the copies that --copy makes")
    try:
        signing = read_signing(OpenDkimConfig(conf))
        sources = _sources(signing)
        files, faults = _copied(sources, directory, owner) if directory else _used(sources)
    except (OpenDkimError, KeyFileError) as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    unsigned = [str(remark) for remark in signing.remarks if remark.unsigned]
    _comment(f"What {printable(str(conf))} signs, by `filterd key import-opendkim`.")
    _comment("Keys that cannot be used as they are:", faults)
    _comment("Not taken over, so that mail may go unsigned:", unsigned)
    _comment("To know:", [str(remark) for remark in signing.remarks if not remark.unsigned])
    click.echo(sign_text(_entries(signing, files)), nl=False)
    if faults or unsigned or not signing.keys:
        click.echo("Not all of it can be taken over as it is; the comments say why.", err=True)
        sys.exit(1)


def _sources(signing: OpenDkimSigning) -> _Sources:
    """All keys once; a copy is named after the first domain that it signs for."""
    sources: _Sources = {}
    for pattern, keys in signing.keys.items():
        for key in keys:
            sources.setdefault(key, f"{pattern.removeprefix('*.')}.{key.selector}.pem")
    return sources


def _used(sources: _Sources) -> tuple[dict[OpenDkimKey, str], list[str]]:
    """The keys' own files, and why some cannot be used."""
    files, faults = {}, []
    for key, name in sources.items():
        files[key] = str(key.file or name)
        try:
            if key.file is None:
                raise KeyFileError(f"{key.place}: the key stands in the table itself; --copy DIR makes a file of it")
            load_key(key.file)
        except KeyFileError as error:
            faults.append(printable(str(error)))
    return files, faults


def _copied(sources: _Sources, directory: Path, owner: str | None) -> tuple[dict[OpenDkimKey, str], list[str]]:
    """The copies of the keys, and why some were not made. Raises KeyFileError if a copy cannot be written."""
    files, faults, copies = {}, [], {}
    for key, name in sources.items():
        target = directory.absolute() / name
        files[key] = str(target)
        try:
            pem = pem_of(key.text, str(key.place)) if key.file is None else read_key(key.file)
            parse_key(pem, key.file or target)
            copies[target] = pem
        except KeyFileError as error:
            faults.append(printable(str(error)))
    make_folder(directory)
    whose = owner_for(directory, owner)
    existing = next((target for target in copies if os.path.lexists(target)), None)
    if existing is not None:
        raise KeyFileError(f"{existing}: exists already, and is not overwritten")
    for target, pem in copies.items():
        write_key(target, pem, whose)
        click.echo(f"wrote {target}", err=True)
    return files, faults


def _entries(signing: OpenDkimSigning, files: dict[OpenDkimKey, str]) -> list[SignEntry]:
    """An entry for all domains that have the same keys."""
    domains: dict[tuple[KeyEntry, ...], list[str]] = {}
    for pattern, keys in signing.keys.items():
        entries = tuple(KeyEntry(selector=key.selector, file=files[key]) for key in keys)
        domains.setdefault(entries, []).append(pattern)
    expires = float(signing.expires) if signing.expires else None
    return [SignEntry(domains=tuple(names), keys=keys, expires=expires) for keys, names in domains.items()]


def _comment(head: str, lines: list[str] | None = None) -> None:
    if lines != []:
        click.echo("".join(f"# {line}\n" for line in (head, *(f"  {each}" for each in lines or []))), nl=False)
