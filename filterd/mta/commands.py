"""The arguments of MAIL and RCPT, read strictly (RFC 5321 4.1.2)."""

import re
from dataclasses import dataclass

from filterd.mail.address import AddressError, parse_path

_PATH = re.compile(r'\s*<(?P<path>(?:"(?:[^"\\]|\\.)*"|[^<>"\s])*)>(?P<parameters>(?:\s+\S+)*)\s*')
_SOURCE_ROUTE = re.compile(r"@[^:]*:")
_PARAMETER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(?:=[^\x00-\x20=\x7f]+)?")


class CommandError(Exception):
    """The command is refused; the text is the SMTP reply."""


@dataclass(frozen=True, slots=True)
class PathCommand:
    """MAIL or RCPT: the path as written with its brackets, its address without them, and the ESMTP parameters."""

    written: bytes
    address: bytes
    parameters: tuple[bytes, ...]

    @property
    def host(self) -> bytes:
        """The domain of the address; empty where it has none."""
        return self.address.rpartition(b"@")[2] if b"@" in self.address else b""


def parse_path_command(argument: str | None, keyword: str, allow_null: bool) -> PathCommand:
    """Read `FROM:<a@b> KEY=VALUE ...`; `keyword` is FROM or TO.

    Raises CommandError. What is not UTF-8 came as surrogate escapes and is refused.
    """
    if argument is None or argument[: len(keyword) + 1].upper() != keyword + ":":
        raise CommandError(f"501 5.5.4 Syntax: {'MAIL' if keyword == 'FROM' else 'RCPT'} {keyword}:<address>")
    found = _PATH.fullmatch(argument, len(keyword) + 1)
    if found is None:
        raise CommandError("501 5.1.7 Bad address syntax" if keyword == "FROM" else "501 5.1.3 Bad address syntax")
    path = _SOURCE_ROUTE.sub("", found["path"], count=1) if found["path"].startswith("@") else found["path"]
    parameters = found["parameters"].split()
    if not all(_PARAMETER.fullmatch(each) for each in parameters):
        raise CommandError("501 5.5.4 Bad parameter syntax")
    try:
        # RFC 5321 4.1.1.3: postmaster is the one recipient that needs no domain.
        mailbox = None if keyword == "TO" and path.lower() == "postmaster" else parse_path(f"<{path}>")
        if mailbox is None and not path and not allow_null:
            raise CommandError("501 5.1.3 Bad address syntax")
        return PathCommand(f"<{found['path']}>".encode(), path.encode(), tuple(each.encode() for each in parameters))
    except (AddressError, UnicodeEncodeError):
        raise CommandError("553 5.1.7 Bad address" if keyword == "FROM" else "553 5.1.3 Bad address") from None


@dataclass(frozen=True, slots=True)
class MailParameters:
    """What the parameters of MAIL ask for. `size` is what the client announces, in octets, 0 where it does not."""

    size: int = 0
    smtputf8: bool = False


def parse_mail_parameters(parameters: tuple[bytes, ...]) -> MailParameters:
    """Read the parameters of the extensions that we offer (RFC 1870, 4954, 6152, 6531). Raises CommandError."""
    size, smtputf8 = 0, False
    for parameter in parameters:
        key, _, value = parameter.upper().partition(b"=")
        if key == b"SIZE" and value.isdigit() and len(value) <= 20:
            size = int(value)
        elif key == b"SMTPUTF8" and not value:
            smtputf8 = True
        elif not (key == b"BODY" and value in (b"7BIT", b"8BITMIME")) and not (key == b"AUTH" and value):
            raise CommandError("555 5.5.4 Unsupported option")
    return MailParameters(size, smtputf8)
