"""`filterd explain`: why a mail ended as it did, or how a stored one would; by the live engine, offline."""

import json
import sys
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

import click

from filterd.backend.decision_reader import Wanted
from filterd.backend.policy_files import load_policy
from filterd.backend.resolver import DnsResolver
from filterd.backend.zone import ZoneFileError, zone_resolver
from filterd.cli.misuse import MisuseError
from filterd.cli.painted import painted
from filterd.cli.stored import Ago, list_stored, open_store, stored
from filterd.engine.replay import StoredMail, judge
from filterd.engine.replay_record import rejudge
from filterd.engine.runtime import Runtime, authserv_id
from filterd.lookup import Resolver
from filterd.mail.address import AddressError, parse_path
from filterd.mail.transaction import Client, ForwardPath, IPAddress, ReversePath
from filterd.policy.errors import PolicyErrors
from filterd.policy.explain import DECIDED, explain
from filterd.policy.rules import Policy
from filterd.policy.transcript import Transcript

_MAX_MAIL = 256 * 1024 * 1024


class ClientAddress(click.ParamType[IPAddress]):
    name = "address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> IPAddress:
        try:
            return ip_address(str(value))
        except ValueError:
            self.fail(f"{value!r} is no IP address; 192.0.2.1 would be one", param, ctx)


@click.command(name="explain")
@click.argument("target", required=False)
@click.option("-p", "--policy", "policy_file", type=click.Path(path_type=Path), help="The policy to judge by.")
@click.option("--client-ip", type=ClientAddress(), help="The client's address; 127.0.0.1 if you do not say.")
@click.option("--helo", default="localhost", help="The name that the client gave itself.")
@click.option("--sender", help="The envelope sender; <> for a bounce.")
@click.option("--recipient", "recipients", multiple=True, help="A recipient; may be repeated.")
@click.option("--user", help="The login name of an authenticated client.")
@click.option(
    "--zone", type=click.Path(path_type=Path), help="Answer DNS questions from this RFC 1035 master file alone."
)
@click.option("--store", type=click.Path(path_type=Path), help="The store of decisions; the policy's, if not said.")
@click.option("--replay", is_flag=True, help="Judge the stored mail again by POLICY, exactly as it was seen.")
@click.option("--last", default=20, type=click.IntRange(1, 10_000), help="How many mails are listed, without TARGET.")
@click.option("--since", type=Ago(), help="List mails of the last 30m, 2h or 7d only.")
@click.option("--json", "as_json", is_flag=True, help="Print the transcript as JSON.")
def command(
    target: str | None,
    policy_file: Path | None,
    client_ip: IPAddress | None,
    helo: str,
    sender: str | None,
    recipients: tuple[str, ...],
    user: str | None,
    zone: Path | None,
    store: Path | None,
    replay: bool,
    last: int,
    since: float | None,
    as_json: bool,
) -> None:
    """Say why: every fact and rule that decided on a mail.

    TARGET is a FILE (a mail as it is stored; - is standard input), which is judged now; or the QUEUE-ID or session of
    a mail that was judged before, from the store of decisions. Without TARGET the last mails of the store are listed,
    with --sender, --recipient (parts will do), --client-ip and --since those that fit.

    Ends with 1 if the mail was or would be refused, with 2 if that cannot be told.
    """
    if target is not None and (target == "-" or "/" in target or Path(target).exists()):
        if policy_file is None:
            raise click.UsageError("Missing option '-p' / '--policy'.")
        policy = used_policy(policy_file)
        mail = StoredMail(
            _read(target),
            Client(client_ip or ip_address("127.0.0.1")),
            helo,
            as_path(sender or "", "--sender"),
            tuple(
                ForwardPath(each.text, each.mailbox) for each in (as_path(each, "--recipient") for each in recipients)
            ),
            user,
        )
        if client_ip is None:
            click.echo("no --client-ip: 127.0.0.1 is assumed, and may be trusted by the policy", err=True)
        _print(_judged(policy, mail, zone), as_json)
    compiled = used_policy(policy_file) if policy_file else None
    with closing(open_store(store, compiled)) as reader:
        if target is None:
            recipient = recipients[0] if recipients else None
            list_stored(reader, Wanted(None, sender, recipient, str(client_ip) if client_ip else None), since, last)
            return
        transcript = stored(reader, target)
    if replay:
        if compiled is None:
            raise click.UsageError("--replay judges by a policy: say which with --policy")
        _replay(compiled, transcript, as_json)
    _print(transcript, as_json)


def _replay(policy: Policy, seen: Transcript, as_json: bool) -> NoReturn:
    """Print the mail as it would end under this policy, or what is not known of that."""
    found = rejudge(policy, seen.authserv_id, seen)
    then = f"{DECIDED[seen.verdict.disposition]} by {seen.verdict.rule or 'no rule'}"
    click.echo(f"judged again by policy {policy.digest}; by policy {seen.policy} it was {then}", err=True)
    if found.transcript is None:
        raise MisuseError(f"cannot tell: {'; '.join(found.unknown)}")
    _print(found.transcript, as_json, found.unknown)


def used_policy(file: Path) -> Policy:
    """The policy; ends with 2 and all that is wrong where it cannot be used."""
    try:
        return load_policy(file)
    except PolicyErrors as error:
        for each in error.errors:
            click.echo(str(each), err=True)
        sys.exit(2)


def _read(target: str) -> bytes:
    try:
        with click.open_file(target, "rb") as file:
            data: bytes = file.read(_MAX_MAIL + 1)
    except OSError as error:
        raise MisuseError(f"'{target}': {error.strerror}") from None
    if len(data) > _MAX_MAIL:
        raise MisuseError(f"the mail is larger than {_MAX_MAIL} bytes")
    return data


def as_path(value: str, option: str) -> ReversePath:
    """The mail address that an option names. Raises click.BadParameter."""
    text = value.strip().removeprefix("<").removesuffix(">")
    try:
        return ReversePath(text, parse_path(text))
    except AddressError as error:
        raise click.BadParameter(f"{value!r} is no mail address: {error}", param_hint=f"'{option}'") from None


def as_recipients(values: tuple[str, ...]) -> tuple[ForwardPath, ...]:
    """The recipients that options name. Raises click.BadParameter."""
    paths = [as_path(each, "--recipient") for each in values]
    return tuple(ForwardPath(each.text, each.mailbox) for each in paths)


def _print(transcript: Transcript, as_json: bool, unknown: tuple[str, ...] = ()) -> NoReturn:
    if as_json:
        click.echo(json.dumps(transcript.to_mapping(), indent=2))
        for why in unknown:
            click.echo(f"cannot tell: {why}", err=True)
    else:
        page = explain(transcript, unknown)
        click.echo(painted(page) if sys.stdout.isatty() else page, nl=False)
    sys.exit(2 if unknown else 1 if transcript.verdict.disposition.final else 0)


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

        judge(Runtime(policy.offline(), authserv_id(policy), view, transcripts.append), mail)
    finally:
        if live:
            live.close()
    if not transcripts:
        raise MisuseError("the mail has no recipient that is taken; give --recipient")
    return transcripts[-1]


def _zone(path: Path) -> Resolver:
    try:
        return zone_resolver(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MisuseError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise MisuseError(f"{path}: is not UTF-8 text") from None
    except ZoneFileError as error:
        raise MisuseError(f"{path}:{error.line}: {error.text}") from None
