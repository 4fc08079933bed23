"""`filterd mta -c mta.yaml` with clients that are not ours: swaks sends, s-nail sends and reads, as people have them."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.certificate import certificate
from servers.debian import unpacked

_FILTERD = (sys.executable, "-c", "from filterd.cli.main import main; main()", "mta")
_ANNA, _PAUL = "anna@example.org", "paul@example.org"
_PASSWORDS = {_ANNA: "anna's secret", _PAUL: "secret"}
_CONFIG = """
hostname: mx.example.org
listen:
  - 127.0.0.1:0
  - { at: "127.0.0.1:0", service: submission }
  - { at: "127.0.0.1:0", service: submissions }
  - { at: "127.0.0.1:0", service: pop3 }
  - { at: "127.0.0.1:0", service: pop3s }
  - { at: "127.0.0.1:0", service: imaps }
tls: { certificate: chain.pem, key: chain.pem }
users: users
domains: [example.org]
"""

pytestmark = pytest.mark.system


class Place:
    """A running MTA: its folder, and the ports of its services."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self.folder = folder
        self.ports = ports

    def swaks(self, *arguments: str) -> tuple[int, str]:
        """Send a mail to Paul; the exit status and what was said."""
        program = unpacked("swaks") / "usr/bin/swaks"
        common = ("--server", "127.0.0.1", "--to", _PAUL, "--helo", "laptop.example", "--timeout", "60", "--no-hints")
        return self._run("perl", str(program), *common, *arguments)

    def s_nail(self, *arguments: str, given: str) -> str:
        """Run it without any settings but these."""
        settings = ("-:/", "-Sv15-compat", f"-Stls-ca-file={self.folder}/chain.pem", "-Stls-verify=strict")
        status, said = self._run(str(unpacked("s-nail") / "usr/bin/s-nail"), *settings, *arguments, given=given)
        assert status == 0, said
        return said

    def url(self, service: str, scheme: str, user: str) -> str:
        quoted = "".join(f"%{ord(char):02X}" if not char.isalnum() else char for char in _PASSWORDS[user])
        return f"{scheme}://{user.replace('@', '%40')}:{quoted}@localhost:{self.ports[service]}"

    def _run(self, *command: str, given: str = "") -> tuple[int, str]:
        environment = {**os.environ, "HOME": str(self.folder), "LC_ALL": "C.UTF-8", "TMPDIR": str(self.folder)}
        done = subprocess.run(command, input=given, capture_output=True, encoding="utf-8", env=environment, timeout=120)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("mta")
    certificate(folder)
    (folder / "mta.yaml").write_text(_CONFIG)
    for user, password in _PASSWORDS.items():
        subprocess.run([*_FILTERD, "passwd", folder / "users", user], input=f"{password}\n", text=True, check=True)
    process = subprocess.Popen([*_FILTERD, "-c", folder / "mta.yaml"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(_CONFIG.count(":0"))]
        found = [re.match(r"listening on 127\.0\.0\.1:(\d+) \((\w+)\)", line) for line in lines]
        yield Place(folder, {each[2]: int(each[1]) for each in found if each is not None})
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("arguments", "service", "status"),
    [
        (("--from", "x@stranger.example"), "smtp", 0),
        (("--from", _ANNA, "--tls", "--auth", "PLAIN"), "submission", 0),
        (("--from", _ANNA, "--tls", "--auth", "LOGIN"), "submission", 0),
        (("--from", _ANNA, "--tls-on-connect", "--auth", "PLAIN"), "submissions", 0),
        (("--from", _ANNA, "--tls", "--pipeline", "--auth", "PLAIN"), "submission", 0),
        (("--from", _ANNA, "--auth", "PLAIN"), "submission", 28),  # AUTH is not offered without TLS
        (("--from", _ANNA, "--tls"), "submission", 23),  # MAIL is refused to who has not logged in
        (("--from", "x@stranger.example", "--to", "y@elsewhere.example"), "smtp", 24),  # no relay
    ],
)
def test_swaks(place: Place, arguments: tuple[str, ...], service: str, status: int) -> None:
    login = ("--auth-user", _ANNA, "--auth-password", _PASSWORDS[_ANNA]) if "--auth" in arguments else ()
    found, said = place.swaks("--port", str(place.ports[service]), *arguments, *login)

    assert status == found, said


@pytest.mark.parametrize(("send", "read"), [("submissions", "pop3s"), ("submission", "imaps"), ("submission", "pop3")])
def test_s_nail_sends_and_reads(place: Place, send: str, read: str) -> None:
    mta = place.url(send, "smtps" if send == "submissions" else "smtp", _ANNA)
    place.s_nail(
        "-Ssmtp-use-starttls",
        f"-Smta={mta}",
        f"-Sfrom={_ANNA}",
        "-Ssmtp-config=plain",
        "-s",
        f"lunch by {send} and {read}",
        _PAUL,
        given="Käse at noon?\n.\nFrom me\n",
    )

    said = place.s_nail("-Spop3-use-starttls", "-R", "-f", place.url(read, read, _PAUL), given="type *\nquit\n")
    (mail,) = re.findall(rf"(?s)Subject: lunch by {send} and {read}\n.*?From me\n", said)
    assert mail.endswith("\n\nKäse at noon?\n.\nFrom me\n")
