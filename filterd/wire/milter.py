"""The milter protocol's packets, versions 2 to 6: what an MTA says and what a filter answers.

Both sides of it, as values. Not how they are written (`milter_codec`), nor which may come when (`milter_state`), and no
text: every string is the bytes that were on the wire.

There is no standard; Sendmail's libmilter is the reference, and its names (`mfdef.h`) are given where ours differ.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag, StrEnum

#: The largest body chunk: libmilter refuses a packet with more payload.
BODY_CHUNK = 65535


class Action(IntFlag):
    """What a filter may ask for at end of message (SMFIF_*). The MTA offers, the filter takes a subset."""

    ADD_HEADER = 0x001  #: AddHeader, InsertHeader
    CHANGE_BODY = 0x002  #: ReplaceBody
    ADD_RECIPIENT = 0x004  #: AddRecipient
    DELETE_RECIPIENT = 0x008  #: DeleteRecipient
    CHANGE_HEADER = 0x010  #: ChangeHeader, which also deletes
    QUARANTINE = 0x020  #: Quarantine
    CHANGE_SENDER = 0x040  #: ChangeSender
    ADD_RECIPIENT_WITH_PARAMETERS = 0x080  #: AddRecipientWithParameters
    SET_MACROS = 0x100  #: macro lists in the negotiation


class Protocol(IntFlag):
    """How the two talk (SMFIP_*). The MTA offers what it can do, the filter takes what it wants."""

    NO_CONNECT = 0x000001  #: do not send Connect
    NO_HELO = 0x000002  #: do not send Helo
    NO_MAIL = 0x000004  #: do not send Mail
    NO_RCPT = 0x000008  #: do not send Rcpt
    NO_BODY = 0x000010  #: do not send BodyChunk
    NO_HEADERS = 0x000020  #: do not send HeaderField
    NO_END_OF_HEADERS = 0x000040  #: do not send EndOfHeaders
    NO_REPLY_HEADER = 0x000080  #: HeaderField is not answered
    NO_UNKNOWN = 0x000100  #: do not send UnknownCommand (version 3)
    NO_DATA = 0x000200  #: do not send Data (version 4)
    SKIP = 0x000400  #: the MTA understands Skip (this and what follows: version 6)
    REJECTED_RECIPIENTS = 0x000800  #: also send Rcpt for recipients that the MTA refuses
    NO_REPLY_CONNECT = 0x001000  #: Connect is not answered
    NO_REPLY_HELO = 0x002000  #: Helo is not answered
    NO_REPLY_MAIL = 0x004000  #: Mail is not answered
    NO_REPLY_RCPT = 0x008000  #: Rcpt is not answered
    NO_REPLY_DATA = 0x010000  #: Data is not answered
    NO_REPLY_UNKNOWN = 0x020000  #: UnknownCommand is not answered
    NO_REPLY_END_OF_HEADERS = 0x040000  #: EndOfHeaders is not answered
    NO_REPLY_BODY = 0x080000  #: BodyChunk is not answered
    LEADING_SPACE = 0x100000  #: header values keep the space after the colon, in both directions
    MDS_256K = 0x10000000  #: body chunks up to 256 KiB - 1 (Sendmail, where built so)
    MDS_1M = 0x20000000  #: body chunks up to 1 MiB - 1 (Sendmail, where built so)


class Family(StrEnum):
    """The kind of address that a client connects from."""

    UNKNOWN = "U"  #: none: neither port nor address follows
    UNIX = "L"  #: the address is a path
    INET = "4"  #: the address is IPv4, dotted
    INET6 = "6"  #: the address is IPv6; Sendmail writes it with the prefix "IPv6:"


class MacroStage(IntEnum):
    """The stages that a filter may set a macro list for; other than the letters in a Macros packet."""

    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    END_OF_MESSAGE = 5
    END_OF_HEADERS = 6


@dataclass(frozen=True, slots=True)
class Packet:
    """Anything that goes over the wire."""


@dataclass(frozen=True, slots=True)
class Negotiate(Packet):
    """The first packet, in both directions (SMFIC_OPTNEG): the MTA's offer, the filter's choice.

    `macros` is the filter's to send: (stage, names parted by spaces). Postfix then blanks the lists of all stages that
    are not named.
    """

    version: int
    actions: Action
    protocol: Protocol
    macros: tuple[tuple[int, bytes], ...] = ()


# Commands: the MTA to the filter.


@dataclass(frozen=True, slots=True)
class Macros(Packet):
    """Values known now (SMFIC_MACRO), sent ahead of the command whose letter is `command`. Never answered.

    Names of one letter stand bare (`i`), longer ones in braces (`{auth_authen}`).
    """

    command: bytes
    values: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Connect(Packet):
    """A client: its verified name, or its address in square brackets. `port` is 0 where there is none."""

    hostname: bytes
    family: Family = Family.UNKNOWN
    port: int = 0
    address: bytes = b""


@dataclass(frozen=True, slots=True)
class Helo(Packet):
    """HELO or EHLO."""

    name: bytes


@dataclass(frozen=True, slots=True)
class Mail(Packet):
    """MAIL FROM: the path as the client wrote it, with its angle brackets, and the ESMTP parameters."""

    sender: bytes
    parameters: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Rcpt(Packet):
    """RCPT TO, in the same form."""

    recipient: bytes
    parameters: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Data(Packet):
    """DATA, before the MTA answers it (version 4)."""


@dataclass(frozen=True, slots=True)
class HeaderField(Packet):
    """One header field; lines of the value are parted by LF alone."""

    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class EndOfHeaders(Packet):
    """The empty line."""


@dataclass(frozen=True, slots=True)
class BodyChunk(Packet):
    """A piece of the body, cut anywhere; lines end with CRLF."""

    content: bytes


@dataclass(frozen=True, slots=True)
class EndOfMessage(Packet):
    """The end of the body (SMFIC_BODYEOB), possibly with its last piece. Edits and the verdict follow."""

    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Abort(Packet):
    """The message is off, the connection is not. Not answered; may come at any time, and twice."""


@dataclass(frozen=True, slots=True)
class Quit(Packet):
    """The connection is over. Not answered."""


@dataclass(frozen=True, slots=True)
class QuitNewConnection(Packet):
    """The client has gone, another comes on this connection (version 6; Postfix never sends it). Not answered."""


@dataclass(frozen=True, slots=True)
class UnknownCommand(Packet):
    """An SMTP command that the MTA does not know, as it was written (version 3)."""

    line: bytes


# Replies: the filter to the MTA.


@dataclass(frozen=True, slots=True)
class Continue(Packet):
    """Go on."""


@dataclass(frozen=True, slots=True)
class Accept(Packet):
    """Take it and ask no more: this message, or at Connect and Helo the whole session."""


@dataclass(frozen=True, slots=True)
class Reject(Packet):
    """Refuse with the MTA's own 5xx."""


@dataclass(frozen=True, slots=True)
class Discard(Packet):
    """Take the message and throw it away."""


@dataclass(frozen=True, slots=True)
class Tempfail(Packet):
    """Refuse with the MTA's own 4xx."""


@dataclass(frozen=True, slots=True)
class Skip(Packet):
    """Send no more commands of this kind for this message."""


@dataclass(frozen=True, slots=True)
class Progress(Packet):
    """Still at work: begin to wait anew."""


@dataclass(frozen=True, slots=True)
class Shutdown(Packet):
    """Answer 421 and close the SMTP connection."""


@dataclass(frozen=True, slots=True)
class ConnectionFailure(Packet):
    """Make it look like a failed connection; Sendmail only."""


@dataclass(frozen=True, slots=True)
class ReplyCode(Packet):
    """Refuse with this 4xx or 5xx reply; lines parted by CRLF, every per cent sign doubled."""

    text: bytes


@dataclass(frozen=True, slots=True)
class AddHeader(Packet):
    """Add a field below all others."""

    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class InsertHeader(Packet):
    """Insert a field: at 0 above all others, at n below the n-th field, the MTA's own Received field included."""

    index: int
    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class ChangeHeader(Packet):
    """Change the index-th field of that name, from 1, among those that the filter was shown; empty value: delete it."""

    index: int
    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class ReplaceBody(Packet):
    """A piece of the new body; several in a row make it up."""

    content: bytes


@dataclass(frozen=True, slots=True)
class AddRecipient(Packet):
    """Add an envelope recipient."""

    address: bytes


@dataclass(frozen=True, slots=True)
class AddRecipientWithParameters(Packet):
    """The same with ESMTP parameters, parted by spaces."""

    address: bytes
    parameters: bytes = b""


@dataclass(frozen=True, slots=True)
class DeleteRecipient(Packet):
    """Remove an envelope recipient."""

    address: bytes


@dataclass(frozen=True, slots=True)
class ChangeSender(Packet):
    """Change the envelope sender, and its ESMTP parameters where given."""

    address: bytes
    parameters: bytes = b""


@dataclass(frozen=True, slots=True)
class Quarantine(Packet):
    """Keep the message on hold, for this reason. No verdict: one still follows."""

    reason: bytes
