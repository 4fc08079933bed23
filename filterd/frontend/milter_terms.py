"""What a filter and an MTA agree on when a milter connection begins, and what follows from that."""

from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_

from filterd.engine import changes
from filterd.frontend.conversation import Reception
from filterd.mail.transaction import Stage
from filterd.wire.milter import (
    Action,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Helo,
    Mail,
    Negotiate,
    Packet,
    Protocol,
    Rcpt,
)
from filterd.wire.milter_codec import ProtocolError, encode
from filterd.wire.milter_state import NOT_ANSWERED, REPLIES, is_answered

_NEWEST, _OLDEST = 6, 2
_FLAGS: dict[type[changes.Change], Action] = {
    changes.InsertField: Action.ADD_HEADER,
    changes.ChangeField: Action.CHANGE_HEADER,
    changes.DeleteField: Action.CHANGE_HEADER,
    changes.AddRecipient: Action.ADD_RECIPIENT,
    changes.DeleteRecipient: Action.DELETE_RECIPIENT,
    changes.ChangeSender: Action.CHANGE_SENDER,
}
_ALWAYS = Protocol.NO_REPLY_HEADER | Protocol.NO_REPLY_BODY | Protocol.NO_UNKNOWN | Protocol.LEADING_SPACE
#: The commands at whose end a stage is judged.
STAGES: dict[type[Packet], Stage] = {
    Connect: Stage.CONNECT,
    Helo: Stage.HELO,
    Mail: Stage.MAIL,
    Rcpt: Stage.RCPT,
    Data: Stage.DATA,
    EndOfHeaders: Stage.END_OF_HEADERS,
    EndOfMessage: Stage.END_OF_MESSAGE,
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What was negotiated, and what follows from it."""

    reply: bytes
    actions: Action
    protocol: Protocol
    leading_space: bool
    hears_refused: bool
    answered: frozenset[type[Packet]]
    lacks: frozenset[type[changes.Change]]


#: Before the negotiation.
NOTHING_YET = Terms(b"", Action(0), Protocol(0), False, False, frozenset(), frozenset())


# Every connection of an MTA makes the same offer, and working with flags takes longer than a mail's whole header.
@lru_cache(maxsize=64)
def terms(reception: Reception, version: int, actions: Action, protocol: Protocol) -> Terms:
    """Answer an offer. Raises ProtocolError for a version that nobody speaks."""
    if version < _OLDEST:
        raise ProtocolError(f"version {version} of the milter protocol")
    wanted = _ALWAYS
    for kind, stage in STAGES.items():
        if not reception.judges(stage):
            wanted |= NOT_ANSWERED[kind]
    if reception.counts_refused:
        wanted |= Protocol.REJECTED_RECIPIENTS
    # A bit that the MTA did not offer would end the connection. Lists of macros are not asked for: Postfix takes one
    # list as all lists, and its defaults have what is read here.
    needed = reduce(or_, (_FLAGS[each] for each in reception.changes), Action.QUARANTINE)
    actions, protocol = actions & needed, protocol & wanted
    answered = frozenset(kind for kind in REPLIES if is_answered(kind, protocol))
    reply = encode(Negotiate(min(version, _NEWEST), actions, protocol))
    lacks = frozenset(each for each in reception.changes if _FLAGS[each] not in actions)
    spaced, told = Protocol.LEADING_SPACE in protocol, Protocol.REJECTED_RECIPIENTS in protocol
    return Terms(reply, actions, protocol, spaced, told, answered, lacks)
