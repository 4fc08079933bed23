"""What a Postfix is configured to do, as far as filterd's place in it goes. Pure: `postconf` reads and writes it.

Values are Postfix's text: lists are parted by white space or commas, and braces hold together what they enclose.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from filterd.mail.endpoint import Endpoint, EndpointError

_ITEM = re.compile(r"\{[^{}]*\}|[^\s,{}]+")


@dataclass(frozen=True, slots=True)
class Service:
    """A line of master.cf. `overrides` are its `-o` settings as they are written, `values` the same expanded."""

    name: str
    type: str
    chroot: bool
    command: str
    overrides: Mapping[str, str]
    values: Mapping[str, str]

    @property
    def id(self) -> str:
        """As `postconf -P` calls it."""
        return f"{self.name}/{self.type}"


@dataclass(frozen=True, slots=True)
class Config:
    """One Postfix. `written` is what main.cf sets, as it is written; `values` is all that holds, expanded."""

    directory: str
    written: Mapping[str, str]
    values: Mapping[str, str]
    services: tuple[Service, ...]

    def value(self, name: str, service: Service | None = None) -> str:
        """What holds for a service, or for all that does not say otherwise."""
        if service is not None and name in service.values:
            return service.values[name]
        return self.values.get(name, "")

    def listening(self) -> tuple[Service, ...]:
        """The services that speak SMTP with clients."""
        return tuple(each for each in self.services if each.command == "smtpd")


@dataclass(frozen=True, slots=True)
class Milter:
    """One milter of a list: its address as it is written, and what braces say besides."""

    address: str
    settings: Mapping[str, str]


def items(value: str) -> list[str]:
    """The parts of a list."""
    return _ITEM.findall(value)


def milters(value: str) -> list[Milter]:
    """The milters of an expanded list, in their order."""
    found = []
    for item in items(value):
        address, *settings = items(item.strip("{}")) or [""]
        pairs = " ".join(settings).replace(" = ", "=").split()
        found.append(Milter(address, dict(pair.split("=", 1) for pair in pairs if "=" in pair)))
    return found


def policy_services(value: str) -> list[str]:
    """The addresses that `check_policy_service` asks in an expanded list of restrictions."""
    pairs = pairwise(items(value))
    return [milters(address)[0].address for word, address in pairs if word == "check_policy_service"]


def same(address: str, ours: str, queue_directory: str) -> bool:
    """Whether two of Postfix's addresses are one socket; a relative path begins at the queue directory."""
    return address == ours or _place(address, queue_directory) == _place(ours, queue_directory)


def _place(address: str, queue_directory: str) -> object:
    kind, _, path = address.partition(":")
    if kind in ("unix", "local"):
        return path if path.startswith("/") else f"{queue_directory}/{path}"
    try:
        endpoint = Endpoint.parse(address)
    except EndpointError:
        return address
    return ("127.0.0.1" if endpoint.host == "localhost" else endpoint.host), endpoint.port
