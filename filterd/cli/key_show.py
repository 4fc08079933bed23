"""`filterd key show FILE`: what to publish in DNS for a key that there is."""

from collections.abc import Iterable
from pathlib import Path

import click

from filterd.backend.keys import KeyFileError, load_key
from filterd.dkim.sign import SigningKey
from filterd.dkim.zone_text import zone_text
from filterd.mail.domain import Domain, DomainError

_TTL = 3600  # seconds


@click.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--domain", help="The domain that signs; by default as in a file's name DOMAIN.SELECTOR.pem.")
@click.option("--selector", help="The name of the key; by default as in a file's name DOMAIN.SELECTOR.pem.")
def command(file: Path, domain: str | None, selector: str | None) -> None:
    """Print the DNS record for the private key in FILE."""
    try:
        key = load_key(file)
    except KeyFileError as error:
        raise click.ClickException(str(error)) from None
    named = named_after(file)
    domain = domain or (named[0].name if named else None)
    selector = selector or (named[1] if named else None)
    if domain is None or selector is None:
        click.echo(key.public_record())
        return
    try:
        name = Domain.parse(f"{selector}._domainkey.{Domain.parse(domain)}")
    except DomainError as error:
        raise click.UsageError(str(error)) from None
    echo_records([(name.name, key)])


def named_after(file: Path) -> tuple[Domain, str] | None:
    """The domain and the selector that a file is named after, as `filterd key new` does."""
    stem = file.name.removesuffix(".pem")
    domain, _, selector = stem.rpartition(".")
    if stem == file.name or not selector:
        return None
    try:
        return Domain.parse(domain), selector
    except DomainError:
        return None


def echo_records(records: Iterable[tuple[str, SigningKey]]) -> None:
    """Print the records of keys, with the names at which they belong, for zone files and for web forms."""
    texts = [(name, key.public_record()) for name, key in records]
    click.echo("Publish in DNS; as lines of a zone file:\n")
    for name, record in texts:
        click.echo(zone_text(name, record, _TTL), nl=False)
    click.echo("\nor in a web form, as type TXT, name and value:")
    for name, record in texts:
        click.echo(f"\n{name}\n{record}")
