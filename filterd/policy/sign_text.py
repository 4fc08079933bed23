"""The `sign` section as it stands in a policy file, for commands that write one."""

import re
from collections.abc import Sequence

import yaml

from filterd.policy.schema import SignEntry

_WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z0-9/._][A-Za-z0-9/._@+-]*")


def sign_text(entries: Sequence[SignEntry]) -> str:
    """YAML that a policy file can take as it is; ends with a line end."""
    return "sign:\n" + "".join(map(_entry, entries)) if entries else "sign: []\n"


def _entry(entry: SignEntry) -> str:
    names = [_scalar(name) for name in entry.domains]
    line = f"  - domains: [{', '.join(names)}]\n"
    text = line if len(line) <= _WIDTH else "  - domains:\n" + "".join(f"      - {name}\n" for name in names)
    text += "    keys:\n"
    for key in entry.keys:
        text += f"      - {{ selector: {_scalar(key.selector)}, file: {_scalar(key.file)} }}\n"
    if entry.expires is not None:
        text += f"    expires: {int(entry.expires)}s\n"
    if entry.on_unpublished != "defer":
        text += f"    on_unpublished: {entry.on_unpublished}\n"
    return text


def _scalar(text: str) -> str:
    # What other readers of YAML would take for a number or for nothing is quoted too.
    if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text:
        return text
    quoted: str = yaml.safe_dump(text, default_style='"', width=float("inf"))
    return quoted.removesuffix("\n")
