"""`filterd mta` as a process: says where it listens, takes mail, and ends cleanly when it is told to."""

import re
import signal
import smtplib
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from filterd.cli.mta import command
from filterd.mta.users import hash_password

_RUN = [sys.executable, "-c", "from filterd.cli.mta import command; command()"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_takes_mail_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    users = tmp_path / "users"
    users.write_text(f"# who may\n\nalice:{hash_password('secret:with colon')}\n", encoding="utf-8")
    arguments = ["--listen", "127.0.0.1:0", "--maildir", str(tmp_path / "mail"), "--users", str(users)]
    process = subprocess.Popen(
        [*_RUN, *arguments, "--hostname", "mx.example.net"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        found = re.match(r"listening on 127\.0\.0\.1:(\d+) \(smtp\), delivering into ", process.stdout.readline())
        assert found is not None
        with smtplib.SMTP("127.0.0.1", int(found[1])) as client:
            client.login("alice", "secret:with colon")
            client.sendmail("a@example.org", "b@example.net", b"Subject: x\r\n\r\n")
        process.send_signal(number)

        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0
        assert len(list((tmp_path / "mail" / "b@example.net" / "new").iterdir())) == 1
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--listen", "127.0.0.1"], "HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "HOST:PORT"),
        (["--milter", "nonsense"], "unix:/PATH, inet:PORT@ADDRESS"),
        (["--user", "alice"], "NAME:PASSWORD"),
        (["--default-action", "x"], "tempfail"),
    ],
)
def test_what_cannot_be_is_misuse(tmp_path: Path, arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(command, ["--maildir", str(tmp_path), *arguments])

    assert result.exit_code == 2
    assert says in result.output


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(command, ["--maildir", str(tmp_path), "--listen", f"127.0.0.1:{port}"])

    assert result.exit_code == 1
    assert f"Error: cannot listen on 127.0.0.1:{port}: " in result.output
