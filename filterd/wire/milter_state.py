"""Which milter packet may come when: what may answer a command, and which command may follow which.

Everything about the order of packets lives here, as tables; it does not know which side it is asked by.
"""

from collections.abc import Mapping

from filterd.wire.milter import (
    Abort,
    Accept,
    Action,
    AddHeader,
    AddRecipient,
    AddRecipientWithParameters,
    BodyChunk,
    ChangeHeader,
    ChangeSender,
    Connect,
    ConnectionFailure,
    Continue,
    Data,
    DeleteRecipient,
    Discard,
    EndOfHeaders,
    EndOfMessage,
    HeaderField,
    Helo,
    InsertHeader,
    Macros,
    Mail,
    Negotiate,
    Packet,
    Progress,
    Protocol,
    Quarantine,
    Quit,
    QuitNewConnection,
    Rcpt,
    Reject,
    ReplaceBody,
    ReplyCode,
    Shutdown,
    Skip,
    Tempfail,
    UnknownCommand,
)

Kind = type[Packet]

#: What an edit must have been negotiated with.
EDITS: Mapping[Kind, Action] = {
    AddHeader: Action.ADD_HEADER,
    InsertHeader: Action.ADD_HEADER,
    ChangeHeader: Action.CHANGE_HEADER,
    ReplaceBody: Action.CHANGE_BODY,
    AddRecipient: Action.ADD_RECIPIENT,
    AddRecipientWithParameters: Action.ADD_RECIPIENT_WITH_PARAMETERS,
    DeleteRecipient: Action.DELETE_RECIPIENT,
    ChangeSender: Action.CHANGE_SENDER,
    Quarantine: Action.QUARANTINE,
}

_SESSION = frozenset({Continue, Accept, Reject, Tempfail, ReplyCode, Shutdown, ConnectionFailure, Progress})
_MESSAGE = frozenset({Continue, Accept, Reject, Discard, Tempfail, ReplyCode, Shutdown, Progress})
_REPEATED = _MESSAGE | {Skip}

#: What may answer each command; nothing where it is never answered. Edits and Progress leave it unanswered still.
REPLIES: Mapping[Kind, frozenset[Kind]] = {
    Negotiate: frozenset({Negotiate}),
    Macros: frozenset(),
    Connect: _SESSION,
    Helo: _SESSION,
    Mail: _MESSAGE,
    Rcpt: _REPEATED,
    Data: _MESSAGE,
    HeaderField: _REPEATED,
    EndOfHeaders: _MESSAGE,
    BodyChunk: _REPEATED,
    EndOfMessage: _MESSAGE | EDITS.keys(),
    UnknownCommand: frozenset({Continue, Reject, Tempfail, ReplyCode, Shutdown, Progress}),
    Abort: frozenset(),
    Quit: frozenset(),
    QuitNewConnection: frozenset(),
}

#: The commands that a filter can ask not to be sent.
NOT_SENT: Mapping[Kind, Protocol] = {
    Connect: Protocol.NO_CONNECT,
    Helo: Protocol.NO_HELO,
    Mail: Protocol.NO_MAIL,
    Rcpt: Protocol.NO_RCPT,
    Data: Protocol.NO_DATA,
    HeaderField: Protocol.NO_HEADERS,
    EndOfHeaders: Protocol.NO_END_OF_HEADERS,
    BodyChunk: Protocol.NO_BODY,
    UnknownCommand: Protocol.NO_UNKNOWN,
}

#: The commands that a filter can promise not to answer.
NOT_ANSWERED: Mapping[Kind, Protocol] = {
    Connect: Protocol.NO_REPLY_CONNECT,
    Helo: Protocol.NO_REPLY_HELO,
    Mail: Protocol.NO_REPLY_MAIL,
    Rcpt: Protocol.NO_REPLY_RCPT,
    Data: Protocol.NO_REPLY_DATA,
    HeaderField: Protocol.NO_REPLY_HEADER,
    EndOfHeaders: Protocol.NO_REPLY_END_OF_HEADERS,
    BodyChunk: Protocol.NO_REPLY_BODY,
    UnknownCommand: Protocol.NO_REPLY_UNKNOWN,
}

_V2 = (
    Protocol.NO_CONNECT
    | Protocol.NO_HELO
    | Protocol.NO_MAIL
    | Protocol.NO_RCPT
    | Protocol.NO_BODY
    | Protocol.NO_HEADERS
    | Protocol.NO_END_OF_HEADERS
)
_V3 = _V2 | Protocol.NO_UNKNOWN
_V4 = _V3 | Protocol.NO_DATA

#: What each version of the protocol knows. Version 2 has the unanswered header too, where both ask for it.
VERSIONS: Mapping[int, Protocol] = {
    2: _V2 | Protocol.NO_REPLY_HEADER,
    3: _V3 | Protocol.NO_REPLY_HEADER,
    4: _V4 | Protocol.NO_REPLY_HEADER,
    5: _V4 | Protocol.NO_REPLY_HEADER,
    6: Protocol(0x1FFFFF),
}

# A message's commands in their order. One may be left out that is optional, or that the filter asked not to be sent.
_ORDER: tuple[Kind, ...] = (
    Negotiate,
    Connect,
    Helo,
    Mail,
    Rcpt,
    Data,
    HeaderField,
    EndOfHeaders,
    BodyChunk,
    EndOfMessage,
)
_PLACE = {kind: place for place, kind in enumerate(_ORDER)}
# As in libmilter, whose own table lets a message go from RCPT to its body or end.
_OPTIONAL: frozenset[Kind] = frozenset({Helo, Data, HeaderField, EndOfHeaders, BodyChunk})
_REPEATABLE: frozenset[Kind] = frozenset({Helo, Rcpt, HeaderField, BodyChunk})
_ANY_TIME: frozenset[Kind] = frozenset({Macros, UnknownCommand})


def is_answered(command: Kind, protocol: Protocol) -> bool:
    """Whether the command waits for a reply, as negotiated."""
    return bool(REPLIES[command]) and not (protocol & NOT_ANSWERED.get(command, Protocol(0)))


def is_sent(command: Kind, protocol: Protocol) -> bool:
    """Whether the command is sent at all, as negotiated."""
    return not protocol & NOT_SENT.get(command, Protocol(0))


def is_legal_reply(command: Kind, reply: Kind, actions: Action) -> bool:
    """Whether the reply may answer the command, and does not ask for more than was negotiated."""
    needed = EDITS.get(reply, Action(0))
    return reply in REPLIES[command] and needed & actions == needed


class Order:
    """The place of a connection in the order of commands. Mutable; one for each connection."""

    def __init__(self) -> None:
        self._last: Kind | None = None

    def follow(self, command: Kind, protocol: Protocol) -> bool:
        """Whether the command may come now; if so, it has."""
        if command is self._last and command in _REPEATABLE:
            return True
        may = command in _FOLLOWERS[self._last] or _may_follow(self._last, command, protocol)
        if may and command not in _ANY_TIME:
            self._last = _place_after(self._last, command)
        return may


def _may_follow(last: Kind | None, command: Kind, protocol: Protocol) -> bool:
    if last is None or command is Negotiate:
        return last is None and command is Negotiate
    if command in (Abort, Quit, QuitNewConnection) or command in _ANY_TIME:
        return last is not Quit
    if last not in _PLACE or command not in _PLACE:
        return False
    start, end = _PLACE[last], _PLACE[command]
    if end <= start:
        return end == start and command in _REPEATABLE
    return all(kind in _OPTIONAL or not is_sent(kind, protocol) for kind in _ORDER[start + 1 : end])


# Where all commands are sent, as they mostly are: every packet is looked up, and working with flags is slow.
_FOLLOWERS: Mapping[Kind | None, frozenset[Kind]] = {
    last: frozenset(command for command in REPLIES if _may_follow(last, command, Protocol(0)))
    for last in (None, *_ORDER, Quit)
}


def _place_after(last: Kind | None, command: Kind) -> Kind | None:
    if command is QuitNewConnection:
        return Negotiate
    if command in (Abort, EndOfMessage):
        # The session stays: HELO or MAIL may come, but no second Connect. Before Connect there is nothing to abort.
        return last if last in (Negotiate, Connect) else Helo
    return command
