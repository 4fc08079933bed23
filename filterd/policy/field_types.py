"""The forms in which people write a policy's values: durations, networks, sockets, domains."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any

from pydantic import BeforeValidator

from filterd.mail.domain import Domain, DomainError

_DURATION = re.compile(r"(\d{1,9})\s*(ms|s|m|h|d)")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d{1,9})\s*(KiB|MiB|GiB)")
_SIZE_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
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


def _size(value: Any) -> Any:
    if isinstance(value, int):
        return value
    found = _SIZE.fullmatch(str(value))
    if found is None:
        raise ValueError('a size has a unit: "512KiB", "20MiB" or "1GiB"')
    return int(found[1]) * _SIZE_UNITS[found[2]]


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


Size = Annotated[int, BeforeValidator(_size)]
Seconds = Annotated[float, BeforeValidator(_duration)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
SocketAddress = Annotated[str, BeforeValidator(_socket)]
NameServer = Annotated[tuple[str, int], BeforeValidator(_name_server)]
DomainPattern = Annotated[str, BeforeValidator(_domain_pattern)]
SenderPattern = Annotated[str, BeforeValidator(_sender_pattern)]
HostName = Annotated[str, BeforeValidator(_domain_name)]
FileMode = Annotated[int, BeforeValidator(_mode)]
Workers = Annotated[int | None, BeforeValidator(_workers)]
