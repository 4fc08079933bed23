"""OpenDKIM's miltertest, an MTA's side of the protocol that is not ours, meets `filterd run`, over both engines."""

import subprocess
from pathlib import Path

import pytest
from example_org import policy
from servers.debian import unpacked
from servers.filterd import Filterd

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("engine")]

_RULES = """
rules:
- { name: unknown, when: envelope.recipient == "no@example.net", then: reject, reply: 550 5.1.1 not him }
- { name: later, when: envelope.sender == "later@example.org", then: hold, at: end_of_message }
"""
_MAIL = ["mail c", "no y", "rcpt c"]


# What an MTA of that version offers: actions, and ways to talk.
@pytest.mark.parametrize(
    ("version", "actions", "steps"), [(2, 0x3F, 0x7F), (4, 0x3F, 0x3FF), (6, 0x1FF, 0x1FFFFF)], ids=["2", "4", "6"]
)
def test_it_talks_as_miltertest_expects(dns: str, tmp_path: Path, version: int, actions: int, steps: int) -> None:
    program = unpacked("miltertest") / "usr/bin/miltertest"
    told = {"socket": f"unix:{tmp_path}/milter", "version": version, "actions": actions, "steps": steps}
    defines = [word for name, value in told.items() for word in ("-D", f"{name}={value}")]
    with Filterd(tmp_path, policy(dns, _RULES)) as filterd:
        script = Path(__file__).with_name("miltertest.lua")
        done = subprocess.run([program, *defines, "-s", script], capture_output=True, text=True, timeout=300)
        assert filterd.events("fault") == []

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "connect c",
        "helo c",
        *_MAIL,
        "eom a",
        "results spf=pass",
        "hold false",
        *_MAIL,
        *_MAIL,
        "eom a",
        "results spf=pass",
        "hold true",
    ]
