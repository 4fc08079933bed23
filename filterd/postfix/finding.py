"""What is wrong with the joint of a Postfix and filterd, and the lines that mend it. Pure."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from filterd.postfix.config import Config, Milter, Service, milters, same
from filterd.postfix.plan import compact

_DEFAULT_FOLDER = "/etc/postfix"


class Severity(StrEnum):
    """How bad it is."""

    NOTE = "note"  #: may be meant so
    WARNING = "warning"  #: mail is judged worse than it could be
    ERROR = "error"  #: mail is lost, not judged, or signed by mistake


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake. `name` is its word for programs, `happens` what becomes of mail.

    `where` says where the lines `mend` belong: "Run", "In filterd's policy"; no lines, if there is nothing to do.
    """

    severity: Severity
    name: str
    what: str
    happens: str
    where: str = ""
    mend: tuple[str, ...] = ()


RUN, POLICY = "Run", "In filterd's policy"


def setting(config: Config, service: Service | None, name: str, value: str) -> str:
    """The shell's line that changes a setting, in main.cf or of a service."""
    change = ("-e", f"{name} = {value}") if service is None else ("-P", f"{service.id}/{name}={compact(value)}")
    return shlex.join(["postconf", *_folder(config), *change])


def _folder(config: Config) -> list[str]:
    return [] if config.directory == _DEFAULT_FOLDER else ["-c", config.directory]


def asking(config: Config, service: Service | None, address: str, name: str = "smtpd_milters") -> Milter | None:
    """filterd in a list of milters, as it is written there; None where it is not asked."""
    if service is not None and not config.asks_milters(service):
        return None
    queue = config.value("queue_directory")
    found = (each for each in milters(config.value(name, service)) if same(each.address, address, queue))
    return next(found, None)


def sites(config: Config, address: str) -> Sequence[tuple[Service | None, str, Milter]]:
    """Where filterd is asked: None for main.cf, or a service that differs; the list; and filterd in it."""
    places: list[tuple[Service | None, str]] = [(None, "smtpd_milters"), (None, "non_smtpd_milters")]
    own = {"smtpd_milters", "milter_default_action"}
    places += [(each, "smtpd_milters") for each in config.listening() if own & set(each.overrides)]
    found = [(service, name, asking(config, service, address, name)) for service, name in places]
    return [(service, name, entry) for service, name, entry in found if entry is not None]


def attached(config: Config) -> tuple[str]:
    """The shell's line that puts filterd where it belongs, with what it needs."""
    return (shlex.join(["filterd", "attach", "postfix", *_folder(config)]),)
