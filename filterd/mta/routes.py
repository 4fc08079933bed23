"""Which way mail goes: settings, and which of them is for a recipient. Opens nothing and asks nobody."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from filterd.mail.endpoint import Endpoint


class Tls(StrEnum):
    """How much TLS the next server must offer (RFC 3207), in Postfix's words."""

    MAY = "may"  #: where it is offered, with any certificate
    ENCRYPT = "encrypt"  #: always, with any certificate
    VERIFY = "verify"  #: always, with a valid certificate for the server's name


class Via(StrEnum):
    """How mail is handed over."""

    MAILDIR = "maildir"  #: into the recipient's Maildir
    MX = "mx"  #: by SMTP to the mail exchangers of the domain (RFC 5321 5.1)
    SMTP = "smtp"  #: by SMTP to one server, whatever the domain
    SMTPS = "smtps"  #: the same, within TLS from the first octet (RFC 8314)
    LMTP = "lmtp"  #: by LMTP to one server (RFC 2033)


@dataclass(frozen=True, slots=True)
class Route:
    """A way for some domains, A-labels in lower case: `example.org`, `.example.org` for all below, `*` for all.

    `at` is the server where `via` goes to one. `login` is a user and a password for it, said over TLS only, or to this
    machine.
    """

    domains: tuple[str, ...]
    via: Via = Via.MX
    at: Endpoint | None = None
    tls: Tls = Tls.MAY
    login: tuple[str, str] | None = None

    def is_for(self, domain: str) -> bool:
        """Whether mail for this domain goes here."""
        return any(each in ("*", domain) or (each[:1] == "." and domain.endswith(each)) for each in self.domains)


@dataclass(frozen=True, slots=True)
class Relay:
    """How mail leaves. The first of `routes` that is for a domain counts; without one, mail for our own domains goes
    into Maildirs, and other by MX to port `mx_port`.

    `ca_file` is PEM with certificates that are trusted beside the system's. `sts_folder` has the cached policies of
    MTA-STS, a file for each domain (RFC 8461). `dns_servers` (addresses and ports; none: the system's) and
    `dns_timeout` are for who makes the resolver. Times are seconds (RFC 5321 4.5.3.2): for a connection, for a reply,
    for the reply to a whole message, and for all of a conversation.
    """

    routes: tuple[Route, ...] = ()
    mx_port: int = 25
    ca_file: Path | None = None
    sts_folder: Path | None = None
    dns_servers: tuple[tuple[str, int], ...] = ()
    dns_timeout: float = 5.0
    connect_timeout: float = 30.0
    reply_timeout: float = 300.0
    content_timeout: float = 600.0
    conversation_timeout: float = 3600.0
