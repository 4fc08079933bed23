"""How the bundled MTA is set up."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

from filterd.mail.domain import Domain, DomainError
from filterd.mta.routes import Relay
from filterd.wire.access_policy import Answer


class DefaultAction(StrEnum):
    """What happens to mail when a milter is away or breaks the protocol (Postfix's milter_default_action)."""

    ACCEPT = "accept"  #: as if there were no milter
    TEMPFAIL = "tempfail"  #: 451
    REJECT = "reject"  #: 550
    QUARANTINE = "quarantine"  #: taken, and put on hold


class Service(StrEnum):
    """What an address is for."""

    SMTP = "smtp"  #: as on port 25: anybody may come, with mail for our own domains
    SUBMISSION = "submission"  #: as on port 587: our users, who log in after STARTTLS (RFC 6409)
    SUBMISSIONS = "submissions"  #: as on port 465: the same, within TLS from the first octet (RFC 8314)
    POP3 = "pop3"  #: as on port 110: our users read their mail, after STLS (RFC 2595)
    POP3S = "pop3s"  #: as on port 995: the same, within TLS from the first octet

    IMAP = "imap"  #: as on port 143, but without STARTTLS: for loopback, where `auth_without_tls` says so
    IMAPS = "imaps"  #: as on port 993: our users read their mail, within TLS from the first octet

    @property
    def within_tls(self) -> bool:
        """Whether TLS begins with the first octet."""
        return self in (Service.SUBMISSIONS, Service.POP3S, Service.IMAPS)

    def lacks(self, tls: bool, auth_without_tls: bool) -> str | None:
        """What is missing, if it is of no use with these settings."""
        if self is Service.IMAP and not auth_without_tls:
            return "imap has no STARTTLS; say imaps, or auth_without_tls: true"
        if not tls and (self.within_tls or (self is not Service.SMTP and not auth_without_tls)):
            return f"{self} goes with TLS; write tls: {{ certificate: FILE, key: FILE }}"
        return None


@dataclass(frozen=True, slots=True)
class Listener:
    """Where clients come. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0
    service: Service = Service.SMTP

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Milter:
    """One milter: its socket, and what is other than for all (None: as for all). `version` is the highest offered."""

    socket: str
    default_action: DefaultAction | None = None
    version: int = 6
    connect_timeout: float | None = None
    command_timeout: float | None = None
    content_timeout: float | None = None


_PROBLEM = Answer(451, "4.3.5 Server configuration problem")


@dataclass(frozen=True, slots=True)
class PolicyService:
    """One policy service. `default_action` stands for its answer when it gives none."""

    socket: str
    timeout: float | None = None
    default_action: Answer = _PROBLEM


#: Names and passwords, or who can tell whether a name and a password belong together; may take its time.
Users = Mapping[str, str] | Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class MtaConfig:
    """The bundled MTA's settings. Times are seconds, sizes octets.

    `maildir` is the folder that holds one Maildir for every recipient. `queue` is the folder of mail on its way; by
    default it is within `maildir`. `retry_first` and `retry_most` bound the time between two tries, which grows with
    the mail's age; at the age of `expire` it goes back to its sender. `relay` says
    how mail for others leaves. `milters` are asked in this order, and about each
    recipient the `policy_services` before them.

    Mail for other `domains` is taken from clients that logged in or come from `networks`; where no domains are named,
    all are ours. `xclient` lets clients on loopback pretend to be others, and `auth_without_tls` lets them log in as if
    they had TLS. `error_limit` is how many errors a session may have without a mail, `auth_failure_limit` how often an
    address may fail to log in within `auth_failure_span`.
    """

    hostname: str
    maildir: Path
    milters: tuple[str | Milter, ...] = ()
    users: Users = field(default_factory=dict)
    listeners: tuple[Listener, ...] = (Listener(),)
    tls: ssl.SSLContext | None = None
    auth_without_tls: bool = True
    domains: frozenset[str] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    default_action: DefaultAction | str = DefaultAction.TEMPFAIL
    xclient: bool = True
    message_size_limit: int = 50 << 20
    recipient_limit: int = 1000
    error_limit: int = 20
    connection_limit: int = 100
    client_connection_limit: int = 50
    auth_failure_limit: int = 10
    auth_failure_span: float = 600.0
    smtp_timeout: float = 300.0
    milter_connect_timeout: float = 30.0
    milter_command_timeout: float = 30.0
    milter_content_timeout: float = 300.0
    policy_services: tuple[str | PolicyService, ...] = ()
    policy_timeout: float = 100.0
    policy_retry_delay: float = 1.0
    queue: Path | None = None
    # Postfix's minimal_backoff_time and maximal_backoff_time.
    retry_first: float = 300.0
    retry_most: float = 4000.0
    relay: Relay = field(default_factory=Relay)
    expire: float = 5 * 86400.0  # Postfix's maximal_queue_lifetime

    @property
    def queue_folder(self) -> Path:
        """Where the queue is."""
        return self.maildir / ".queue" if self.queue is None else self.queue

    def mailbox(self, login: str) -> str:
        """The address whose mailbox a user reads: the name itself, if it is one."""
        return login if "@" in login else f"{login}@{self.hostname}"

    def is_ours(self, address: bytes) -> bool:
        """Whether mail for the address ends here. One without a domain is ours (postmaster, RFC 5321 4.1.1.3)."""
        _, at, domain = address.rpartition(b"@")
        if not at or not self.domains:
            return True
        try:
            return Domain.parse(domain).name in self.domains
        except DomainError:
            return False

    def is_trusted(self, client_address: str) -> bool:
        """Whether the client may send to others without logging in."""
        try:
            address = ip_address(client_address)
        except ValueError:
            return False
        return any(address in network for network in self.networks)
