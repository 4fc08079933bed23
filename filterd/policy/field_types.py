"""The forms in which people write a policy's values: networks, sockets, domains, secrets.

Numbers with units are in `quantities`.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any

from pydantic import BeforeValidator, SecretStr, ValidationInfo, WithJsonSchema

from filterd.mail.domain import Domain, DomainError
from filterd.mail.endpoint import Endpoint

#: Finds the text of a file that a secret is kept in, by its name in the policy. Raises ValueError. It is handed to the
#: models as the validation context's `read_secret`.
ReadSecret = Callable[[str], str]

_STATE = re.compile(r"sqlite:/.+|(?:rediss?(?:\+(?:sentinel|cluster))?://[^/]|unix:///).+")


def _network(value: Any) -> Any:
    try:
        return ip_network(str(value))
    except ValueError as error:
        raise ValueError(f"{error}; a network reads like 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1") from None


def _socket(value: Any) -> Any:
    endpoint = Endpoint.parse(str(value))
    if endpoint.path is None:
        try:
            address = ip_address(endpoint.host)
        except ValueError:
            raise ValueError("behind the @ stands an IP address, such as 127.0.0.1") from None
        if (address.version == 6) != endpoint.ipv6:
            raise ValueError("inet: goes with an IPv4 address, inet6: with an IPv6 address")
    elif not endpoint.path.startswith("/"):
        raise ValueError("a socket reads unix:/PATH, inet:PORT@ADDRESS or inet6:PORT@ADDRESS")
    return str(endpoint)


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


def _state(value: Any) -> Any:
    if not _STATE.fullmatch(str(value)):
        raise ValueError("state is kept in sqlite:/PATH or redis://HOST:PORT")
    return value


def _secret(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str | SecretStr):
        return value
    if not isinstance(value, dict) or set(value) != {"file"} or not isinstance(value["file"], str):
        raise ValueError("a secret is a text, or { file: PATH } of a file that others cannot read")
    read: ReadSecret = (info.context or {}).get("read_secret", no_secrets)
    return read(value["file"])


def no_secrets(file: str) -> str:
    raise ValueError("files with secrets are not read here")


def _form(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)}, "validation")


_SECRET_FORM = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {"file": {"type": "string", "description": "The file has the secret in its one line."}},
                "required": ["file"],
                "additionalProperties": False,
            },
        ]
    },
    "validation",
)

Network = Annotated[
    IPv4Network | IPv6Network,
    BeforeValidator(_network),
    _form("^[0-9A-Fa-f:.]+(?:/[0-9.]+)?$", "192.0.2.0/24", "2001:db8::/32"),
]
SocketAddress = Annotated[
    str,
    BeforeValidator(_socket),
    _form("^(?:(?:unix|local):/.+|/.+|inet6?:.+)$", "unix:/run/filterd/milter.sock", "inet:8891@127.0.0.1"),
]
NameServer = Annotated[
    tuple[str, int], BeforeValidator(_name_server), _form(r"^[0-9A-Fa-f:.\[\]]+$", "192.0.2.53", "[2001:db8::53]:5353")
]
DomainPattern = Annotated[str, BeforeValidator(_domain_pattern)]
SenderPattern = Annotated[str, BeforeValidator(_sender_pattern)]
HostName = Annotated[str, BeforeValidator(_domain_name)]
StateUrl = Annotated[str, BeforeValidator(_state), _form(f"^(?:{_STATE.pattern})$", "sqlite:/var/lib/filterd/state.db")]
FileMode = Annotated[int, BeforeValidator(_mode), _form("^0?[0-7]{3}$", "0660")]
Workers = Annotated[
    int | None,
    BeforeValidator(_workers),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 999}]}, "validation"),
]
#: CEL; which facts and functions it may name is for `conditions` to say.
ConditionText = Annotated[
    str,
    WithJsonSchema({"type": ["string", "boolean"], "examples": ['dmarc.result == "fail" && !from_us']}, "validation"),
]
#: Never shown by `repr`, logs or errors; `get_secret_value()` gives it. In the policy a text, or `{ file: PATH }`.
Secret = Annotated[SecretStr, BeforeValidator(_secret), _SECRET_FORM]
