"""Who the SMTP client is, or by XCLIENT pretends to be, and the trace field that says so.

XCLIENT is Postfix's (XCLIENT_README), with its behaviour: attributes that are not named stay, but for the login and
HELO name, which are forgotten.
"""

import re
import ssl
from dataclasses import dataclass, replace
from email.utils import formatdate
from ipaddress import ip_address

from filterd.mail.domain import Domain, DomainError
from filterd.wire.milter import Connect, Family

XCLIENT_ATTRIBUTES = "NAME ADDR PORT PROTO HELO LOGIN REVERSE_NAME"

_UNKNOWN = "unknown"
_UNAVAILABLE = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")  # RFC 3461 4
# What would end the comment in a trace field, or begin another.
_NEUTERED = re.compile(r'[^!-~]|[<>()\\";@]')


class XclientError(Exception):
    """The command cannot be carried out; the text is the SMTP reply."""


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """What TLS has agreed on: `version` as in `TLSv1.3`, the cipher's name, and the bits of its key."""

    version: str
    cipher: str
    bits: int

    @classmethod
    def of(cls, connection: ssl.SSLObject) -> "TlsIdentity":
        """What a connection has agreed on."""
        cipher, _, bits = connection.cipher() or ("", "", 0)
        return cls(connection.version() or "", cipher, bits)


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """The client. `name` is "unknown" unless address and name point to each other; `port` is 0 where unknown.

    `helo` is None before HELO. `login` is the authenticated user, and `mechanism` how it was proved. `tls` is None
    where octets go as they are.
    """

    address: str
    port: int = 0
    name: str = _UNKNOWN
    reverse_name: str = _UNKNOWN
    helo: str | None = None
    esmtp: bool = False
    login: str | None = None
    mechanism: str | None = None
    tls: TlsIdentity | None = None

    @classmethod
    def of_peer(cls, address: str, port: int) -> "ClientIdentity":
        """The real client, without asking the DNS: only loopback has a name."""
        name = "localhost" if is_loopback(address) else _UNKNOWN
        return cls(address, port, name, name)

    @property
    def connect(self) -> Connect:
        """The client as milters are told of it."""
        try:
            family = Family.INET6 if ip_address(self.address).version == 6 else Family.INET
        except ValueError:
            return Connect(self.name.encode())
        name = f"[{self.address}]" if self.name == _UNKNOWN else self.name
        return Connect(name.encode(), family, self.port, self.address.encode())

    @property
    def described(self) -> str:
        """Reverse name and address, as in the macro `_`."""
        forged = "" if self.name.lower() == self.reverse_name.lower() else " (may be forged)"
        return f"{self.reverse_name} [{self.address}]{forged}"

    def received(self, hostname: str, queue_id: str, recipients: tuple[bytes, ...], smtputf8: bool) -> bytes:
        """The value of our trace field (RFC 5321 4.4), without the space after the colon.

        The recipient is named only where there is one: nobody learns of the others.
        """
        helo = _NEUTERED.sub("?", self.helo or _UNKNOWN)
        # RFC 3848, RFC 6531 3.7.3
        protocol = "UTF8SMTP" if smtputf8 else "ESMTP" if self.esmtp else "SMTP"
        protocol += ("S" if self.tls else "") + ("A" if self.login else "")
        lines = [
            f"from {helo} ({self.name} [{self.address}])",
            f"\tby {hostname} (filterd) with {protocol} id {queue_id}",
        ]
        if len(recipients) == 1:
            lines.append(f"\tfor <{recipients[0].decode('utf-8', 'replace')}>")
        return ("\r\n".join(lines) + f"; {formatdate(localtime=True)}").encode()

    def pretending(self, arguments: str) -> "ClientIdentity":
        """The client after XCLIENT with these arguments. Raises XclientError."""
        changed = replace(self, helo=None, esmtp=False, login=None, mechanism=None)
        attributes = arguments.split()
        if not attributes:
            raise XclientError("501 5.5.4 Syntax: XCLIENT attribute=value...")
        for attribute in attributes:
            name, equals, raw = attribute.partition("=")
            if not equals or not raw or len(raw) > 255:
                raise XclientError("501 5.5.4 Error: attribute=value expected")
            value = _XTEXT.sub(lambda found: chr(int(found[1], 16)), raw)
            if not value.isprintable():
                raise XclientError("501 5.5.4 Error: a value cannot be printed")
            try:
                changed = _pretend(changed, name.upper(), None if value.upper() in _UNAVAILABLE else value)
            except (ValueError, DomainError):
                raise XclientError(f"501 5.5.4 Bad {name.upper()} syntax") from None
        return changed


def is_loopback(address: str) -> bool:
    """Whether the address is this machine's own."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _pretend(client: ClientIdentity, attribute: str, value: str | None) -> ClientIdentity:
    match attribute:
        case "NAME" if value is None:
            return replace(client, name=_UNKNOWN)
        case "NAME":
            name = Domain.parse(value or "").name
            return replace(client, name=name, reverse_name=name)
        case "REVERSE_NAME":
            return replace(client, reverse_name=_UNKNOWN if value is None else Domain.parse(value).name)
        case "ADDR":
            address = _UNKNOWN if value is None else str(ip_address(re.sub("(?i)^ipv6:", "", value)))
            return replace(client, address=address)
        case "PORT":
            port = int(value or 0)
            if not 0 <= port < 65536:
                raise ValueError
            return replace(client, port=port)
        case "PROTO":
            if value is None or value.upper() not in ("SMTP", "ESMTP"):
                raise ValueError
            return replace(client, esmtp=value.upper() == "ESMTP")
        case "HELO":
            return replace(client, helo=value or _UNKNOWN)
        case "LOGIN":
            return replace(client, login=value, mechanism="XCLIENT" if value else None)
        case _:
            raise XclientError(f"501 5.5.4 Bad XCLIENT attribute name: {attribute[:64]}")
