"""What a milter's answer means for the SMTP dialogue, in the words of an MTA rather than of the protocol."""

import re
from dataclasses import dataclass
from enum import StrEnum

from filterd.wire.milter import Packet, Reject, ReplyCode, Shutdown, Tempfail
from filterd.wire.milter_codec import ProtocolError

_LINE = re.compile(rb"(?P<code>[45][0-9]{2})(?P<more>[ -])(?P<text>[^\r\n\0]*)")
_PER_CENT = re.compile(rb"%(%?)")


class Kind(StrEnum):
    """What becomes of the command, or of the mail."""

    GO_ON = "go on"
    REFUSE = "refuse"  #: answer with `text`, a whole SMTP reply
    DISCARD = "discard"  #: take the mail and throw it away
    HOLD = "hold"  #: take the mail and keep it; `text` says why


@dataclass(frozen=True, slots=True)
class Judgement:
    """One answer. `text` is bytes, as filters send them; lines of a reply are parted by CRLF."""

    kind: Kind
    text: bytes = b""

    @property
    def hangs_up(self) -> bool:
        """Whether the connection ends with this reply (RFC 5321 3.8)."""
        return self.kind is Kind.REFUSE and self.text.startswith(b"421")

    @property
    def status(self) -> bytes:
        """The enhanced status code of a refusal (RFC 3463), or the one that says no more than its class."""
        found = re.match(rb"[0-9]{3}[ -]([245]\.[0-9]{1,3}\.[0-9]{1,3})(?= |$)", self.text)
        return found[1] if found else self.text[:1] + b".0.0"

    @property
    def permanent(self) -> bool:
        return self.kind is Kind.REFUSE and self.text.startswith(b"5")


GO_ON = Judgement(Kind.GO_ON)
DISCARD = Judgement(Kind.DISCARD)


def refuse(text: str) -> Judgement:
    return Judgement(Kind.REFUSE, text.encode())


def hold(reason: bytes) -> Judgement:
    return Judgement(Kind.HOLD, reason)


def refusal(reply: Packet) -> Judgement:
    """The refusal that one of the four refusing replies stands for, in Postfix's words.

    Raises ProtocolError for a reply code that no SMTP client could read.
    """
    if isinstance(reply, ReplyCode):
        return Judgement(Kind.REFUSE, _reply_text(reply.text))
    texts = {
        Reject: "550 5.7.1 Command rejected",
        Tempfail: "451 4.7.1 Service unavailable - try again later",
        Shutdown: "421 4.7.0 Server closing connection",
    }
    return refuse(texts[type(reply)])


def _reply_text(text: bytes) -> bytes:
    lines = text.split(b"\r\n")
    codes = set()
    for number, line in enumerate(lines, 1):
        found = _LINE.fullmatch(line)
        # RFC 5321 4.2.1: one code for all lines, a hyphen in all but the last.
        if found is None or (found["more"] == b" ") != (number == len(lines)):
            raise ProtocolError("the filter's reply is no SMTP reply")
        # RFC 2034 4: the enhanced status is of the same class.
        if found["text"][:1].isdigit() and found["text"][:1] != found["code"][:1]:
            raise ProtocolError("the filter's reply has a code and a status of different classes")
        codes.add(found["code"])
    if len(codes) != 1:
        raise ProtocolError("the lines of the filter's reply have different codes")
    # libmilter's filters double it, as Sendmail reads the reply as a format; a single one means nothing.
    return _PER_CENT.sub(rb"\1", text)
