"""The policy file's keys, their types, and what they mean by default.

The file's scalars reach these models as the text that was written, so that each field reads its own type and YAML's
surprises (`012`, `1:30`, `on`) have no room.
"""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from filterd.mail.domain import Domain, DomainError

_DURATION = re.compile(r"(\d{1,9})\s*(ms|s|m|h|d)")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SOCKET = re.compile(
    r"(?:unix|local):(?P<path>/.+)|(?P<family>inet6?):(?P<port>\d{1,5})@(?P<host>[^@\s]+)|(?P<bare>/.+)"
)


def _duration(value: Any) -> Any:
    if isinstance(value, float):
        return value
    found = _DURATION.fullmatch(str(value))
    if found is None:
        raise ValueError('a duration has a unit: "500ms", "5s", "10m", "1h" or "7d"')
    return int(found[1]) * _DURATION_UNITS[found[2]]


def _network(value: Any) -> Any:
    try:
        return ip_network(str(value))
    except ValueError as error:
        raise ValueError(f"{error}; a network reads like 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1") from None


def _socket(value: Any) -> Any:
    found = _SOCKET.fullmatch(str(value))
    if found is None:
        raise ValueError("a socket reads unix:/PATH, inet:PORT@ADDRESS or inet6:PORT@ADDRESS")
    if found["port"]:
        try:
            address = ip_address(found["host"].strip("[]"))
        except ValueError:
            raise ValueError("behind the @ stands an IP address, such as 127.0.0.1") from None
        if int(found["port"]) > 65535:
            raise ValueError("a port is a number up to 65535")
        if (address.version == 6) != (found["family"] == "inet6"):
            raise ValueError("inet: goes with an IPv4 address, inet6: with an IPv6 address")
    path = found["path"] or found["bare"]
    if path and len(path.encode()) > 107:
        raise ValueError("a unix socket's path has at most 107 bytes")
    return f"unix:{path}" if path else value


def _mode(value: Any) -> Any:
    if isinstance(value, int):
        return value
    if not re.fullmatch(r"0?[0-7]{3}", str(value)):
        raise ValueError('a mode is octal, such as "0660"')
    return int(str(value), 8)


def _workers(value: Any) -> Any:
    if value in (None, "auto"):
        return None
    if not re.fullmatch(r"[1-9]\d{0,2}", str(value)):
        raise ValueError("write auto, or a number of processes from 1 to 999")
    return int(value)


def _name_server(value: Any) -> Any:
    if isinstance(value, tuple):
        return value
    text = str(value)
    host, port = text, "53"
    bracketed = re.fullmatch(r"\[([^\]]+)\](?::(\d{1,5}))?", text)
    if bracketed:
        host, port = bracketed[1], bracketed[2] or "53"
    elif text.count(":") == 1:
        host, port = text.split(":")
    try:
        ip_address(host)
    except ValueError:
        raise ValueError("a name server is an IP address: 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353") from None
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("a port is a number from 1 to 65535")
    return host, int(port)


def _domain_name(value: Any) -> Any:
    try:
        return Domain.parse(str(value)).name
    except DomainError as error:
        raise ValueError(f"{error}; a host name reads like mx.example.org") from None


def _domain_pattern(value: Any) -> Any:
    text = str(value)
    base = text.removeprefix("*.")
    try:
        return text[: len(text) - len(base)] + Domain.parse(base).name
    except DomainError as error:
        raise ValueError(f"{error}; write example.org, or *.example.org for all below it") from None


def _sender_pattern(value: Any) -> Any:
    text = str(value)
    local, at, domain = text.rpartition("@")
    if text == "*":
        return text
    try:
        if not at:
            raise DomainError("there is no @")
        return f"{local}@{Domain.parse(domain).name}"
    except DomainError as error:
        raise ValueError(f"{error}; write anna@example.org, @example.org or *") from None


Seconds = Annotated[float, BeforeValidator(_duration)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
SocketAddress = Annotated[str, BeforeValidator(_socket)]
NameServer = Annotated[tuple[str, int], BeforeValidator(_name_server)]
DomainPattern = Annotated[str, BeforeValidator(_domain_pattern)]
SenderPattern = Annotated[str, BeforeValidator(_sender_pattern)]
HostName = Annotated[str, BeforeValidator(_domain_name)]


class Section(BaseModel):
    """What all sections share: no unknown keys, no change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SocketAccess(Section):
    """Who may connect to filterd's unix sockets."""

    group: str | None = Field(None, description="The sockets' group; Postfix runs as postfix.")
    mode: Annotated[int, BeforeValidator(_mode)] = Field(0o660, description="The sockets' mode, octal.")


class Server(Section):
    """How the daemon runs; a change needs a restart."""

    socket: SocketAccess = SocketAccess()
    milter: tuple[SocketAddress, ...] = Field(
        ("unix:/run/filterd/milter.sock",), min_length=1, max_length=1, description="Where the MTA connects."
    )
    workers: Annotated[int | None, BeforeValidator(_workers)] = Field(
        None, description="How many processes judge mail; auto is one a processor, two at least."
    )
    user: str | None = Field(None, description="Whom to become after binding, when started as root.")
    engine: Literal["libmilter", "native"] = Field(
        "libmilter", description="What speaks the milter protocol: libmilter, or filterd itself, which costs less."
    )
    on_error: Literal["defer", "accept", "reject"] = Field(
        "defer", description="What becomes of a mail that filterd itself fails to judge."
    )


class Identity(Section):
    """Under which name filterd speaks."""

    authserv_id: HostName | None = Field(
        None, description="The name in Authentication-Results (RFC 8601 2.5); by default this host's name."
    )
    trusted_authserv_ids: tuple[HostName, ...] = Field(
        (),
        max_length=20,
        description="The names of other servers of ours: from clients in `networks`, rules read their results as "
        "trusted.*; from all others, such fields are removed as forged. List only servers that do the same.",
    )


class Networks(Section):
    """Who is who."""

    trusted: tuple[Network, ...] = Field(
        (ip_network("127.0.0.0/8"), ip_network("::1")),
        description="Clients whose mail is ours, as if they had logged in.",
    )
    relays: tuple[Network, ...] = Field((), description="Our own MXs and gateways: their mail is inbound, never ours.")


class Dns(Section):
    """Whom to ask, and for how long."""

    servers: tuple[NameServer, ...] = Field((), description="Resolvers; none means those of the system.")
    timeout: Seconds = Field(5.0, gt=0, le=60, description="How long one question may take.")
    # Postfix waits 30 s for a milter (milter_command_timeout); what we answer must come before.
    deadline: Seconds = Field(20.0, gt=0, le=24, description="How long the questions of one stage may take together.")
    on_error: Literal["skip", "defer", "accept", "reject"] = Field(
        "skip",
        description="What becomes of a mail whose DMARC result is temperror and that no rule decided. "
        "skip and accept let it pass, with temperror in its Authentication-Results.",
    )


class Dmarc(Section):
    """How DMARC is judged."""

    organizational_domain: Literal["treewalk", "psl", "compare"] = Field(
        "treewalk",
        description="What tells an organization's domains from strangers': treewalk asks DNS (RFC 9989), psl the "
        "public suffix list (RFC 7489). compare judges by the first, and logs where the second differs.",
    )
    on_multiple_authors: Literal["reject", "defer", "quarantine", "hold", "skip"] = Field(
        "reject",
        description="What becomes of strangers' mail that has not exactly one author in exactly one From field.",
    )


class Arc(Section):
    """What chains of ARC sets are good for (RFC 8617)."""

    seal: bool = Field(
        False,
        description="Whether strangers' mail is sealed for those to whom it goes on, with the RSA key of the `sign` "
        "entry for the authserv_id's domain, or for one above it.",
    )
    trusted_sealers: tuple[HostName, ...] = Field(
        (), max_length=1000, description="Whose word counts about mail that they passed on: the d= of their seals."
    )


class KeyEntry(Section):
    """A private key to sign with."""

    selector: str = Field(
        # RFC 6376 3.1: labels of a host name, as they become part of one.
        pattern=r"^(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?){0,3}$",
        description="The key is published at SELECTOR._domainkey.DOMAIN.",
    )
    file: str = Field(description="A PEM file; a relative path begins at the policy's folder.")


class SignEntry(Section):
    """Which keys sign the mail of which authors."""

    domains: tuple[DomainPattern, ...] = Field(
        min_length=1,
        description="Author domains. *.example.org stands for all below example.org, and signs as example.org.",
    )
    keys: tuple[KeyEntry, ...] = Field(min_length=1, max_length=4, description="Each published key makes a signature.")
    expires: Seconds | None = Field(None, ge=3600, description="How long a signature holds (x=); by default for ever.")
    on_unpublished: Literal["defer", "sign", "skip"] = Field(
        "defer", description="What becomes of mail when none of the keys is published: skip sends it unsigned."
    )


class RuleEntry(Section):
    """One rule."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="What logs and replies call it.")
    when: str = Field(description="The condition, in CEL over the facts.")
    then: Literal["accept", "reject", "defer", "discard", "quarantine", "hold", "tag"]
    reply: str | None = Field(None, description="The SMTP reply of reject and defer; {fact} is filled in.")
    mode: Literal["enforce", "observe"] = Field(
        "enforce", description="observe decides and logs, and carries out nothing."
    )
    at: Literal["connect", "helo", "mail", "rcpt", "data", "end_of_headers", "end_of_message"] | None = Field(
        None, description="A stage later than the earliest possible; connect and helo only by writing so."
    )


class PolicyFile(Section):
    """A whole policy file."""

    version: Literal["1"]
    server: Server = Server()
    identity: Identity = Identity()
    networks: Networks = Networks()
    dns: Dns = Dns()
    mail_from_us: str = Field(
        "client.authenticated || client.trusted", description="Which mail is ours; everything else is inbound."
    )
    sign: tuple[SignEntry, ...] = Field((), max_length=10_000)
    senders: dict[str, tuple[SenderPattern, ...]] | None = Field(
        None,
        description="The addresses and domains that each login may write as: anna@example.org, @example.org or *. "
        "Without this, every login may use every address.",
    )
    dmarc: Dmarc = Dmarc()
    arc: Arc = Arc()
    rules: tuple[RuleEntry, ...] = Field((), max_length=10_000)

    @field_validator("rules")
    @classmethod
    def _names_are_unique(cls, rules: tuple[RuleEntry, ...]) -> tuple[RuleEntry, ...]:
        names = [rule.name for rule in rules]
        double = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        if double:
            raise ValueError(f"two rules are named {double}; a name stands for one rule")
        return rules
