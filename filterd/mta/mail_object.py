"""The mail object: envelope and content (RFC 5321 2.3.1), and what a milter's edits do to it.

The edits act as in Postfix's cleanup(8), with one difference: all of a milter's edits are made, or none.
"""

import re
from dataclasses import dataclass, replace

from filterd.mail.header import Field
from filterd.wire.milter import (
    AddHeader,
    AddRecipient,
    AddRecipientWithParameters,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    Packet,
    Quarantine,
    ReplaceBody,
)
from filterd.wire.milter_codec import ProtocolError

_NAME = re.compile(rb"[!-9;-~]+")
# RFC 5322 2.2, and 4.5.8 for the white space before the colon, which some still write.
_FIELD = re.compile(rb"(?P<name>[!-9;-~]+)[ \t]*:(?P<value>[^\r\n]*(?:\r\n[ \t][^\r\n]*)*)\r\n")
# Postfix's message_drop_headers: Bcc would betray recipients, the others lie about this delivery.
_DROPPED = frozenset({b"bcc", b"resent-bcc", b"return-path", b"content-length"})
# libmilter ends the connection over a field that does not fit into 64 KiB: refused, it gets round no milter.
_MAX_FIELD = 65000


class ContentError(Exception):
    """The content cannot be taken; the text is the SMTP reply."""


@dataclass(frozen=True, slots=True)
class MailObject:
    """A mail as it stands.

    `sender` and `recipients` are addresses without angle brackets; an empty sender is the null path. `received` is our
    own trace field, which milters are not shown; it stands somewhere in `fields`. Line ends are CRLF everywhere.
    `body` is None where the message ended without the empty line that parts it from the header. `hold` is the reason to
    keep the mail, None to deliver it.
    """

    queue_id: str
    sender: bytes
    recipients: tuple[bytes, ...]
    received: Field
    fields: tuple[Field, ...]
    body: bytes | None
    hold: bytes | None = None

    @property
    def shown(self) -> tuple[Field, ...]:
        """The header fields that milters see."""
        return tuple(each for each in self.fields if each is not self.received)

    @property
    def content(self) -> bytes:
        """Header, empty line and body."""
        header = b"".join(each.raw for each in self.fields)
        return header if self.body is None else header + b"\r\n" + self.body


def parse_content(content: bytes) -> tuple[tuple[Field, ...], bytes | None]:
    """Part a message into its header fields and its body. What is no header field begins the body, as in Postfix.

    The body is None where there is not even an empty line.

    Raises ContentError for a field that is too long.
    """
    fields, position = [], 0
    while (found := _FIELD.match(content, position)) is not None:
        if found.end() - position > _MAX_FIELD:
            raise ContentError("552 5.3.4 A header field is longer than 65000 octets")
        field = Field(found["name"], found["value"])
        if field.key not in _DROPPED:
            fields.append(field)
        position = found.end()
    rest = content[position:]
    return tuple(fields), rest.removeprefix(b"\r\n") if rest else None


def apply_edits(mail: MailObject, edits: list[Packet], leading_space: bool) -> MailObject:
    """The mail after a milter's edits, made in the order in which they came.

    `leading_space` is whether LEADING_SPACE was negotiated. Raises ProtocolError for an edit that makes no mail.
    """
    fields, recipients = list(mail.fields), list(mail.recipients)
    sender, hold = mail.sender, mail.hold
    space = b"" if leading_space else b" "
    for edit in edits:
        match edit:
            case AddHeader(name, value):
                fields.append(_field(name, space, value))
            case InsertHeader(index, name, value):
                # Counted in the message as it will be delivered, our own Received field included.
                fields.insert(index, _field(name, space, value))
            case ChangeHeader(index, name, value):
                _change(fields, mail.received, max(index, 1), name, _field(name, space, value) if value else None)
            case AddRecipient(address) | AddRecipientWithParameters(address, _):
                if (added := _address(address)) and added not in recipients:
                    recipients.append(added)
            case DeleteRecipient(address):
                recipients = [each for each in recipients if each != _address(address)]
            case ChangeSender(address, _):
                sender = _address(address)
            case Quarantine(reason):
                hold = reason or b"milter triggers HOLD action"
    return replace(
        mail,
        sender=sender,
        recipients=tuple(recipients),
        fields=tuple(fields),
        body=_new_body(edits, mail.body),
        hold=hold,
    )


def _change(fields: list[Field], hidden: Field, occurrence: int, name: bytes, new: Field | None) -> None:
    places = [i for i, each in enumerate(fields) if each is not hidden and each.key == name.lower()]
    if occurrence > len(places):
        if new is not None:
            fields.append(new)
    elif new is None:
        del fields[places[occurrence - 1]]
    else:
        fields[places[occurrence - 1]] = new


def _field(name: bytes, space: bytes, value: bytes) -> Field:
    if not _NAME.fullmatch(name):
        raise ProtocolError("an edit names no header field")
    first, *more = (space + value).split(b"\n")
    # A line that is no continuation would begin a field of its own; Postfix puts a tab before it.
    lines = [first, *(line if line[:1] in (b" ", b"\t") else b"\t" + line for line in more)]
    return Field(name, b"\r\n".join(lines))


def _address(written: bytes) -> bytes:
    return written.strip().removeprefix(b"<").removesuffix(b">")


def _new_body(edits: list[Packet], body: bytes | None) -> bytes | None:
    places = [i for i, edit in enumerate(edits) if isinstance(edit, ReplaceBody)]
    if not places:
        return body
    if places[-1] - places[0] >= len(places):
        raise ProtocolError("another edit stands between two pieces of the new body")
    pieces = b"".join(edit.content for edit in edits if isinstance(edit, ReplaceBody))
    new = pieces.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return new if new.endswith(b"\r\n") or not new else new + b"\r\n"
