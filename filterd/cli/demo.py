"""`filterd demo`: the main job, on one machine, in one command."""

import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

import click

from filterd.demo.cast import PASSWORD, READER, USER, scenes
from filterd.demo.play import Seen, play
from filterd.demo.stage import Stage, StageError, set_up

# In a checkout, and where pip puts data files.
_POLICIES = (Path(__file__).parents[2] / "policies", Path(sys.prefix) / "share" / "filterd" / "policies")


@click.command(name="demo")
@click.option("--keep", is_flag=True, help="Leave all parts running afterwards, and say where, until Ctrl-C.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where mails and logs go; by default a new one in /tmp."
)
def command(keep: bool, folder: Path | None) -> None:
    """Start a DNS server, filterd and the bundled mail server on loopback, send mails, show what became of them.

    Ends with 0 only if every mail ended as it should.
    """
    try:
        # The policy, which has the socket's path, wants it absolute.
        folder = (folder or Path(tempfile.mkdtemp(prefix="filterd-demo-"))).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / "demo.pem").exists():
            raise click.UsageError(f"{folder} has files of others; the demo wants a folder of its own")
        policy = next((found for each in _POLICIES if (found := each / "default.yaml").is_file()), None)
        if policy is None:
            raise click.ClickException(f"default.yaml is in none of {', '.join(map(str, _POLICIES))}")
        with set_up(folder, policy) as stage:
            seen = [play(stage, scene, number) for number, scene in enumerate(scenes(stage.key, int(time.time())))]
            _table(seen)
            _where(stage)
            if keep:
                _stay(stage)
    except (StageError, OSError) as error:
        raise click.ClickException(str(error)) from None
    wrong = sum(bool(each.faults) for each in seen)
    click.echo(f"\n{len(seen) - wrong} of {len(seen)} mails ended as they should.")
    sys.exit(1 if wrong else 0)


def _table(seen: list[Seen]) -> None:
    rows: list[tuple[str, ...]] = [("mail", "SPF", "DKIM", "DMARC", "the MTA said", "ended in", "decided by")]
    for each in seen:
        decision = each.decision
        dkim = str(decision["dkim"]).partition(":")[0]
        if decision.get("from_us"):
            dkim = "signed" if decision.get("signed") else "not signed"
        result: tuple[str, ...] = (each.scene.title, str(decision["spf"]), dkim, str(decision["dmarc"]))
        rows.append((*result, _short(each.reply), each.ends, str(decision["rule"])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    click.echo()
    for index, row in enumerate(rows):
        line = "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        wrong = seen[index - 1].faults if index else ()
        click.secho(line, bold=index == 0, fg="red" if wrong else None)
        for fault in wrong:
            click.secho(f"  wrong: {fault}", fg="red")


def _short(reply: str) -> str:
    return reply if len(reply) <= 34 else reply[:31] + "..."


def _where(stage: Stage) -> None:
    click.echo(f"\nDelivered mails   {stage.maildir}/new")
    click.echo(f"The decision log  {stage.log}")
    click.echo(f"The policy        {stage.folder}/policy.yaml")


def _stay(stage: Stage) -> None:
    smtp, dns = (f"{host}:{port}" for host, port in (stage.smtp, stage.dns))
    click.echo(f"\nSMTP              {smtp} (for {READER}; XCLIENT makes you any client; AUTH {USER} {PASSWORD})")
    click.echo(f"DNS               {dns}")
    click.echo(f"filterd's milter  {stage.milter}")
    click.echo("Everything runs until Ctrl-C.")

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    try:
        signal.pause()
    except KeyboardInterrupt:
        click.echo()
