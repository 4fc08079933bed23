"""Who wrote a message: exactly one author domain, or a named reason why there is none (RFC 5322 3.6.2, RFC 9989)."""

from dataclasses import dataclass

from filterd.mail.address import AddressError, Mailbox, parse_mailbox_list
from filterd.mail.domain import Domain
from filterd.mail.header import Header
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
