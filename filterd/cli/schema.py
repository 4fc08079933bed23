"""`filterd schema`: what editors need to know about policy files."""

import json

import click

from filterd.policy.json_schema import MODELINE, json_schema


@click.command("schema", epilog=f"A policy names it in its first line:\n\n{MODELINE}")
def command() -> None:
    """Print the JSON Schema of policy files, for editors that complete and complain while you type.

    Put it beside your policy: filterd schema > schema.json
    """
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
