"""`filterd replay`: what a policy would do with stored mail, or what a change of it would change."""

import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import click

from filterd.backend.mailboxes import Kept, mails, size_of
from filterd.backend.policy_files import load_policy
from filterd.backend.resolver import DnsResolver
from filterd.backend.zone import ZoneFileError, zone_resolver
from filterd.cli.explain import ClientAddress, as_path, as_recipients, used_policy
from filterd.cli.misuse import MisuseError
from filterd.engine.replay import StoredMail
from filterd.engine.replay_compare import DELIVERED, Ending, Source, Tally, ending
from filterd.engine.runtime import authserv_id
from filterd.lookup import Resolver
from filterd.mail.transaction import Client, IPAddress
from filterd.policy.explain import printable_text
from filterd.policy.rules import Policy

_CHUNK_MAILS = 50
_CHUNK_OCTETS = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Work:
    """What a process needs to judge mails; it reads the policies itself."""

    new: Path
    old: Path | None
    zone: Path | None
    mail: StoredMail
    source: Source


@dataclass(frozen=True, slots=True)
class _Compared:
    name: str
    before: Ending
    after: Ending


@click.command(name="replay")
@click.argument("mailbox", type=click.Path(path_type=Path, exists=True))
@click.option("-p", "--policy", "new", required=True, type=click.Path(path_type=Path), help="The policy to try.")
@click.option("--against", type=click.Path(path_type=Path), help="The policy to compare with; else: as delivered.")
@click.option("--zone", type=click.Path(path_type=Path), help="Answer DNS from this RFC 1035 master file alone.")
@click.option("--client-ip", type=ClientAddress(), help="The client's address, of all mails.")
@click.option("--helo", default="localhost", help="The name that the client gave itself.")
@click.option("--sender", default="", help="The envelope sender; <> for a bounce.")
@click.option("--recipient", "recipients", multiple=True, help="A recipient; may be repeated.")
@click.option("--user", help="The login name of an authenticated client.")
@click.option(
    "--from-received",
    is_flag=True,
    help="Take client, date and envelope of each mail from its Received, Return-Path and Delivered-To fields.",
)
@click.option(
    "--trust-results",
    "results_of",
    metavar="AUTHSERV-ID",
    help="Believe this server's Authentication-Results in the mails; DNS is asked only with --zone.",
)
@click.option("--list", "listing", is_flag=True, help="Name each mail that would change or cannot be told.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    mailbox: Path,
    new: Path,
    against: Path | None,
    zone: Path | None,
    client_ip: IPAddress | None,
    helo: str,
    sender: str,
    recipients: tuple[str, ...],
    user: str | None,
    from_received: bool,
    results_of: str | None,
    listing: bool,
    as_json: bool,
) -> None:
    """Judge the mails of MAILBOX by a policy, and say what would change.

    MAILBOX is an mbox, a Maildir, a mail, or a folder of such (.mbox, .eml). Nothing is delivered or changed. What the
    policy would have to know and the mails do not tell counts as "cannot tell".

    Ends with 1 if any mail would end otherwise, with 0 if none would.
    """
    for policy in filter(None, (new, against)):
        used_policy(policy)
    if client_ip is None and not from_received:
        raise click.UsageError("say whose mail it is: --from-received, or --client-ip for all of it")
    client = Client(client_ip or ip_address("127.0.0.1"))
    mail = StoredMail(b"", client, helo, as_path(sender, "--sender"), as_recipients(recipients), user)
    work = _Work(new, against, zone, mail, Source(from_received, results_of))
    _resolver(work)  # a zone file that cannot be read is told of here
    tally, listed = Tally(), []
    for each in _compared(mailbox, work):
        changed = tally.add(each.before, each.after)
        if changed or each.before.unknown or each.after.unknown:
            line = (each.name, str(each.before), str(each.after))
            if listing and not as_json:
                click.echo(f"{printable_text(line[0])}: {line[1]} -> {line[2]}")
            elif listing:
                listed.append(line)
    _print(tally, listed, as_json)
    sys.exit(1 if tally.changed else 0)


def _compared(mailbox: Path, work: _Work) -> Iterator[_Compared]:
    """Every mail, in order, judged by as many processes as there are processors; few mails are in memory at once."""
    workers = os.cpu_count() or 1
    waiting: deque[tuple[int, Future[list[_Compared]]]] = deque()
    with (
        click.progressbar(length=size_of(mailbox), file=sys.stderr, hidden=not sys.stderr.isatty()) as bar,
        ProcessPoolExecutor(workers, initializer=_prepare, initargs=(work,)) as pool,
    ):
        try:
            for chunk in _chunks(mails(mailbox)):
                waiting.append((sum(each.octets for each in chunk), pool.submit(_judge, chunk)))
                while len(waiting) > 3 * workers:
                    octets, done = waiting.popleft()
                    yield from done.result()
                    bar.update(octets)
        except OSError as error:
            raise MisuseError(f"{mailbox}: {error.strerror}") from None
        for octets, done in waiting:
            yield from done.result()
            bar.update(octets)


def _chunks(stored: Iterable[Kept]) -> Iterator[list[Kept]]:
    chunk: list[Kept] = []
    octets = 0
    for each in stored:
        chunk.append(each)
        octets += each.octets
        if len(chunk) >= _CHUNK_MAILS or octets >= _CHUNK_OCTETS:
            yield chunk
            chunk, octets = [], 0
    if chunk:
        yield chunk


@dataclass(frozen=True, slots=True)
class _Bench:
    """What one process judges with."""

    work: _Work
    new: Policy
    old: Policy | None
    resolver: Resolver | DnsResolver | None


_BENCH: list[_Bench] = []


def _prepare(work: _Work) -> None:
    resolver = _resolver(work)
    if isinstance(resolver, DnsResolver):
        resolver.start()
    _BENCH[:] = [_Bench(work, load_policy(work.new), load_policy(work.old) if work.old else None, resolver)]


def _judge(chunk: list[Kept]) -> list[_Compared]:
    (bench,) = _BENCH
    return [_one(bench, each) for each in chunk]


def _one(bench: _Bench, kept: Kept) -> _Compared:
    if kept.data is None:
        return _Compared(kept.name, DELIVERED, Ending("", unknown=(kept.why,)))
    given = bench.work.mail
    mail = StoredMail(kept.data, given.client, given.helo, given.sender, given.recipients, given.user)
    before = _ending(bench, bench.old, mail) if bench.old else DELIVERED
    return _Compared(kept.name, before, _ending(bench, bench.new, mail))


def _ending(bench: _Bench, policy: Policy, mail: StoredMail) -> Ending:
    resolver = bench.resolver
    if isinstance(resolver, DnsResolver):
        view = resolver.view
        return ending(policy, authserv_id(policy), mail, view, bench.work.source)
    offline = resolver
    return ending(policy, authserv_id(policy), mail, (lambda _: offline) if offline else None, bench.work.source)


def _resolver(work: _Work) -> Resolver | DnsResolver | None:
    if work.zone is not None:
        try:
            return zone_resolver(work.zone.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise MisuseError(f"{work.zone}: cannot be read: {error}") from None
        except ZoneFileError as error:
            raise MisuseError(f"{work.zone}:{error.line}: {error.text}") from None
    if work.source.results_of is not None:
        return None
    dns = load_policy(work.new).settings.dns
    return DnsResolver(dns.servers, dns.timeout)


def _print(tally: Tally, listed: list[tuple[str, str, str]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_mapping(tally, listed), indent=2))
        return
    width = len(str(tally.mails))
    for label, count in (
        ("mails", tally.mails),
        ("end as before", tally.same),
        ("would change", tally.changed),
        ("cannot tell", tally.unknown),
    ):
        click.echo(f"{label:13}  {count:{width}}")
    for title, rows in (
        ("what would change", [(f"{before} -> {after}", n) for (before, after), n in tally.changes.most_common(50)]),
        ("cannot tell", tally.why.most_common(20)),
    ):
        if rows:
            click.echo(f"\n{title}")
            for text, count in rows:
                click.echo(f"  {count:{width}}  {printable_text(text)}")
    if tally.rules:
        columns = ("before", "after", "newly", "no longer", "cannot tell")
        name = max(4, *map(len, tally.rules))
        click.echo(f"\n{'rule':{name}}  {'  '.join(f'{each:>11}' for each in columns)}")
        for rule, counted in sorted(tally.rules.items()):
            click.echo(f"{rule:{name}}  {'  '.join(f'{counted[each]:>11}' for each in columns)}")


def _mapping(tally: Tally, listed: list[tuple[str, str, str]]) -> dict[str, object]:
    return {
        "mails": tally.mails,
        "same": tally.same,
        "changed": tally.changed,
        "cannot_tell": tally.unknown,
        "changes": [
            {"before": before, "after": after, "mails": n} for (before, after), n in tally.changes.most_common()
        ],
        "why": dict(tally.why),
        "rules": {rule: dict(counted) for rule, counted in sorted(tally.rules.items())},
        "list": [{"mail": name, "before": before, "after": after} for name, before, after in listed],
    }
