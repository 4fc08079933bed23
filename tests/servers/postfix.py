"""Debian's Postfix, private to a test: its own configuration, queue, log and port, beside any MTA of the machine.

Mail for every recipient of every domain goes to a Maildir here, so no mail leaves the machine. Clients are whoever they
say to be by XCLIENT, and strangers all: even 127.0.0.1 is in no trusted network.
"""

import json
import os
import pwd
import re
import smtplib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from servers.debian import free_port, run_as_root, unpacked

# Postfix insists on a user and a group that it shares with nobody. These are on every Debian machine, and nothing of
# today runs as them, so that no user needs to be made.
OWNER = "uucp"
SETGID_GROUP = "games"

_PATIENCE = 30.0  # seconds
_PRIVATE = (
    "active",
    "bounce",
    "corrupt",
    "defer",
    "deferred",
    "flush",
    "hold",
    "incoming",
    "private",
    "saved",
    "trace",
)


class Postfix:
    """One running Postfix. Its milters are asked about what comes in by SMTP. `main` is its main.cf.

    `milters` is a folder for their sockets, which smtpd reaches from its chroot, too, as "unix:milters/NAME".
    """

    def __init__(self, programs: Path, directory: Path) -> None:
        self.directory = directory
        self.queue_directory = directory / "queue"
        self.milters = self.queue_directory / "milters"
        self.port = free_port()
        self.config = directory / "conf"
        self._programs = programs
        self._libraries = f"LD_LIBRARY_PATH={programs}/usr/lib/postfix"

    def connect(
        self, address: str | None = None, name: str | None = None, user: str | None = None, helo: str = "client.example"
    ) -> smtplib.SMTP:
        """An SMTP session, EHLO said, from 127.0.0.1 or from the client that XCLIENT makes it.

        `name` is the client's verified host name; `user` is whom it has authenticated as.
        """
        smtp = smtplib.SMTP("127.0.0.1", self.port, local_hostname=helo, timeout=_PATIENCE)
        smtp.ehlo()
        claims = []
        if address is not None:
            unmapped = f"IPV6:{address}" if ":" in address else address
            host = name or "[UNAVAILABLE]"
            # As in life, no two connections at once have one port.
            port = smtp.sock.getsockname()[1] if smtp.sock is not None else 0
            claims += [f"ADDR={unmapped}", f"NAME={host}", f"REVERSE_NAME={host}", f"PORT={port}"]
        if user is not None:
            claims.append(f"LOGIN={user}")
        if claims:
            code, text = smtp.docmd("XCLIENT", " ".join(claims))
            if code != 220:
                raise smtplib.SMTPResponseException(code, text)
            smtp.ehlo()
        return smtp

    def maildir(self, recipient: str) -> list[bytes]:
        """The messages delivered to `recipient`, oldest first, once nothing is under way.

        Each begins with the Return-Path, X-Original-To and Delivered-To that delivery puts on top.
        """
        self.settle()
        new = self.directory / "mail" / "new"
        files = sorted(new.iterdir(), key=lambda file: file.stat().st_mtime_ns) if new.is_dir() else []
        messages = [file.read_bytes() for file in files]
        return [message for message in messages if _delivered_to(message) == recipient.lower()]

    def queue(self) -> list[dict[str, Any]]:
        """What `postqueue -j` says: one entry a message, with queue_name, queue_id, sender, recipients."""
        listing = self._run("usr/sbin/postqueue", "-c", self.config, "-j")
        return [json.loads(line) for line in listing.splitlines()]

    def held(self) -> list[dict[str, Any]]:
        """The entries of the hold queue, which is where a milter's quarantine puts a message."""
        self.settle()
        return [entry for entry in self.queue() if entry["queue_name"] == "hold"]

    def contents(self, queue_id: str) -> bytes:
        """Header and body of a message in the queue, as they would be sent, with LF."""
        message = self._run("usr/sbin/postcat", "-c", self.config, "-hbq", queue_id)
        return message.encode(errors="surrogateescape")

    @property
    def log(self) -> str:
        return run_as_root("cat", self.directory / "log")

    def settle(self) -> None:
        """Waits until every accepted message is delivered, held or deferred."""
        # A message moves through the queues in this order, so that one look at each misses none. A bounce is born
        # while its cause leaves, behind that look: so twice. Files still being received are not executable yet;
        # those that leave while find looks are none of its errors.
        queues = [self.queue_directory / name for name in ("maildrop", "incoming", "active")]
        quiet, end = 0, time.monotonic() + _PATIENCE
        while quiet < 2:
            busy = run_as_root("find", *queues, "-ignore_readdir_race", "-type", "f", "-perm", "-u+x")
            quiet = 0 if busy else quiet + 1
            if busy and time.monotonic() > end:
                raise TimeoutError(f"still in the queue: {busy}\n{self.log}")
            if busy:
                time.sleep(0.01)

    @property
    def environment(self) -> dict[str, str]:
        """What Postfix's own programs need, for whoever runs them by their names."""
        return {
            **os.environ,
            "PATH": f"{self._programs}/usr/sbin:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{self._programs}/usr/lib/postfix",
        }

    def configure(self, milters: Sequence[str], settings: Mapping[str, str], chroot: bool, services: str) -> None:
        """Writes the configuration."""
        self._make_directories()
        main = self.main = {**self._main(milters), **settings}
        (self.config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in main.items()))
        (self.config / "master.cf").write_text(self._master(chroot) + services)
        # A main.cf that changed within the last second is read again until it is older.
        os.utime(self.config / "main.cf", (0, 0))

    def start(self) -> None:
        """Starts Postfix; returns when it listens."""
        # -e is a last resort, for a test run that is killed: Postfix ends by itself after so many seconds.
        self._run("usr/lib/postfix/sbin/master", "-c", self.config, "-w", "-e", "3600")

    def reload(self) -> None:
        """Has all that comes from now on go by the files as they are now."""
        self._run("usr/sbin/postfix", "-c", self.config, "reload")

    def stop(self) -> None:
        """Ends this Postfix with all its processes, if it ever started."""
        pid_file = self.queue_directory / "pid" / "master.pid"
        if not pid_file.exists():
            return
        master = int(run_as_root("cat", pid_file))
        _signal("TERM", master)  # which master passes on to its process group
        end = time.monotonic() + _PATIENCE
        while _lives(group=master):
            if time.monotonic() > end:
                _signal("KILL", -master)
            time.sleep(0.01)

    def _run(self, program: str, *arguments: str | Path) -> str:
        return run_as_root("env", self._libraries, self._programs / program, *arguments)

    def _make_directories(self) -> None:
        queues = [self.queue_directory / name for name in _PRIVATE]
        make = ("install", "--directory")
        run_as_root(*make, self.queue_directory, self.queue_directory / "pid")
        run_as_root(*make, "-o", OWNER, "-m", "700", self.directory / "data", *queues)
        run_as_root(*make, "-o", OWNER, "-g", SETGID_GROUP, "-m", "730", self.queue_directory / "maildrop")
        run_as_root(*make, "-o", OWNER, "-g", SETGID_GROUP, "-m", "710", self.queue_directory / "public")
        run_as_root(*make, "-o", f"{os.getuid()}", self.config, self.milters)
        run_as_root(*make, "-o", f"{_maildir_user()}", "-m", "700", self.directory / "mail")

    def _main(self, milters: Sequence[str]) -> dict[str, str]:
        programs = self._programs
        return {
            "compatibility_level": "3.6",
            "queue_directory": f"{self.queue_directory}",
            "data_directory": f"{self.directory}/data",
            "command_directory": f"{programs}/usr/sbin",
            "daemon_directory": f"{programs}/usr/lib/postfix/sbin",
            "shlib_directory": f"{programs}/usr/lib/postfix",
            "meta_directory": f"{programs}/etc/postfix",
            "import_environment": f"MAIL_CONFIG {{ {self._libraries} }}",
            "export_environment": f"MAIL_CONFIG {{ {self._libraries} }}",
            "mail_owner": OWNER,
            "setgid_group": SETGID_GROUP,
            "maillog_file": f"{self.directory}/log",
            "maillog_file_prefixes": f"{self.directory}",
            "myhostname": "mx.example.org",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "all",  # or XCLIENT knows no IPv6 address
            "mynetworks": "127.0.0.2/32",
            "smtpd_authorized_xclient_hosts": "127.0.0.1",
            # Nobody is looked up: the machine's resolver may be slow, or point to the network.
            "smtpd_peername_lookup": "no",
            "smtp_dns_support_level": "disabled",
            # All mail for anybody is delivered here, by virtual(8), and nothing can be relayed.
            "mydestination": "",
            "alias_maps": "",
            "local_recipient_maps": "",
            "virtual_mailbox_domains": "static:all",
            "virtual_mailbox_base": f"{self.directory}",
            "virtual_mailbox_maps": "static:mail/",
            "virtual_minimum_uid": "1",
            "virtual_uid_maps": f"static:{_maildir_user()}",
            "virtual_gid_maps": f"static:{pwd.getpwuid(_maildir_user()).pw_gid}",
            "default_transport": "error:nothing leaves this machine",
            # Clients that make many mistakes, or send much, are slowed down elsewhere.
            "smtpd_error_sleep_time": "0",
            "smtpd_soft_error_limit": "1000",
            "smtpd_hard_error_limit": "1000",
            "smtpd_client_connection_count_limit": "0",
            "in_flow_delay": "0",
            # Nothing is added to what a client sends, even if it is 127.0.0.1.
            "local_header_rewrite_clients": "",
            "message_size_limit": "100000000",
            "mailbox_size_limit": "0",
            "virtual_mailbox_limit": "0",
            "milter_default_action": "tempfail",
            "smtpd_milters": " ".join(milters),
        }

    def _master(self, chroot: bool) -> str:
        shipped = (self._programs / "usr/share/postfix/master.cf.dist").read_text()
        listening = re.sub(r"(?m)^smtp +inet ", f"127.0.0.1:{self.port} inet ", shipped)
        if chroot:
            return listening
        return re.sub(r"(?m)^(\S+ +(?:inet|unix) +\S+ +\S+ +)y ", r"\1n ", listening)


@contextmanager
def running(
    *, milters: Sequence[str] = (), settings: Mapping[str, str] | None = None, chroot: bool = False, services: str = ""
) -> Iterator[Postfix]:
    """A Postfix for the length of a `with`.

    `milters` is smtpd_milters: "unix:milters/NAME", "inet:127.0.0.1:PORT" or "{ unix:…, default_action=accept }".
    `settings` are other lines of main.cf, and `services` of master.cf. With `chroot` smtpd, cleanup and others live in
    the queue directory, as on Debian. Milters are asked by the user and group OWNER, whom their sockets must let in.
    """
    with configured(milters=milters, settings=settings, chroot=chroot, services=services) as postfix:
        postfix.start()
        yield postfix


@contextmanager
def configured(
    *, milters: Sequence[str] = (), settings: Mapping[str, str] | None = None, chroot: bool = False, services: str = ""
) -> Iterator[Postfix]:
    """The same, not started; if somebody starts it, it is stopped at the end."""
    programs = unpacked("postfix")
    # Short, as a Unix socket's path has 107 bytes; and open, as Postfix's processes must pass.
    directory = Path(tempfile.mkdtemp(prefix="filterd-postfix-"))
    directory.chmod(0o755)
    postfix = Postfix(programs, directory)
    try:
        postfix.configure(milters, settings or {}, chroot, services)
        yield postfix
    finally:
        postfix.stop()
        run_as_root("rm", "-r", directory)


def _maildir_user() -> int:
    """Who owns the Maildirs: who runs the tests, so as to read them; virtual(8) never delivers as root."""
    return os.getuid() or pwd.getpwnam(OWNER).pw_uid


def _delivered_to(message: bytes) -> str:
    return message.partition(b"\nDelivered-To: ")[2].partition(b"\n")[0].decode(errors="replace").lower()


def _signal(name: str, process: int) -> None:
    # The shell's own kill: the program is in a package that a small machine may lack.
    run_as_root("sh", "-c", f"kill -s {name} -- {process}")


def _lives(group: int) -> bool:
    """Whether a process of the group runs; one that ended and that its parent has not asked after does not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _parent, its_group, *_ = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(its_group) == group and state != "Z":
                return True
    return False
