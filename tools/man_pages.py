"""Write man/filterd.1 and a page for each command, made from the commands themselves: python tools/man_pages.py man

click-man cuts what a command is for short, does not see commands that are imported when they are asked for, and knows
no paragraphs. A command's commands stand on its page: one page says all about keys.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from filterd.cli.main import COMMANDS, main

HEAD = '.\\" Made by tools/man_pages.py; do not edit.'
# Where one page leads to others, beside filterd(1) and filterd.yaml(5).
RELATED = {
    "run": ("status", "reload", "check"),
    "reload": ("run", "status"),
    "status": ("run", "reload"),
    "check": ("explain", "replay"),
    "explain": ("check", "replay"),
    "replay": ("check", "explain"),
    "mta": ("demo",),
    "demo": ("mta",),
}


def roff(text: str) -> str:
    """The text as troff has it: nothing in it is a request or an escape."""
    return re.sub(r"^([.'])", r"\\&\1", text.replace("\\", "\\e").replace("-", "\\-"), flags=re.MULTILINE)


def paragraphs(text: str) -> Iterator[str]:
    """A help text: paragraphs are filled, but for those that click leaves as they are (\\b)."""
    for number, each in enumerate(re.split(r"\n\s*\n", inspect.cleandoc(text).strip())):
        if number:
            yield ".PP"
        if each.startswith("\b"):
            yield from (".nf", roff(each.removeprefix("\b").strip("\n")), ".fi")
        else:
            yield roff(" ".join(each.split()))


def options(ctx: click.Context) -> Iterator[str]:
    for parameter in ctx.command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        repeated = "--help" in parameter.opts and ctx.parent is not None and ctx.parent.command is not main
        if record is not None and record[1] and not repeated:
            yield from (".TP", f"\\fB{roff(record[0])}\\fR", roff(record[1]))


def synopsis(ctx: click.Context) -> str:
    pieces = " ".join(ctx.command.collect_usage_pieces(ctx))
    return f"\\fB{roff(ctx.command_path)}\\fR {roff(pieces)}"


def runs(command: click.Command) -> bool:
    """Whether it does something by itself, and not only by one of its commands."""
    return command is main or not isinstance(command, click.Group) or command.invoke_without_command


def inner(ctx: click.Context) -> Iterator[click.Context]:
    """The commands of a command, and theirs."""
    if isinstance(ctx.command, click.Group):
        for name in ctx.command.list_commands(ctx):
            command = ctx.command.get_command(ctx, name)
            if command is not None and not command.hidden:
                below = click.Context(command, info_name=name, parent=ctx)
                yield below
                yield from inner(below)


def page(name: str, purpose: str, ctx: click.Context) -> str:
    commands = [] if ctx.command is main else list(inner(ctx))
    lines = [HEAD, f'.TH {name.upper()} 1 "" filterd "filterd manual"', ".SH NAME"]
    lines += [f"{name} \\- {roff(purpose.removesuffix('.'))}", ".SH SYNOPSIS", ".nf"]
    lines += [synopsis(each) for each in (ctx, *commands) if runs(each.command)]
    lines += [".fi", ".SH DESCRIPTION", *paragraphs(ctx.command.help or "")]
    lines += [".SH OPTIONS", *options(ctx)]
    if ctx.command is main:
        lines.append(".SH COMMANDS")
        for word, says in COMMANDS.items():
            lines += [".TP", f"\\fBfilterd\\-{word}\\fR(1)", roff(says)]
    for each in commands:
        lines += [f'.SH "{each.command_path.removeprefix("filterd ").upper()}"', *paragraphs(each.command.help or "")]
        lines += options(each)
    related = [f"filterd\\-{word}" for word in RELATED.get(name.removeprefix("filterd-"), ())]
    others = ["filterd", *related] if ctx.command is not main else []
    seen = [f"\\fB{each}\\fR(1)" for each in others] + ["\\fBfilterd.yaml\\fR(5)"]
    return "\n".join([*lines, ".SH SEE ALSO", ", ".join(seen)]) + "\n"


def pages() -> dict[str, str]:
    """Every page, by the name of its file."""
    top = click.Context(main, info_name="filterd", **main.context_settings)
    made = {"filterd.1": page("filterd", main.help or "", top)}
    for word, purpose in COMMANDS.items():
        command = main.get_command(top, word)
        assert command is not None
        ctx = click.Context(command, info_name=word, parent=top)
        made[f"filterd-{word}.1"] = page(f"filterd-{word}", purpose, ctx)
    return made


if __name__ == "__main__":
    for file, text in pages().items():
        (Path(sys.argv[1]) / file).write_text(text)
