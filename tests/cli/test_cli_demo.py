"""`filterd demo`: every mail ends as it should, again and again, and nothing runs on afterwards."""

import re
import signal
import smtplib
import subprocess
import sys
import time
from pathlib import Path

from dkim_mail import rsa_pair

from filterd.demo.cast import READER, guarded_scenes, scenes
from filterd.dkim.sign import SigningKey

_DEMO = [sys.executable, "-m", "filterd", "demo"]
_PATIENCE = 60


def test_every_mail_ends_as_it_should(tmp_path: Path) -> None:
    done = subprocess.run([*_DEMO, "--folder", "here"], cwd=tmp_path, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    table = done.stdout.split("\n\n")[0].strip().splitlines()
    cast = (*scenes(SigningKey.load(rsa_pair().pem), int(time.time())), *guarded_scenes())
    cells = [re.split(" {2,}", line) for line in table[1:]]
    assert [(title, spf, dmarc, ends, rule) for title, spf, _, dmarc, _, ends, rule in cells] == [
        (scene.title, scene.spf, scene.dmarc, scene.ends, scene.rule) for scene in cast
    ]
    assert [cell[2] for cell in cells] == ["signed" if scene.signed else scene.dkim for scene in cast]
    replies = {"refused": "550 5.7.1 ", "deferred": "45"}
    assert all(cell[4].startswith(replies.get(cell[5], "250 2.0.0 ")) for cell in cells)
    assert done.stdout.endswith(f"\n{len(cast)} of {len(cast)} mails ended as they should.\n")


def test_it_stays_until_it_is_told_to_go_and_starts_again_in_its_folder(tmp_path: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [*_DEMO, "--keep", "--folder", tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            said = ""
            while (line := process.stdout.readline()) not in ("", "Everything runs until Ctrl-C.\n"):
                said += line
            found = re.search(r"SMTP +(\S+):(\d+) ", said)
            assert found is not None, said
            with smtplib.SMTP(found[1], int(found[2]), timeout=_PATIENCE) as client:
                client.sendmail("x@stranger.example", [READER], b"From: anna@home.example\r\n\r\n")
            process.send_signal(number)
            rest, errors = process.communicate(timeout=_PATIENCE)
        finally:
            process.kill()
            process.wait()

        assert (process.returncode, errors) == (0, "")
        assert rest.endswith(" mails ended as they should.\n")
        assert not (tmp_path / "milter.sock").exists()
        assert '"event": "stopped"' in (tmp_path / "filterd.log").read_text()


def test_a_folder_that_cannot_be_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run([*_DEMO, "--folder", tmp_path / "file"], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"Error: .*File exists.*\n", done.stderr)
