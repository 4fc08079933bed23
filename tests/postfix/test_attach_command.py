"""`filterd attach postfix` and `filterd detach postfix` as a postmaster runs them."""

import os
import re
import signal
import subprocess

import pytest
from servers.debian import run_as_root
from servers.joint import Joint
from servers.postfix import Postfix

pytestmark = pytest.mark.system

ATTACH, DETACH = ("attach", "postfix"), ("detach", "postfix")
OTHERS = """smtpd_milters = inet:localhost:8891, unix:spamass/spamass.sock
smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination,
    # asked one after the other
    check_policy_service unix:private/policyd-spf,
    check_policy_service inet:127.0.0.1:10023
"""


def asks(postfix: Postfix) -> str:
    """Postfix's own word of it."""
    words = ("-c", postfix.config, "-hx", "smtpd_milters")
    return subprocess.run(["postconf", *words], env=postfix.environment, text=True, capture_output=True).stdout.strip()


def test_it_is_undone_to_the_octet(joint: Joint) -> None:
    joint.add(OTHERS, "# a comment \xe9\n")
    before = joint.files()

    status, text = joint.run(*ATTACH, answer="y\n")
    assert (status, "\n+smtpd_milters = $filterd_milter, inet:localhost:8891," in text) == (0, True)
    assert asks(joint.postfix) == "unix:milters/milter.sock, inet:localhost:8891, unix:spamass/spamass.sock"
    attached = joint.files()
    assert joint.run(*ATTACH) == (0, f"{joint.postfix.config}: Postfix asks filterd already\n")
    assert joint.files() == attached

    status, text = joint.run(*DETACH, answer="y\n")
    assert (status, joint.files()) == (0, before)
    assert sorted(os.listdir(joint.postfix.config)) == ["main.cf", "master.cf"]
    assert joint.run(*DETACH) == (0, f"{joint.postfix.config}: Postfix does not ask filterd\n")


def test_what_is_there_is_named_with_what_filterd_takes_over(joint: Joint) -> None:
    joint.add(OTHERS)
    _, text = joint.run(*ATTACH, "--dry-run")
    assert re.findall(r"(?m)^(\S+) is at (\S+):$", text) == [
        ("OpenDKIM", "inet:localhost:8891"),
        ("spamass-milter", "unix:spamass/spamass.sock"),
        ("policyd-spf", "unix:private/policyd-spf"),
        ("Postgrey", "inet:127.0.0.1:10023"),
    ]
    assert "filterd is asked first" in text
    assert "Nobody answers at unix:milters/milter.sock" in text
    explained = text.partition("--- ")[0]
    assert max(map(len, explained.splitlines())) < 80


@pytest.mark.parametrize(("words", "answer", "status"), [(["--dry-run"], "", 0), ([], "n\n", 1), ([], "", 1)])
def test_nothing_changes_unasked(joint: Joint, words: list[str], answer: str, status: int) -> None:
    before = joint.files()
    for command in (ATTACH, DETACH):
        found, text = joint.run(*command, *words, answer=answer)
        assert (found, joint.files()) == (status if command == ATTACH else 0, before), text
        assert sorted(os.listdir(joint.postfix.config)) == ["main.cf", "master.cf"]


def test_what_the_postmaster_changed_since_stays(joint: Joint) -> None:
    joint.run(*ATTACH, "--yes")
    joint.add("smtpd_banner = hello")
    status, text = joint.run(*DETACH, "--yes")
    assert (status, text.startswith("Somebody changed files in")) == (0, True)
    assert "smtpd_banner = hello" in joint.main.read_text()
    assert "filterd" not in re.sub(r"/\S*filterd\S*", "", joint.main.read_text())
    assert asks(joint.postfix) == ""


def test_attached_twice_it_is_undone_to_what_was_before_the_first(joint: Joint) -> None:
    before = joint.files()
    joint.run(*ATTACH, "--yes")
    joint.listens("milters/milter.sock", "milters/policy.sock")
    joint.run(*ATTACH, "--yes")
    assert b"check_policy_service unix:milters/policy.sock" in joint.files()[0]
    joint.run(*DETACH, "--yes")
    assert joint.files() == before


def test_owner_and_mode_stay_and_the_record_is_roots(joint: Joint) -> None:
    run_as_root("chmod", "640", joint.main)
    before = joint.main.stat()
    joint.run(*ATTACH, "--yes")
    after = joint.main.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert (joint.postfix.config / "filterd-attached.json").stat().st_mode & 0o777 == 0o600


def test_what_postfix_does_not_like_is_undone(joint: Joint) -> None:
    """`postfix check` complains of what was there before, too: that is no fault of filterd's."""
    before = joint.files()
    joint.postfix_says(f"echo was there; grep -q filterd_milter {joint.main} && echo this will not do")
    status, text = joint.run(*ATTACH, "--yes")
    assert (status, joint.files()) == (1, before)
    assert text.endswith("Error: Postfix does not like it, so all is as it was:\nthis will not do\n")
    assert sorted(os.listdir(joint.postfix.config)) == ["main.cf", "master.cf"]


def test_a_socket_out_of_the_chroots_reach_is_refused_with_the_line_that_mends_it(joint: Joint) -> None:
    before = joint.files()
    joint.listens("/run/filterd/milter.sock")
    status, text = joint.run(*ATTACH, "--yes")
    assert (status, joint.files()) == (2, before)
    assert f'server: {{ milter: ["unix:{joint.postfix.queue_directory}/filterd/milter.sock"] }}' in text


def test_a_folder_without_postfix_is_named(joint: Joint) -> None:
    joint.main.unlink()
    status, text = joint.run(*ATTACH, "--yes")
    assert (status, text) == (
        1,
        f"Error: {joint.postfix.config}: there is no main.cf, so no Postfix is configured there\n",
    )


KILL = """
import os, signal, sys
from pathlib import Path
from filterd.cli.main import main
left = int(sys.argv.pop(1))
def counted(call):
    def count(*arguments, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return count
for name in ("replace", "unlink"):
    setattr(Path, name, counted(getattr(Path, name)))
os.fsync = counted(os.fsync)
main()
"""


@pytest.mark.parametrize("undone", [False, True])
def test_killed_anywhere_it_can_be_completed_and_undone(joint: Joint, undone: bool) -> None:
    """Killed before each step that changes a file: what is left is repaired by either command."""
    joint.postfix_says("exit 0")
    # Both files change.
    joint.add(master="submission inet n - y - - smtpd\n  -o smtpd_milters=unix:a\n")
    before = joint.files()
    joint.run(*ATTACH, "--yes")
    attached = joint.files()
    start, end, command = (attached, before, DETACH) if undone else (before, attached, ATTACH)
    if not undone:
        joint.run(*DETACH, "--yes")

    begun = joint.postfix.directory / "begun"
    run_as_root("cp", "-a", joint.postfix.config, begun)

    for steps in range(100):
        words = joint.command(*command, "--yes")
        place = words.index("-c")
        words[place + 1 : place + 2] = [KILL, str(steps)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        found = joint.files()
        assert all(each in states for each, states in zip(found, zip(before, attached, strict=True), strict=True))
        assert joint.run(*(DETACH if undone else ATTACH), "--yes")[0] == 0
        assert joint.files() == end
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        run_as_root("rm", "-r", joint.postfix.config)
        run_as_root("cp", "-a", begun, joint.postfix.config)
        assert joint.files() == start
    assert steps > 5
