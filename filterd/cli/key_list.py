"""`filterd key list`: which keys there are, and whether receivers can verify with them."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from filterd.backend.keys import KeyFileError, load_key
from filterd.backend.policy_files import load_policy
from filterd.backend.resolver import DnsResolver
from filterd.cli.key_show import named_after
from filterd.dkim.published import Published, published
from filterd.dkim.sign import SigningKey
from filterd.lookup import Resolver
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason
from filterd.policy.errors import PolicyErrors
from filterd.policy.schema import Dns

_AT_ONCE = 64  # questions to DNS
_ALL_BELOW = "*."
_PUBLISHED, _NOT_ASKED = "published", "not asked"
_COLOURS = {_PUBLISHED: "green", _NOT_ASKED: None, "cannot tell": "yellow"}

_Named = tuple[Domain, str, Path]  # domain, selector, file


@dataclass(frozen=True, slots=True)
class _Listed:
    """A key under the name by which it is found. `state`: what DNS says, or why the file is of no use."""

    domain: Domain
    selector: str
    file: Path
    key: SigningKey | None
    state: str

    @property
    def name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"


@click.command("list")
@click.option(
    "-p", "--policy", type=click.Path(dir_okay=False, path_type=Path), help="List the keys that it signs with."
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="List the files DOMAIN.SELECTOR.pem there; by default in keys.",
)
@click.option("--dns/--no-dns", default=True, show_default=True, help="Look whether DNS has the keys.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(policy: Path | None, directory: Path | None, dns: bool, as_json: bool) -> None:
    """List keys, and whether DNS has their public parts.

    published; absent: there is no record; different: a record of another key, or one that forbids its use. Ends with 1
    if a key is not known to be published, or cannot be used; with 2 if there is nothing to list by.
    """
    if policy is not None and directory is not None:
        raise click.UsageError("give -p or --directory, not both")
    if policy is not None:
        settings, named = _of_policy(policy)
    else:
        settings, named = Dns(), _of_directory(directory or Path("keys"))
    keys = [_listed(*each) for each in named]
    if dns:
        keys = list(_asked(keys, settings))
    if as_json:
        click.echo(json.dumps([_mapping(each) for each in keys], indent=2))
    else:
        _table(keys)
    sys.exit(0 if all(each.state in (_PUBLISHED, _NOT_ASKED) for each in keys) else 1)


def _of_policy(path: Path) -> tuple[Dns, Iterable[_Named]]:
    try:
        settings = load_policy(path).settings
    except PolicyErrors as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    # example.org and *.example.org are signed for alike.
    return settings.dns, dict.fromkeys(
        (Domain.parse(pattern.removeprefix(_ALL_BELOW)), key.selector, path.parent / key.file)
        for entry in settings.sign
        for pattern in entry.domains
        for key in entry.keys
    )


def _of_directory(path: Path) -> Iterator[_Named]:
    try:
        files = sorted(each for each in path.iterdir() if each.suffix == ".pem")
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}; say where keys are by -p or --directory") from None
    for file in files:
        named = named_after(file)
        if named is None:
            click.echo(f"{file}: left out, as it is not named DOMAIN.SELECTOR.pem", err=True)
        else:
            yield *named, file


def _listed(domain: Domain, selector: str, file: Path) -> _Listed:
    try:
        return _Listed(domain, selector, file, load_key(file), _NOT_ASKED)
    except KeyFileError as error:
        return _Listed(domain, selector, file, None, str(error).removeprefix(f"{file}: "))


def _asked(keys: Sequence[_Listed], settings: Dns) -> Iterator[_Listed]:
    resolver = DnsResolver(settings.servers, settings.timeout)
    resolver.start()
    try:
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            view = resolver.view(time.monotonic() + settings.deadline)
            for each in some:
                view.prefetch(each.name, "TXT")
            for each in some:
                yield each if each.key is None else replace(each, state=_state(each, each.key, view))
    finally:
        resolver.close()


def _state(listed: _Listed, key: SigningKey, resolver: Resolver) -> str:
    match published(key, listed.domain, listed.selector, resolver):
        case Published.YES, _:
            return _PUBLISHED
        case Published.UNKNOWN, reason:
            return f"cannot tell: {reason}"
        case _, Reason.DKIM_KEY_MISSING:
            return "absent"
        case _, Reason.DKIM_KEY_OTHER:
            return "different"
        case _, reason:
            return f"different: {reason}"


def _table(keys: Sequence[_Listed]) -> None:
    rows = [("domain", "selector", "algorithm", "bits", "DNS", "file")]
    for each in keys:
        kind, bits = (str(each.key.algorithm), str(each.key.bits)) if each.key else ("-", "-")
        rows.append((each.domain.name, each.selector, kind, bits, each.state, str(each.file)))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for number, row in enumerate(rows):
        cells = [f"{cell:{width}}" for cell, width in zip(row[:5], widths, strict=True)]
        if number:
            cells[4] = click.style(cells[4], fg=_COLOURS.get(row[4].partition(":")[0], "red"))
        click.echo("  ".join([*cells, row[5]]))


def _mapping(listed: _Listed) -> dict[str, str | int | None]:
    return {
        "domain": listed.domain.name,
        "selector": listed.selector,
        "algorithm": listed.key.algorithm if listed.key else None,
        "bits": listed.key.bits if listed.key else None,
        "file": str(listed.file),
        "state": listed.state,
    }
