"""How the bundled MTA is set up, and how the name of a milter's socket reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class DefaultAction(StrEnum):
    """What happens to mail when a milter is away or breaks the protocol (Postfix's milter_default_action)."""

    ACCEPT = "accept"  #: as if there were no milter
    TEMPFAIL = "tempfail"  #: 451
    REJECT = "reject"  #: 550
    QUARANTINE = "quarantine"  #: taken, and put on hold


#: Names and passwords, or who can tell whether a name and a password belong together.
Users = Mapping[str, str] | Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class MtaConfig:
    """The bundled MTA's settings.

    `maildir` is the folder that holds one Maildir for every recipient, and `.hold`. `milters` are asked in this order.
    `port` 0 takes a free one. `xclient` lets clients on loopback pretend to be others. Times are seconds, and
    `message_size_limit` is octets.
    """

    hostname: str
    maildir: Path
    milters: tuple[str, ...] = ()
    users: Users = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = 0
    default_action: DefaultAction | str = DefaultAction.TEMPFAIL
    xclient: bool = True
    message_size_limit: int = 50 << 20
    recipient_limit: int = 1000
    smtp_timeout: float = 300.0
    milter_connect_timeout: float = 30.0
    milter_command_timeout: float = 30.0
    milter_content_timeout: float = 300.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a milter listens: a socket's path, or a host and a port."""

    path: str | None = None
    host: str | None = None
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Read `unix:PATH`, `local:PATH`, `inet:PORT@HOST` or `inet6:PORT@HOST`.

        Raises ValueError, which says what would be right.
        """
        transport, _, rest = text.partition(":")
        if transport in ("unix", "local") and rest:
            return cls(path=rest)
        port, at, host = rest.partition("@")
        if (
            transport in ("inet", "inet6")
            and at
            and host
            and port.isascii()
            and port.isdigit()
            and 0 < int(port) < 65536
        ):
            return cls(host=host.strip("[]"), port=int(port))
        raise ValueError(f"a milter's socket reads unix:PATH or inet:PORT@HOST, not {text!r}")
