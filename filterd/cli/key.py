"""`filterd key`: the keys that sign, and the records that receivers verify with. A file of this folder each."""

import click

from filterd.cli import key_import, key_list, key_new, key_show


@click.group("key")
def command() -> None:
    """Make DKIM keys, show what to publish in DNS, and see whether it is published."""


for _each in (key_new, key_list, key_show, key_import):
    command.add_command(_each.command)
