"""Debian's OpenDKIM, private to a test: its own socket and keys, as the user of the test, spoken to as an MTA does.

Keys come from a file that OpenDKIM reads in place of DNS. `opendkim-testmsg` would be simpler to run, but signs with
rsa-sha1 only and asks nobody but the machine's resolver for keys.
"""

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dkim_mail import split
from servers.debian import unpacked
from servers.milter_mta import MilterMta

from filterd.mail.header import Field
from filterd.wire.milter import (
    BODY_CHUNK,
    Accept,
    BodyChunk,
    Connect,
    Continue,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Family,
    HeaderField,
    Helo,
    InsertHeader,
    Mail,
    Packet,
    Rcpt,
    Skip,
)

_PATIENCE = 30.0  # seconds
_RESULT = re.compile(rb"dkim=(\w+)(?: reason=\"([^\"]*)\")?")
_SETTINGS = {
    "Syslog": "no",
    "AuthservID": "opendkim.example",
    "AlwaysAddARHeader": "yes",
    "MaximumSignaturesToVerify": "10",
    "MaximumHeaders": "0",
    "On-Default": "accept",
    # /tmp is open to all.
    "RequireSafeKeys": "no",
}


class OpenDkim:
    """One running OpenDKIM and a connection to it."""

    def __init__(self, mta: MilterMta) -> None:
        self._mta = mta

    def verdicts(self, mail: bytes) -> list[str]:
        """What became of each signature, from the top: "pass", or "fail (why)". Those that cannot be read may be left out."""
        added = b"".join(self._added(mail, b"Authentication-Results"))
        found = [(word.decode(), why.decode()) for word, why in _RESULT.findall(added)]
        return [f"{word} ({why})" if why else word for word, why in found]

    def signed(self, mail: bytes) -> bytes:
        """The mail with the signatures on top; raises AssertionError where there is none."""
        signatures = self._added(mail, b"DKIM-Signature")
        assert signatures
        for value in signatures:
            mail = Field(b"DKIM-Signature", value.replace(b"\n", b"\r\n")).raw + mail
        return mail

    def _added(self, mail: bytes, name: bytes) -> list[bytes]:
        header, body = split(mail)
        mta = self._mta
        mta.edits.clear()
        for command in (Mail(b"<joe@example.org>"), Rcpt(b"<jane@example.net>"), Data()):
            _expect(mta.say(command, i="4Q1"), Continue)
        for field in header:
            _expect(mta.say(HeaderField(field.name, field.value.replace(b"\r\n", b"\n"))), Continue)
        if isinstance(_expect(mta.say(EndOfHeaders(), i="4Q1"), Continue, Accept), Accept):
            return []
        for start in range(0, len(body), BODY_CHUNK):
            if isinstance(_expect(mta.say(BodyChunk(body[start : start + BODY_CHUNK])), Continue, Skip), Skip):
                break
        _expect(mta.say(EndOfMessage(), i="4Q1"), Accept, Continue)
        return [edit.value for edit in mta.edits if isinstance(edit, InsertHeader) and edit.name == name]


@contextmanager
def verifying(records: Mapping[str, bytes]) -> Iterator[OpenDkim]:
    """An OpenDKIM that verifies; `records` are key records by their domain name."""
    with tempfile.TemporaryDirectory(prefix="filterd-opendkim-") as name:
        directory = Path(name)
        (directory / "dns").write_bytes(b"".join(b"%s %s\n" % (key.encode(), text) for key, text in records.items()))
        with _running(directory, {"Mode": "v", "TestDNSData": f"{directory}/dns"}) as opendkim:
            yield opendkim


@contextmanager
def signing(keys: Mapping[str, bytes], domain: str, **settings: str) -> Iterator[OpenDkim]:
    """An OpenDKIM that signs all mail from `domain` with each of the keys, which are PEM by selector.

    `settings` are other lines of its configuration.
    """
    with tempfile.TemporaryDirectory(prefix="filterd-opendkim-") as name:
        directory = Path(name)
        for selector, pem in keys.items():
            (directory / selector).write_bytes(pem)
            (directory / selector).chmod(0o600)
        table = [f"{selector} {domain}:{selector}:{directory}/{selector}\n" for selector in keys]
        (directory / "keys").write_text("".join(table))
        (directory / "signing").write_text("".join(f"*@{domain} {selector}\n" for selector in keys))
        signing_settings = {
            "Mode": "s",
            "InternalHosts": "0.0.0.0/0",
            "KeyTable": f"{directory}/keys",
            "SigningTable": f"refile:{directory}/signing",
            "MultipleSignatures": "yes",
            **settings,
        }
        with _running(directory, signing_settings) as opendkim:
            yield opendkim


@contextmanager
def _running(directory: Path, settings: Mapping[str, str]) -> Iterator[OpenDkim]:
    config, path = directory / "conf", directory / "socket"
    config.write_text("".join(f"{name} {value}\n" for name, value in {**_SETTINGS, **settings}.items()))
    program = unpacked("opendkim") / "usr/sbin/opendkim"
    with (directory / "output").open("w+") as output:
        server = subprocess.Popen([program, "-f", "-x", config, "-p", f"local:{path}"], stdout=output, stderr=output)
        try:
            with _connected(server, path, directory / "output") as mta:
                yield OpenDkim(mta)
        finally:
            # Asked to end, libmilter takes five seconds to think about it.
            server.kill()
            server.wait(_PATIENCE)


def _connected(server: "subprocess.Popen[bytes]", path: Path, output: Path) -> MilterMta:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            mta = MilterMta(f"unix:{path}")
            break
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(output.read_text()) from None
            time.sleep(0.01)
    mta.negotiate()
    mta.say(Connect(b"client.example", Family.INET, 12345, b"192.0.2.1"), j="mx.example.org")
    mta.say(Helo(b"client.example"))
    return mta


def _expect(answer: Packet | None, *kinds: type[Packet]) -> Packet | None:
    assert answer is None or isinstance(answer, kinds), answer
    return answer
