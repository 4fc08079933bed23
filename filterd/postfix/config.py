"""What a Postfix is configured to do, as far as filterd's place in it goes. Pure: `postconf` reads and writes it.

Values are Postfix's text: lists are parted by white space or commas, and braces hold together what they enclose.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from filterd.mail.endpoint import Endpoint, EndpointError

#: The lists of restrictions that smtpd works through, in its order.
RESTRICTIONS = tuple(f"smtpd_{stage}_restrictions" for stage in (
    "client", "helo", "sender", "relay", "recipient", "data", "end_of_data"))  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """A line of master.cf. `overrides` are its `-o` settings as they are written, `values` the same expanded."""

    name: str
    type: str
    chroot: bool
    command: str
    arguments: tuple[str, ...]
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

    def takes_back(self, service: Service) -> bool:
        """Whether a content filter on this machine gives mail back there: its clients are none."""
        own = service.overrides
        filtered = "" in (own.get("content_filter"), own.get("smtpd_proxy_filter"))
        xforward = bool(own.get("smtpd_authorized_xforward_hosts"))
        return service.name.startswith(("127.", "localhost:", "[::1]:")) and (filtered or xforward)

    def asks_milters(self, service: Service) -> bool:
        """Whether milters are asked about what comes in there, if there are any."""
        return "no_milters" not in items(self.value("receive_override_options", service))


@dataclass(frozen=True, slots=True)
class Milter:
    """One milter or policy service of a list: its address as it is written, and what braces say besides."""

    address: str
    settings: Mapping[str, str]


def items(value: str) -> list[str]:
    """The parts of a list."""
    found, start, depth = [], 0, 0
    for place, char in enumerate(f"{value},"):
        depth += (char == "{") - (char == "}")
        if depth <= 0 and (char == "," or char.isspace()):
            if place > start:
                found.append(value[start:place])
            start = place + 1
    return [*found, value[start:]] if start < len(value) else found


def milters(value: str) -> list[Milter]:
    """The milters of an expanded list, in their order."""
    found = []
    for item in items(value):
        address, *settings = items(_inside(item)) or [""]
        # Each setting may stand in braces of its own: { name = value }.
        pairs = ["=".join(part.strip() for part in _inside(each).split("=", 1)) for each in settings]
        found.append(Milter(address, dict(pair.split("=", 1) for pair in pairs if "=" in pair)))
    return found


def _inside(item: str) -> str:
    return item[1:-1].strip() if item.startswith("{") and item.endswith("}") else item


def policy_services(value: str) -> list[str]:
    """The addresses that `check_policy_service` asks in an expanded list of restrictions."""
    return [each.address for each in asked(value)]


def asked(value: str) -> list[Milter]:
    """The same, with what braces say besides."""
    pairs = pairwise(items(value))
    return [each for word, address in pairs if word == "check_policy_service" for each in milters(address)]


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
