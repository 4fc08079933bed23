"""`filterd demo`: the main job, on one machine, in one command."""

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

import click

from filterd.demo.cast import PASSWORD, READER, USER, guarded_scenes, scenes
from filterd.demo.play import Seen, play
from filterd.demo.stage import Stage, StageError, set_up

# In a checkout, and where pip puts data files.
_POLICIES = (Path(__file__).parents[2] / "policies", Path(sys.prefix) / "share" / "filterd" / "policies")
_HEAD = ("mail", "SPF", "DKIM", "DMARC", "the MTA said", "ended in", "decided by")
_REPLY = 34  # so much of it is shown in the table


@click.command(name="demo")
@click.option("--keep", is_flag=True, help="Leave all parts running afterwards, and say where, until Ctrl-C.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where mails and logs go; by default a new one in /tmp."
)
def command(keep: bool, folder: Path | None) -> None:
    """Start a DNS server, spamd, filterd and the bundled mail server on loopback, send mails, show what became of them.

    Ends with 0 only if every mail ended as it should.
    """
    # All parts end with it, however it ends; a shell's background job would not hear SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
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
            cast = (*scenes(stage.key, int(time.time())), *guarded_scenes())
            played = [scene for scene in cast if not (scene.scanned and stage.unscanned)]
            seen = [play(stage, scene, number) for number, scene in enumerate(played)]
            _show(seen)
            for scene in cast:
                if scene not in played:
                    click.secho(f"\nnot shown: {scene.title}: {stage.unscanned}", fg="yellow")
            _where(stage)
            if keep:
                _stay(stage)
    except (StageError, OSError) as error:
        raise click.ClickException(str(error)) from None
    wrong = sum(bool(each.faults) for each in seen)
    click.echo(f"\n{len(seen) - wrong} of {len(seen)} mails ended as they should.")
    sys.exit(1 if wrong else 0)


def _show(seen: list[Seen]) -> None:
    rows = [_row(each) for each in seen]
    table = [_HEAD, *((*row[:4], _short(row[4], _REPLY), *row[5:]) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    head, *lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
    columns = shutil.get_terminal_size().columns
    click.echo()
    if sys.stdout.isatty() and max(map(len, lines)) > columns:
        lines = [_block(row, widths[0], columns) for row in rows]
    else:
        click.secho(head, bold=True)
    for each, line in zip(seen, lines, strict=True):
        click.echo(click.style(line, fg="red") if each.faults else line)
        for fault in each.faults:
            click.secho(f"  wrong: {fault}", fg="red")


def _row(seen: Seen) -> tuple[str, ...]:
    decision = seen.decision
    dkim = str(decision["dkim"]).partition(":")[0]
    if decision.get("signed"):
        dkim = "signed"
    results = (seen.scene.title, str(decision["spf"]), dkim, str(decision["dmarc"]))
    return (*results, seen.reply, seen.ends, str(decision["rule"]))


def _block(row: tuple[str, ...], width: int, columns: int) -> str:
    """A mail in two lines, for a terminal that the table does not fit into."""
    title, spf, dkim, dmarc, reply, ends, rule = row
    by = "" if rule == "-" else f" by {rule}"
    return f"{title:{width}}  {ends}{by}\n" + _short(f"  SPF {spf}, DKIM {dkim}, DMARC {dmarc}: {reply}", columns)


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _where(stage: Stage) -> None:
    click.echo(f"\nDelivered mails   {stage.maildir}/new")
    click.echo(f"The decision log  {stage.log}")
    click.echo(f"The policy        {stage.folder}/policy.yaml")


def _stay(stage: Stage) -> None:
    smtp, dns = (f"{host}:{port}" for host, port in (stage.smtp, stage.dns))
    click.echo(f"\nSMTP              {smtp} (for {READER}; XCLIENT makes you any client; AUTH {USER} {PASSWORD})")
    click.echo(f"DNS               {dns}")
    click.echo(f"filterd's milter  {stage.milter}")
    try:
        click.echo("Everything runs until Ctrl-C.")
        while True:
            # Not signal.pause(): a signal that comes just before it would be noticed after the next one.
            time.sleep(1)
    except KeyboardInterrupt:
        click.echo()


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
