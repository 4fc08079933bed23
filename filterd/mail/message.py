"""Who wrote a message: exactly one author domain, or a named reason why there is none (RFC 5322 3.6.2, RFC 9989)."""

from dataclasses import dataclass

from filterd.mail.address import AddressError, Mailbox, parse_mailbox_list
from filterd.mail.domain import Domain
from filterd.mail.header import Field, Header
from filterd.mail.reason import Reason


@dataclass(frozen=True, slots=True)
class Author:
    """The author of a message.

    `domain` is the one author domain (RFC 9989 3.2.2); None where there is not exactly one, and then `reason` says why.
    `mailboxes` are those of the one From field that could be read. Two authors of one domain have no `domain`, as
    filterd judges by one author only.
    """

    domain: Domain | None
    mailboxes: tuple[Mailbox, ...] = ()
    reason: Reason | None = None


def author_of(header: Header) -> Author:
    """The author by the From field. Never "the first one wins": attackers choose which one that is."""
    fields = header.all("From")
    if not fields:
        return Author(None, reason=Reason.AUTHOR_MISSING)
    if len(fields) > 1:
        return Author(None, reason=Reason.AUTHOR_SEVERAL_FIELDS)
    try:
        mailboxes = parse_mailbox_list(fields[0].value)
    except AddressError:
        return Author(None, reason=Reason.AUTHOR_MALFORMED)
    if len(mailboxes) != 1:
        return Author(None, mailboxes, Reason.AUTHOR_SEVERAL)
    domain = mailboxes[0].domain
    if not isinstance(domain, Domain):
        return Author(None, mailboxes, Reason.AUTHOR_MALFORMED)
    return Author(domain, mailboxes)


def split(data: bytes) -> tuple[Header, bytes]:
    """Part a stored message into header section and body, with CRLF line ends whatever they were.

    A first line `From ` (mbox) is dropped. A line of the header section that is no field ends it, as MTAs have it: it
    is the body's first line. A continuation line without a field before it is body too.
    """
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if data.startswith(b"From "):
        data = data.partition(b"\n")[2]
    names: list[bytes] = []
    values: list[list[bytes]] = []
    start = 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        line = data[start:end]
        if not line:
            start = end + 1
            break
        if line[:1] in b" \t" and values:
            values[-1].append(line)
        else:
            name, colon, value = line.partition(b":")
            name = name.rstrip(b" \t")
            if not colon or not name or any(octet <= 32 or octet >= 127 for octet in name):
                break
            names.append(name)
            values.append([value])
        start = end + 1
    header = Header(tuple(Field(name, b"\r\n".join(lines)) for name, lines in zip(names, values, strict=True)))
    return header, data[start:].replace(b"\n", b"\r\n")
