"""The command `filterd`. Each subcommand is a file of this folder, imported only when it is asked for."""

import importlib

import click

#: Command, and what it is for: shown by `filterd --help` without importing anything else.
COMMANDS = {
    "run": "The daemon: judge mail for an MTA.",
    "reload": "Have the daemon load its policy anew; what became of it.",
    "status": "How the daemon goes: workers, policy, what it has counted.",
    "attach": "Have Postfix ask filterd: shows what changes, asks, checks.",
    "detach": "Have Postfix no longer ask filterd.",
    "doctor": "What is wrong with the joint with Postfix, and the lines that mend it.",
    "check": "Validate a policy; show when its rules run and what they cost.",
    "schema": "Print the JSON Schema of policies, for editors.",
    "limits": "What the limits of a policy have counted.",
    "quarantine": "The mail on hold in Postfix: list, show, release, delete.",
    "explain": "Say why a mail ended as it did, or how a stored one would.",
    "replay": "Judge mailboxes by a policy, and say what it would change.",
    "key": "DKIM keys: make them, show their DNS records, see whether they are published.",
    "mta": "The bundled mail server, to try and test with.",
    "demo": "The main job, on one machine, in one command.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"filterd.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="filterd")
def main() -> None:
    """SPF, DKIM, DMARC and a verdict that explains itself, for Postfix and Sendmail."""
