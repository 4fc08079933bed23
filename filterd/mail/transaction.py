"""The mail transaction as the MTA tells it: who connects, under which name, from whom, to whom (RFC 5321 3.3)."""

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from filterd.mail.address import Mailbox

IPAddress = IPv4Address | IPv6Address


def unmapped(ip: IPAddress) -> IPAddress:
    """The address as it is on the wire: an IPv4 address that is mapped into IPv6 is what it was (RFC 4291 2.5.5.2)."""
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


class Stage(IntEnum):
    """The moments at which a mail can be judged, in their order."""

    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    END_OF_HEADERS = 5
    END_OF_MESSAGE = 6

    @property
    def word(self) -> str:
        """The stage as it is written in policies and logs."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Client:
    """The SMTP client.

    `ip` is None where the MTA names no address family (a local submission). `name` is the MTA's verified reverse name,
    or None. `port` is 0 where unknown.
    """

    ip: IPAddress | None
    name: str | None = None
    port: int = 0


@dataclass(frozen=True, slots=True)
class ReversePath:
    """The envelope sender: `mailbox` is None for the null path `<>` and for what is no mailbox.

    `text` is what was written, without angle brackets; `null` tells `<>` from a malformed path.
    """

    text: str
    mailbox: Mailbox | None

    @property
    def null(self) -> bool:
        return self.text == ""

    @property
    def address(self) -> str:
        """One text for one mailbox, however it is written."""
        return _address(self)


@dataclass(frozen=True, slots=True)
class ForwardPath:
    """An envelope recipient; `mailbox` is None for what is no mailbox (`postmaster` alone, say)."""

    text: str
    mailbox: Mailbox | None

    @property
    def address(self) -> str:
        """One text for one mailbox, however it is written."""
        return _address(self)


def _address(path: ReversePath | ForwardPath) -> str:
    # Needless quotes, a source route, U-labels, the root's dot: who writes them shall not be somebody else. Lower case,
    # as no MTA that is in use tells mailboxes apart by it (RFC 5321 2.4 allows it).
    return (path.text if path.mailbox is None else str(path.mailbox)).lower()


@dataclass(frozen=True, slots=True)
class Transaction:
    """All that is known of a mail before its content, and grows from stage to stage.

    `helo` is as the client said it, None before. `user` is the authenticated identity ({auth_authen}), None for a
    stranger. `queue_id` is None until the MTA has given one. `daemon` is the MTA's name for the port that was used.
    `accepted` is how many recipients the MTA says it took, where it did not name each.
    """

    id: str
    client: Client
    helo: str | None = None
    user: str | None = None
    sender: ReversePath | None = None
    recipients: tuple[ForwardPath, ...] = ()
    queue_id: str | None = None
    daemon: str | None = None
    tls: str | None = None
    accepted: int | None = None

    def addressed(self, recipients: tuple[ForwardPath, ...]) -> "Transaction":
        """The same with these recipients: each mail needs it, and `dataclasses.replace` costs several times as much."""
        return Transaction(
            self.id,
            self.client,
            self.helo,
            self.user,
            self.sender,
            recipients,
            self.queue_id,
            self.daemon,
            self.tls,
            self.accepted,
        )

    @property
    def recipient_count(self) -> int:
        """How many recipients were accepted."""
        return len(self.recipients) if self.accepted is None else self.accepted
