"""What an MTA says in the milter protocol, as values: the client, a path, a field's value. Pure; knows no engine.

MTA differences stand here as comments, each where it decides something.
"""

from collections.abc import Iterable
from enum import Enum, auto
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from filterd.mail.address import AddressError, Mailbox, parse_path
from filterd.mail.header import Field
from filterd.mail.transaction import Client, IPAddress


class Refused(Enum):
    """Whether the MTA has refused a recipient that it tells of."""

    NO = auto()
    FOR_NOW = auto()  #: the client may try it again: no failure
    FOR_GOOD = auto()


class UntoldError(Exception):
    """The MTA has not said whether it refuses a recipient."""

    def __init__(self) -> None:
        super().__init__("limits in failures need {rcpt_mailer} with RCPT: see the MTA's milter_rcpt_macros")


def client(name: str | None, address: str | None, port: int, port_macro: str | None, resolved: str | None) -> Client:
    """The client that connects.

    `address` is None for none and for a path. `port_macro` is `{client_port}`, `resolved` is `_`. Raises ValueError
    for an address that is none.
    """
    # "[192.0.2.1]" or "unknown" stand where the name is not verified; Sendmail's `_` says so of a name that it gives.
    if name is not None and (name[:1] == "[" or name.lower() == "unknown" or "may be forged" in (resolved or "")):
        name = None
    ip: IPAddress | None = None
    if address is not None:
        # Sendmail's prefix. A link-local address's zone says where it was seen, and is no part of it (RFC 4007 11).
        ip = _address(address.removeprefix("IPv6:").partition("%")[0])
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
    if port == 0 and port_macro is not None and port_macro.isascii() and port_macro.isdigit():
        port = int(port_macro[:5])
    return Client(ip, name, port)


# The same clients come again and again.
_address = lru_cache(maxsize=1024)(ip_address)


def path(octets: bytes) -> tuple[str, Mailbox | None]:
    """An envelope path: its text without the brackets, and its mailbox, None for `<>` and for what is none."""
    text = octets.decode("utf-8", "surrogateescape").strip()
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    try:
        return text, parse_path(text)
    except AddressError:
        return text, None


def refused(mailer: str | None, status: str | None) -> Refused:
    """What the MTA has done to a recipient, where it sends those, too, that it refuses.

    `mailer` is {rcpt_mailer}, `status` {rcpt_host}, which is then the enhanced status code (RFC 3463). Raises
    UntoldError: a recipient that may have been refused is none that may have been accepted.
    """
    if mailer is None:
        raise UntoldError
    if mailer != "error":
        return Refused.NO
    return Refused.FOR_NOW if status is not None and status.startswith("4") else Refused.FOR_GOOD


def fields(named: Iterable[tuple[bytes, bytes]], *, leading_space: bool) -> list[Field]:
    """Header fields as they stood in the mail, of their names and values in the protocol.

    `leading_space`: whether the MTA left the space behind the colon to us.
    """
    found = []
    for name, value in named:
        if b"\n" in value:
            # Inside a value, Postfix and Sendmail end lines with LF.
            value = value.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if not leading_space and value[:1] not in (b"\t", b"\r"):
            # The MTA took one space, if there was one. There was, most often, unless a tab or a fold is first.
            value = b" " + value
        found.append(Field(name, value))
    return found
