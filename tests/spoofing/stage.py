"""Send mails octet by octet, and see what is delivered: behind the bundled MTA, and behind Postfix."""

import re
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from servers import postfix as real
from servers.filterd import Filterd
from spoofing.cast import HOST, LIST, RELAY_IP, US, VICTIM_ED25519_KEY, Mail, zone

from filterd.demo.nameserver import Nameserver
from filterd.mta.config import MtaConfig
from filterd.mta.server import running

_ROOT = Path(__file__).parents[2]
_PATIENCE = 60.0
_REFUSAL = re.compile(rb"([45][0-9]{2})[ -]([45]\.[0-9]{1,3}\.[0-9]{1,3})?")

#: Nothing is refused, so that every mail shows what was found.
OBSERVING = "dmarc: { on_multiple_authors: skip }"


@dataclass
class Seen:
    """What became of a mail: the reply that refused it, as code and status, or None; and all that was delivered."""

    mail: Mail
    refused: str | None
    delivered: list[bytes]


Play = Callable[[Iterable[Mail]], dict[str, Seen]]


@contextmanager
def bundled(folder: Path, policy: str) -> Iterator[Play]:
    """filterd by this policy behind the bundled MTA."""
    with _about_us(folder) as us, Filterd(folder, us + policy) as filterd:
        with running(MtaConfig(HOST, folder / "mail", (filterd.address,))) as mta:

            def play(mails: Iterable[Mail]) -> dict[str, Seen]:
                return _play(mails, mta.port, lambda: (folder / "mail").glob("*/new/*"))

            yield play
        _assert_sound(filterd)


@contextmanager
def behind_postfix(policy: str) -> Iterator[Play]:
    """The same behind Postfix, with the settings that we ship."""
    with (
        real.running(milters=["unix:milters/milter"], settings=_main_cf()) as postfix,
        _about_us(postfix.milters) as us,
        Filterd(postfix.milters, us + policy) as filterd,
    ):

        def files() -> Iterable[Path]:
            postfix.settle()
            return (postfix.directory / "mail" / "new").glob("*")

        yield lambda mails: _play(mails, postfix.port, files)
        _assert_sound(filterd)


def _assert_sound(filterd: Filterd) -> None:
    assert filterd.events("fault") == []
    assert filterd.events("worker ended") == []


@contextmanager
def _about_us(folder: Path) -> Iterator[str]:
    """What a policy says of us, our key, our user, our relay, and the name server that answers meanwhile."""
    key = folder / "own.pem"
    key.write_bytes(VICTIM_ED25519_KEY.pem)
    key.chmod(0o600)
    with Nameserver(zone()) as nameserver:
        host, port = nameserver.address
        yield f"""
identity: {{ authserv_id: {HOST}, trusted_authserv_ids: [mx2.{US}] }}
dns: {{ servers: ["{host}:{port}"] }}
networks: {{ trusted: [], relays: ["{RELAY_IP}"] }}
sign: [{{ domains: [{US}, "*.{US}"], keys: [{{ selector: own, file: own.pem }}] }}]
arc: {{ trusted_sealers: [{LIST}] }}
senders: {{ eve: ["eve@{US}", "list@sub.{US}"] }}
"""


def shipped() -> str:
    """The policy that we ship, without its version and what we say of ourselves."""
    text = (_ROOT / "policies" / "default.yaml").read_text()
    return re.sub(r"(?m)^(version:.*|networks:\n(?: .*\n)*)$", "", text)


def _main_cf() -> dict[str, str]:
    """The lines of contrib/postfix/main.cf, without those that name the socket."""
    lines = (_ROOT / "contrib" / "postfix" / "main.cf").read_text().splitlines()
    pairs = [line.split(" = ", 1) for line in lines if " = " in line and not line.startswith("#")]
    return {"myhostname": HOST, **{name: value for name, value in pairs if "milter" not in name}}


def _play(mails: Iterable[Mail], port: int, files: Callable[[], Iterable[Path]]) -> dict[str, Seen]:
    seen: dict[str, Seen] = {}
    for number, each in enumerate(mails):
        seen[f"c{number}@home.example"] = Seen(each, _send(each, port, b"c%d@home.example" % number), [])
    for file in files():
        message = file.read_bytes()
        recipient = re.search(rb"(?m)^Delivered-To: (.*)$", message)
        assert recipient is not None
        seen[recipient[1].decode()].delivered.append(message)
    return {each.mail.name: each for each in seen.values()}


def _send(mail: Mail, port: int, recipient: bytes) -> str | None:
    """Send a mail over a connection of its own; returns the first reply that refused."""
    claim = f"XCLIENT ADDR={mail.client} NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE]"
    claim += f" LOGIN={mail.user}\r\n" if mail.user else "\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as connection:
        replies = connection.makefile("rb")
        refused = _refusal(_reply(replies))
        for octets in (b"EHLO test\r\n", claim.encode(), *_steps((*mail.before, mail), recipient)):
            connection.sendall(octets)
            reply = _reply(replies)
            refused = (
                "no CHUNKING" if mail.bdat and b"PIPELINING" in reply and b"CHUNKING" not in reply else _refusal(reply)
            )
            if refused is not None:
                break
        # What was smuggled is carried out before the connection ends.
        with suppress(ConnectionError):
            connection.sendall(b"QUIT\r\n")
            while replies.readline():
                pass
    return refused


def _steps(mails: Iterable[Mail], recipient: bytes) -> Iterator[bytes]:
    """What is said, up to each reply."""
    for each in mails:
        yield b"EHLO " + each.helo + b"\r\n"
        yield b"MAIL FROM:" + each.mail_from + b"\r\n"
        yield b"RCPT TO:<" + recipient + b">\r\n"
        content = each.content.replace(b"{recipient}", recipient)
        if each.bdat:
            yield b"BDAT %d LAST\r\n" % len(content) + content
        else:
            yield b"DATA\r\n"
            yield content + b".\r\n"


def _reply(replies: Iterable[bytes]) -> bytes:
    """All lines of a reply; a connection that ends has refused for now."""
    lines = []
    for line in replies:
        lines.append(line)
        if line[3:4] == b" ":
            return b"".join(lines)
    return b"421 "


def _refusal(reply: bytes) -> str | None:
    """The code of a reply that refuses, and its status if it has one."""
    found = _REFUSAL.match(reply)
    return b" ".join(filter(None, found.groups())).decode() if found else None
