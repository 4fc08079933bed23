"""What is wrong with the joint of a Postfix and filterd, and the lines that mend it. Pure."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from filterd.postfix.config import Config, Milter, Service, items, milters, same
from filterd.postfix.plan import PARAMETER, REFERENCE, compact

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
    folder = "" if config.directory == _DEFAULT_FOLDER else f"-c {shlex.quote(config.directory)} "
    if service is None:
        return f"postconf {folder}-e {shlex.quote(f'{name} = {value}')}"
    return f"postconf {folder}-P {shlex.quote(f'{service.id}/{name}={compact(value)}')}"


def asking(config: Config, service: Service | None, address: str, name: str = "smtpd_milters") -> Milter | None:
    """filterd in a list of milters, as it is written there; None where it is not asked."""
    if service is not None and not config.asks_milters(service):
        return None
    queue = config.value("queue_directory")
    found = (each for each in milters(config.value(name, service)) if same(each.address, address, queue))
    return next(found, None)


def sites(config: Config, address: str) -> Sequence[tuple[Service | None, str, Milter]]:
    """Where filterd is asked: a service whose list is its own, or None for main.cf; the list; and the entry."""
    places: list[tuple[Service | None, str]] = [(None, "smtpd_milters"), (None, "non_smtpd_milters")]
    places += [(each, "smtpd_milters") for each in config.listening() if "smtpd_milters" in each.overrides]
    found = [(service, name, asking(config, service, address, name)) for service, name in places]
    return [(service, name, entry) for service, name, entry in found if entry is not None]


def with_settings(config: Config, service: Service | None, name: str, entry: Milter, **more: str) -> str:
    """The shell's line that makes filterd's entry of a list say more, such as another default_action."""
    settings = [f"{key}={value}" for key, value in {**entry.settings, **more}.items()]
    text = f"{{ {', '.join([entry.address, *settings])} }}"
    written = items((config.written if service is None else service.overrides).get(name, ""))
    if REFERENCE in written or PARAMETER in config.written:
        return setting(config, None, PARAMETER, text)
    if "$smtpd_milters" in written:
        return with_settings(config, None, "smtpd_milters", entry, **more)
    kept = [text if entry.address in milters_of(each) else each for each in written]
    return setting(config, service, name, re.sub(r"\s+", " ", ", ".join(kept)))


def milters_of(item: str) -> list[str]:
    """The addresses in one item of a list."""
    return [each.address for each in milters(item)]
