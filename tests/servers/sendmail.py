"""Debian's Sendmail, private to a test: its own configuration, queue and port, beside any MTA of the machine.

Mail for every recipient of every domain goes to a folder here, so no mail leaves the machine. Sendmail has no XCLIENT:
a client is who it is by the address of 127.0.0.0/8 that it comes from. It runs as the user of the test.
"""

import os
import pwd
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from servers.debian import free_port, unpacked

_PATIENCE = 60.0  # seconds

# What stands on top of a delivered mail, as Postfix writes it: whom it was delivered to and from whom, and nothing else is changed.
_DELIVER = """\
folder=$1
file=$(mktemp "$folder/tmp/XXXXXXXXXX") || exit 75
{ printf 'Delivered-To: %s\\nReturn-Path: <%s>\\n' "$2" "$3" && cat; } >"$file" && mv "$file" "$folder/new/" || exit 75
"""

# Nothing is looked up, added, or sent by way of a system's files. Queued mail is delivered when the test asks for it:
# so nothing is under way when it looks.
_CONFIG = """\
divert(-1)
divert(0)dnl
VERSIONID(`a test')
OSTYPE(`unknown')
define(`confDOMAIN_NAME', `mx.example.org')
define(`QUEUE_DIR', `{directory}/queue')
define(`ALIAS_FILE', `')
define(`HELP_FILE', `')
define(`STATUS_FILE', `')
define(`confPID_FILE', `{directory}/pid')
define(`confCT_FILE', `{directory}/none')
define(`confHOSTS_FILE', `{directory}/hosts')
define(`confSERVICE_SWITCH_FILE', `{directory}/switch')
define(`confDONT_PROBE_INTERFACES', `True')
define(`confDONT_BLAME_SENDMAIL', `TrustStickyBit')
define(`confTRUSTED_USER', `{user}')
define(`confTO_IDENT', `0')
define(`confDELIVERY_MODE', `queue')
define(`confQUEUE_SORT_ORDER', `Time')
define(`confPRIVACY_FLAGS', `public')
define(`confLOG_LEVEL', `0')
define(`confMAX_HEADERS_LENGTH', `0')
define(`confBAD_RCPT_THROTTLE', `0')
define(`confQUEUE_LA', `1000')
define(`confREFUSE_LA', `0')
{settings}
FEATURE(`no_default_msa')dnl
FEATURE(`nocanonify')dnl
FEATURE(`promiscuous_relay')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`accept_unqualified_senders')dnl
DAEMON_OPTIONS(`Name=MTA, Family=inet, Addr=127.0.0.1, Port={port}')dnl
{milters}
MAILER_DEFINITIONS
Mfolder, P=/bin/sh, F=Sn8, L=0, T=DNS/RFC822/X-Unix,
  A=sh {directory}/deliver {directory}/mail $u $g
LOCAL_RULE_0
R$* < @ $* . > $*	$#folder $@ here $: $1 @ $2
R$* < @ $* > $*		$#folder $@ here $: $1 @ $2
R$+			$#folder $@ here $: $1
"""


class Sendmail:
    """One running Sendmail. Its milters are asked about what comes in by SMTP.

    `milters` is a folder for their sockets.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.milters = directory / "milters"
        self.port = free_port()
        self._environment = {**os.environ, "LD_PRELOAD": str(directory / "alone.so")}
        self._program = unpacked("sendmail-bin") / "usr/libexec/sendmail/sendmail"

    def connect(self, address: str = "127.0.0.1", helo: str = "client.example") -> smtplib.SMTP:
        """An SMTP session, EHLO said, from this address of 127.0.0.0/8."""
        smtp = smtplib.SMTP("127.0.0.1", self.port, helo, _PATIENCE, (address, 0))
        smtp.ehlo()
        return smtp

    def maildir(self, recipient: str) -> list[bytes]:
        """The messages delivered to `recipient`, oldest first, with all that was accepted until now.

        Each begins with Delivered-To and Return-Path fields. Lines end with LF.
        """
        self._run("-qf")
        files = sorted((self.directory / "mail" / "new").iterdir(), key=lambda file: file.stat().st_mtime_ns)
        start = f"Delivered-To: {recipient}\n".lower().encode()
        return [mail for mail in (file.read_bytes() for file in files) if mail[: len(start)].lower() == start]

    def held(self) -> list[str]:
        """The envelopes that a milter's quarantine put aside: of each the lines of its queue file."""
        return [file.read_text(errors="replace") for file in sorted((self.directory / "queue").glob("hf*"))]

    @property
    def log(self) -> str:
        """All that was said by SMTP, to clients and by them."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self, milters: Sequence[str], settings: Mapping[str, str], more: Sequence[str]) -> None:
        """Writes the configuration and starts Sendmail; returns when it answers."""
        for name in ("queue", "mail", "mail/new", "mail/tmp", "milters"):
            (self.directory / name).mkdir(mode=0o700)
        for name, text in {"deliver": _DELIVER, "switch": "hosts files\naliases files\n", "hosts": ""}.items():
            (self.directory / name).write_text(text)
        (self.directory / "sendmail.cf").write_text(self._config(milters, settings, more))
        # Debian's program takes on the group mail, which it needs for a queue that is not ours. A copy does not.
        copy = self.directory / "sendmail"
        copy.write_bytes(self._program.read_bytes())
        copy.chmod(0o700)
        _built(self.directory / "alone.so")
        self._output = (self.directory / "output").open("w+")
        self._process = subprocess.Popen(
            self._command("-bD", "-X", self.directory / "log"),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env=self._environment,
        )
        end = time.monotonic() + _PATIENCE
        while True:
            with suppress(OSError, smtplib.SMTPException), self.connect():
                return
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"Sendmail did not start: {(self.directory / 'output').read_text()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends this Sendmail with the processes that it has for clients, if it ever started."""
        if hasattr(self, "_process"):
            self._process.terminate()
            self._process.wait(_PATIENCE)
            self._output.close()

    def _config(self, milters: Sequence[str], settings: Mapping[str, str], more: Sequence[str]) -> str:
        described = [f"INPUT_MAIL_FILTER(`milter{number}', `S={each}')" for number, each in enumerate(milters)]
        text = _CONFIG.format(
            directory=self.directory,
            port=self.port,
            user=pwd.getpwuid(os.getuid()).pw_name,
            settings="\n".join(f"define(`{name}', `{value}')" for name, value in settings.items()),
            milters="\n".join([*described, *(each.format(directory=self.directory) for each in more)]),
        )
        rules = unpacked("sendmail-cf") / "usr/share/sendmail/cf"
        command = [unpacked("m4") / "usr/bin/m4", f"-D_CF_DIR_={rules}/", rules / "m4/cf.m4", "-"]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout

    def _run(self, *arguments: str | Path) -> str:
        done = subprocess.run(
            self._command(*arguments), capture_output=True, text=True, timeout=_PATIENCE, env=self._environment
        )
        if done.returncode != 0:
            raise RuntimeError(f"{done.args}: {done.stdout}{done.stderr}")
        return done.stdout

    def _command(self, *arguments: str | Path) -> list[str | Path]:
        return [self.directory / "sendmail", "-C", self.directory / "sendmail.cf", *arguments]


@contextmanager
def running(
    *, milters: Sequence[str] = (), settings: Mapping[str, str] | None = None, more: Sequence[str] = ()
) -> Iterator[Sendmail]:
    """A Sendmail for the length of a `with`.

    `milters` are as INPUT_MAIL_FILTER takes them behind "S=": "unix:PATH" or "inet:PORT@127.0.0.1", possibly with
    further equates (", F=T"); a path that is not absolute is in the folder of Sendmail. `settings` are other defines of
    the configuration, as confMILTER_LOG_LEVEL; `more` are further lines, in which {directory} is Sendmail's folder.
    """
    # Short, as a Unix socket's path has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="filterd-sendmail-") as name:
        directory = Path(name)
        sendmail = Sendmail(directory)
        absolute = [each.replace("unix:", f"unix:{directory}/") if "unix:/" not in each else each for each in milters]
        try:
            sendmail.start(absolute, settings or {}, more)
            yield sendmail
        finally:
            sendmail.stop()


def _built(library: Path) -> None:
    source = Path(__file__).with_name("sendmail_alone.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
