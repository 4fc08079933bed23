"""Debian's Dovecot, private to a test: LMTP in, IMAP out, and SASL for an MTA.

Everybody of `users` has a mailbox, under the name that is the whole address. Nothing of /etc is read, and its programs
run as users that every Debian machine has.
"""

import imaplib
import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from servers.debian import as_root, free_port, run_as_root, unpacked

# Dovecot wants three users that it shares with nobody; nothing of today runs as these.
_INTERNAL, _LOGIN, _MAIL = "games", "news", "uucp"
_PACKAGES = ("dovecot-core", "dovecot-imapd", "dovecot-lmtpd")
_PATIENCE = 30.0  # seconds


class Dovecot:
    """One running Dovecot. `lmtp` and `auth` are sockets for an MTA; LMTP is on `lmtp_port` of 127.0.0.1, too."""

    def __init__(self, directory: Path, users: Mapping[str, str]) -> None:
        self.directory = directory
        self.users = users
        self.port, self.lmtp_port = free_port(), free_port()
        self.lmtp, self.auth = directory / "lmtp", directory / "auth"
        libraries = unpacked("dovecot-core") / "usr/lib/dovecot"
        self._environment = (
            f"LD_LIBRARY_PATH={libraries}:{libraries}/modules/old-stats",
            f"LD_PRELOAD={directory}/modules.so",
        )
        self._process: subprocess.Popen[bytes] | None = None

    def mails(self, user: str, folder: str = "INBOX") -> list[bytes]:
        """A folder's messages, as IMAP gives them."""
        with imaplib.IMAP4("127.0.0.1", self.port) as client:
            client.login(user, self.users[user])
            if client.select(folder, readonly=True)[0] != "OK":
                return []
            numbers = client.search(None, "ALL")[1][0].split()
            return [client.fetch(each, "(BODY[])")[1][0][1] for each in numbers]

    @property
    def log(self) -> str:
        return run_as_root("cat", self.directory / "log")

    def start(self, settings: str) -> None:
        """Write the configuration and start; returns when it listens."""
        run_as_root("install", "--directory", "-o", _mail_user().pw_name, "-m", "700", self.directory / "mail")
        programs = self.directory / "libexec"
        programs.mkdir()
        for package in _PACKAGES:
            for program in (unpacked(package) / "usr/lib/dovecot").iterdir():
                if program.is_file() and not program.name.startswith("lib"):
                    (programs / program.name).symlink_to(program)
        (self.directory / "users").write_text("".join(f"{n}:{{PLAIN}}{p}\n" for n, p in self.users.items()))
        source = Path(__file__).with_name("dovecot_modules.c")
        modules = f'-DMODULES="{unpacked("dovecot-core")}/usr/lib/dovecot/modules"'
        subprocess.run(["cc", "-shared", "-fPIC", modules, "-o", self.directory / "modules.so", source], check=True)
        config = self.directory / "dovecot.conf"
        config.write_text(self._config(programs) + settings)
        core = unpacked("dovecot-core")
        # The master would look for doveconf in /usr/bin.
        command = ["usr/bin/doveconf", "-c", config, "-f", "service=master", "-m", "master", "-e"]
        run = [core / command[0], *command[1:], core / "usr/sbin/dovecot", "-F", "-c", config]
        with (self.directory / "output").open("wb") as output:
            self._process = subprocess.Popen(as_root(["env", *self._environment, *run]), stdout=output, stderr=output)
        self._await()

    def stop(self) -> None:
        """End it with all its processes."""
        if self._process is None:
            return
        with suppress(subprocess.CalledProcessError):
            master = int(run_as_root("cat", self.directory / "run/master.pid"))
            run_as_root("sh", "-c", f"kill -s TERM {master}")
        self._process.wait(_PATIENCE)

    def _await(self) -> None:
        end = time.monotonic() + _PATIENCE
        assert self._process is not None
        while self._process.poll() is None and time.monotonic() < end:
            with suppress(OSError, imaplib.IMAP4.error):
                imaplib.IMAP4("127.0.0.1", self.port).logout()
                return
            time.sleep(0.02)
        output = (self.directory / "output").read_text()
        raise RuntimeError(f"Dovecot does not listen: {output}\n{self.log}")

    def _config(self, programs: Path) -> str:
        mail, folder = _mail_user(), self.directory
        return f"""
base_dir = {folder}/run
state_dir = {folder}/run
libexec_dir = {programs}
mail_plugin_dir = {unpacked("dovecot-core")}/usr/lib/dovecot/modules
import_environment = {" ".join(self._environment)}
log_path = {folder}/log
default_internal_user = {_INTERNAL}
default_internal_group = {_INTERNAL}
default_login_user = {_LOGIN}
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
first_valid_uid = 0
mail_location = maildir:{folder}/mail/%u
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = static
  args = uid={mail.pw_uid} gid={mail.pw_gid} home={folder}/mail/%u
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {self.port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
service lmtp {{
  unix_listener {self.lmtp} {{
    mode = 0666
  }}
  inet_listener lmtp {{
    port = {self.lmtp_port}
  }}
}}
service auth {{
  unix_listener {self.auth} {{
    mode = 0666
  }}
}}
"""


@contextmanager
def running(users: Mapping[str, str], settings: str = "") -> Iterator[Dovecot]:
    """A Dovecot for the length of a `with`. `users` are addresses and their passwords; `settings` are more of its
    configuration."""
    # Short, as a Unix socket's path has 107 bytes; and open, as its processes must pass.
    directory = Path(tempfile.mkdtemp(prefix="filterd-dovecot-"))
    directory.chmod(0o755)
    dovecot = Dovecot(directory, users)
    try:
        dovecot.start(settings)
        yield dovecot
    finally:
        dovecot.stop()
        run_as_root("rm", "-r", directory)


def _mail_user() -> pwd.struct_passwd:
    """Who owns the mail: who runs the tests, if that is not root."""
    return pwd.getpwuid(os.getuid()) if os.getuid() else pwd.getpwnam(_MAIL)
