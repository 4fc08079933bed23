"""`filterd quarantine` over a real Postfix: what a rule holds is listed, shown, let go or deleted, and nothing else is."""

import json
import sys
from pathlib import Path
from subprocess import CompletedProcess, run

import pytest
from command_line import filterd as command
from example_org import HONEST, SENDER, about, by_subject
from servers.debian import as_root, unpacked
from servers.filterd import Judging
from servers.filterd_process import COMMAND
from servers.milter_process import eventually
from servers.postfix import Postfix

pytestmark = pytest.mark.system

HOLD = 'rules: [{ name: wait, when: header("subject") != "clean", then: hold }]'


def quarantine(postfix: Postfix, *arguments: str) -> CompletedProcess[str]:
    """The command as root types it, with the tools of the unpacked Postfix."""
    programs = unpacked("postfix")
    environment = [
        f"PATH={programs}/usr/sbin:/usr/bin:/bin",
        f"LD_LIBRARY_PATH={programs}/usr/lib/postfix",
        f"PYTHONPATH={Path(__file__).parents[2]}",
    ]
    words = [sys.executable, *COMMAND, "quarantine", *arguments, "-c", str(postfix.config)]
    return run(as_root(["env", *environment, *words]), capture_output=True, text=True, check=False)


def test_what_is_held_is_listed_shown_released_and_deleted(postfix: Postfix, judging: Judging, recipient: str) -> None:
    with judging(HOLD), postfix.connect(HONEST) as smtp:
        for subject in ("one", "two \x1b[2J\u202e", "clean"):
            smtp.sendmail(SENDER, [recipient], about(subject))
    postfix.settle()
    listed = json.loads(quarantine(postfix, "list", "--json").stdout)
    ids = {quarantine(postfix, "show", each["queue_id"]).stdout.partition("Subject: ")[2][:3]: each for each in listed}
    one, two = ids["one"]["queue_id"], ids["two"]["queue_id"]

    assert [(each["sender"], each["recipients"]) for each in listed] == [(SENDER, [recipient])] * 2
    page = quarantine(postfix, "list").stdout
    assert [line.split()[0] for line in page.splitlines()] == [each["queue_id"] for each in listed]
    # A mail on a terminal moves no cursor and hides nothing; a program has its octets.
    shown = quarantine(postfix, "show", two).stdout
    assert "Subject: two ?[2J?" in shown
    assert "\x1b" not in shown
    assert "\x1b[2J" in quarantine(postfix, "show", "--raw", two).stdout

    for wrong in ("ALL", "0000000000", f"{one}x"):
        refused = quarantine(postfix, "delete", wrong)
        assert (refused.returncode, refused.stderr) == (1, f"Error: not on hold: {wrong}\n")
    # One that is unknown, and nothing is done.
    assert quarantine(postfix, "release", one, "ALL").returncode == 1
    assert len(postfix.held()) == 2

    assert quarantine(postfix, "release", one).stdout == f"released: {one}\n"
    assert quarantine(postfix, "delete", two).stdout == f"deleted: {two}\n"
    eventually(lambda: len(postfix.maildir(recipient)) == 2)
    assert by_subject(postfix.maildir(recipient)).keys() == {"one", "clean"}
    assert postfix.queue() == []
    assert json.loads(quarantine(postfix, "list", "--json").stdout) == []


def test_a_machine_without_postfix_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("filterd.backend.postfix_queue._PATH", str(tmp_path))
    done = command("quarantine", "list")

    assert done.exit_code == 1
    assert "there is no postqueue on this machine: is Postfix installed?" in done.output
    assert command("quarantine", "release").exit_code == 2
