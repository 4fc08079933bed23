"""How the bundled MTA is set up."""

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

    `maildir` is the folder that holds one Maildir for every recipient. `queue` is the folder of mail on its way; by
    default it is within `maildir`. `retry_first` and `retry_most` bound the time between two tries, which grows with
    the mail's age. `milters` are asked in this order,
    and about each recipient the `policy_services` before them. `port` 0 takes a free one. `xclient` lets clients on
    loopback pretend to be others. Times are seconds, and `message_size_limit` is octets.
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
    policy_services: tuple[str, ...] = ()
    policy_timeout: float = 100.0
    policy_retry_delay: float = 1.0
    queue: Path | None = None
    # Postfix's minimal_backoff_time and maximal_backoff_time.
    retry_first: float = 300.0
    retry_most: float = 4000.0

    @property
    def queue_folder(self) -> Path:
        """Where the queue is."""
        return self.maildir / ".queue" if self.queue is None else self.queue
