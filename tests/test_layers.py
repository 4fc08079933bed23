"""Imports go down only, and the lower half of the house touches no world (the table is CONTRIBUTING's)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import filterd

HOUSE = Path(filterd.__file__).parent

LAYERS = (
    {"mail", "lookup"},
    {"authres"},
    {"spf", "dkim", "helo", "iprev", "dnsbl", "spam", "limits", "wire"},
    {"dmarc", "arc"},
    {"policy", "report"},
    {"backend"},
    {"engine"},
    {"frontend", "mta"},
    {"daemon", "demo", "postfix"},
    {"cli"},
    {"__main__"},
)
LAYER = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms}
TOUCHES_NOTHING = 4  # up to and with this layer

WORLD = {"socket", "ssl", "threading", "asyncio", "os", "time", "random", "logging", "subprocess"}
ONE_ROOM = {
    "spf": "spf",
    "dkim": "dkim",
    "Milter": "frontend",
    "milter": "frontend",
    "dns": "backend",
    "publicsuffixlist": "backend",
    "pymap": "mta",
    "pysasl": "mta",
    "proxyprotocol": "mta",
}
NEIGHBOUR = {"mta": {"mta", "mail", "wire", "lookup"}}  # it is a client of filterd, as Postfix is

# What breaks the rules, file by file, with the reason.
EXCEPTIONS = {
    ("lookup.py", "filterd.mail"),  # an answer says why in mail's words; mail knows nothing of answers
    ("demo/nameserver.py", "dns"),  # a server for the stage's zone; backend asks and never answers
}

FILES = sorted(path.relative_to(HOUSE) for path in HOUSE.rglob("*.py") if path.name != "__init__.py")


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse((HOUSE / path).read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def faults(path: Path, module: str) -> Iterator[str]:
    room = path.parts[0].removesuffix(".py")
    layer = LAYER[room]
    top, _, rest = module.partition(".")
    if top == "filterd":
        other = rest.partition(".")[0]
        if other != room and LAYER[other] >= layer:
            yield f"{room} (layer {layer}) imports {other} (layer {LAYER[other]})"
        if other not in NEIGHBOUR.get(room, {other}):
            yield f"{room} imports {other}"
    if layer <= TOUCHES_NOTHING and top in WORLD:
        yield f"{room} (layer {layer}) imports {top}"
    if ONE_ROOM.get(top, room) != room:
        yield f"{room} imports {top}, which is {ONE_ROOM[top]}'s"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports(path: Path) -> None:
    excepted = [module for file, module in EXCEPTIONS if file == path.as_posix()]
    found = [
        fault
        for module in imports(path)
        if not any(f"{module}.".startswith(f"{each}.") for each in excepted)
        for fault in faults(path, module)
    ]

    assert found == []


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("mail/domain.py", "filterd.lookup.Outcome"),
        ("spf/check.py", "filterd.dkim.verify"),
        ("dmarc/evaluate.py", "filterd.policy.decide.decide"),
        ("policy/decide.py", "os.path"),
        ("dkim/verify.py", "time.time"),
        ("arc/verify.py", "dkim"),
        ("mta/queue.py", "filterd.engine.session"),
        ("mta/relay.py", "dns.resolver"),
    ],
)
def test_faults_are_found(path: str, module: str) -> None:
    assert list(faults(Path(path), module))
