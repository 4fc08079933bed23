"""`filterd explain FILE.eml`: judge a stored mail by the live engine, offline, and say why."""

import json
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import IO

import click

from filterd.backend.policy_files import load_policy
from filterd.backend.resolver import DnsResolver
from filterd.backend.zone import ZoneFileError, zone_resolver
from filterd.engine.replay import StoredMail, judge
from filterd.engine.runtime import Runtime, authserv_id
from filterd.lookup import Resolver
from filterd.mail.address import AddressError, parse_path
from filterd.mail.transaction import Client, ForwardPath, IPAddress, ReversePath
from filterd.policy.errors import PolicyErrors
from filterd.policy.explain import explain
from filterd.policy.rules import Policy
from filterd.policy.transcript import Transcript

_MAX_MAIL = 256 * 1024 * 1024


class _MisuseError(click.ClickException):
    """What was given cannot be judged; status 1 says that a mail would be refused."""

    exit_code = 2


class _Address(click.ParamType[IPAddress]):
    name = "address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> IPAddress:
        try:
            return ip_address(str(value))
        except ValueError:
            self.fail(f"{value!r} is no IP address; 192.0.2.1 would be one", param, ctx)


class _Path(click.ParamType[ReversePath]):
    name = "mail address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> ReversePath:
        text = str(value).strip().removeprefix("<").removesuffix(">")
        try:
            return ReversePath(text, parse_path(text))
        except AddressError as error:
            self.fail(f"{value!r} is no mail address: {error}", param, ctx)


@click.command(name="explain")
@click.argument("file", type=click.File("rb"))
@click.option("-p", "--policy", required=True, type=click.Path(path_type=Path), help="The policy to judge by.")
@click.option("--client-ip", type=_Address(), help="The client's address; 127.0.0.1 if you do not say.")
@click.option("--helo", default="localhost", help="The name that the client gave itself.")
@click.option("--sender", type=_Path(), default="", help="The envelope sender; <> for a bounce.")
@click.option("--recipient", "recipients", type=_Path(), multiple=True, help="A recipient; may be repeated.")
@click.option("--user", help="The login name of an authenticated client.")
@click.option(
    "--zone", type=click.Path(path_type=Path), help="Answer DNS questions from this RFC 1035 master file alone."
)
@click.option("--json", "as_json", is_flag=True, help="Print the transcript as JSON.")
def command(
    file: IO[bytes],
    policy: Path,
    client_ip: IPAddress | None,
    helo: str,
    sender: ReversePath,
    recipients: tuple[ReversePath, ...],
    user: str | None,
    zone: Path | None,
    as_json: bool,
) -> None:
    """Judge FILE (a mail as it is stored; - is standard input) and print every fact and rule that decided.

    Ends with 1 if the mail would be refused, with 2 if it cannot be judged.
    """
    try:
        compiled = load_policy(policy)
    except PolicyErrors as error:
        for each in error.errors:
            click.echo(str(each), err=True)
        sys.exit(2)
    data = file.read(_MAX_MAIL + 1)
    if len(data) > _MAX_MAIL:
        raise _MisuseError(f"the mail is larger than {_MAX_MAIL} bytes")
    mail = StoredMail(
        data,
        Client(client_ip or ip_address("127.0.0.1")),
        helo,
        sender,
        tuple(ForwardPath(each.text, each.mailbox) for each in recipients),
        user,
    )
    if client_ip is None:
        click.echo("no --client-ip: 127.0.0.1 is assumed, and may be trusted by the policy", err=True)
    transcript = _judged(compiled, mail, zone)
    click.echo(json.dumps(transcript.to_mapping(), indent=2) if as_json else explain(transcript), nl=as_json)
    sys.exit(1 if transcript.verdict.disposition.final else 0)


def _judged(policy: Policy, mail: StoredMail, zone: Path | None) -> Transcript:
    transcripts: list[Transcript] = []
    offline = _zone(zone) if zone else None
    dns = policy.settings.dns
    live = None if offline else DnsResolver(dns.servers, dns.timeout)
    if live:
        live.start()
    try:

        def view(deadline: float) -> Resolver:
            if offline is not None:
                return offline
            assert live is not None
            return live.view(deadline)

        judge(Runtime(policy, authserv_id(policy), view, transcripts.append), mail)
    finally:
        if live:
            live.close()
    if not transcripts:
        raise _MisuseError("the mail has no recipient that is taken; give --recipient")
    return transcripts[-1]


def _zone(path: Path) -> Resolver:
    try:
        return zone_resolver(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _MisuseError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _MisuseError(f"{path}: is not UTF-8 text") from None
    except ZoneFileError as error:
        raise _MisuseError(f"{path}:{error.line}: {error.text}") from None
