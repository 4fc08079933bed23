"""Colour for the page of `filterd explain`, where a person reads it on a terminal."""

import re

import click

_VERDICTS = {
    "accepted": "green",
    "quarantined": "magenta",
    "held": "magenta",
    "deferred": "yellow",
    "rejected": "red",
    "discarded": "red",
}
_VERDICT = re.compile(r"(?P<key>verdict +)(?P<word>[a-z]+)(?P<rest>.*)")
_FIRED = re.compile(r"  [a-z_]+(?: <.*>)? +\S+ +(fired|would have fired|cannot tell|not evaluated)\b.*")
_IDLE = re.compile(r"  [a-z_]+(?: <.*>)? +\S+ +(did not fire|not reached|not applicable)\b.*")
_TITLE = re.compile(r"(results|rules|dns)")


def painted(page: str) -> str:
    """The page with what matters in colour; the text is the same."""
    lines: list[str] = []
    idle = False
    for line in page.splitlines():
        verdict = _VERDICT.fullmatch(line)
        if verdict:
            word = click.style(verdict["word"], fg=_VERDICTS.get(verdict["word"]), bold=True)
            line = verdict["key"] + word + verdict["rest"]
        elif _TITLE.fullmatch(line) or _FIRED.fullmatch(line):
            line, idle = click.style(line, bold=True), False
        elif _IDLE.fullmatch(line) or (idle and line.startswith(" " * 20)):
            line, idle = click.style(line, dim=True), True
        else:
            idle = False
        lines.append(line)
    return "\n".join(lines) + "\n"
