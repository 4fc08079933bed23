"""What a verdict is in the milter protocol: an answer, and edits of the message. Pure; knows no engine, sends nothing.

MTA differences stand here as comments, each where it decides something.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from filterd.engine.changes import (
    AddRecipient,
    Change,
    ChangeField,
    ChangeSender,
    DeleteField,
    DeleteRecipient,
    InsertField,
)
from filterd.mail.reply import Reply, printable, reply_text
from filterd.mail.transaction import Stage
from filterd.policy.verdict import Disposition, Verdict

_REFUSED = Reply(550, "5.7.1", "refused by policy")
_DEFERRED = Reply(451, "4.7.1", "refused by policy for now, please try again later")
# A line end that begins no continuation would begin a field, or the body.
_STRAY_END = re.compile(r"\n(?![ \t])")


class Action(StrEnum):
    """What the MTA is told to do; each has a letter of its own in the protocol."""

    CONTINUE = "continue"
    ACCEPT = "accept"
    REJECT = "reject"
    DEFER = "tempfail"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one event. `hold` is the reason for the MTA's hold queue, None where the mail is not held."""

    action: Action
    reply: Reply | None = None
    hold: str | None = None


@dataclass(frozen=True, slots=True)
class HeaderEdit:
    """A change of the header. `value` None deletes.

    Where `insert` is set, `index` is the place from the top of the delivered message (Postfix counts its own Received;
    of Sendmail only 0 is reliable). Else it is the 1-based occurrence among the fields of that name that we were shown.
    """

    insert: bool
    name: str
    index: int
    value: str | None = None


#: Addresses have their angle brackets.
MilterEdit = HeaderEdit | AddRecipient | DeleteRecipient | ChangeSender


def answer(verdict: Verdict, stage: Stage) -> Answer:
    """Translate the verdict of a stage."""
    match verdict.disposition:
        case Disposition.REJECT:
            return Answer(Action.REJECT, _reply(verdict.reply, _REFUSED))
        case Disposition.DEFER:
            return Answer(Action.DEFER, _reply(verdict.reply, _DEFERRED))
        case Disposition.DISCARD if stage < Stage.MAIL:
            # Postfix takes no discard at connect and HELO; deferring neither loses the mail nor lets it in.
            return Answer(Action.DEFER, _DEFERRED)
        case Disposition.DISCARD:
            return Answer(Action.DISCARD)
        case Disposition.HOLD if stage is Stage.END_OF_MESSAGE:
            # A quarantine is no final answer: the mail must be accepted besides.
            return Answer(Action.ACCEPT, hold=printable(verdict.rule or "held by policy"))
        case _ if stage is Stage.END_OF_MESSAGE:
            return Answer(Action.ACCEPT)
        case _:
            # Never "accept" before the end: at connect and HELO it ends the milter's part in the whole session, later
            # in the message, and nothing would be signed or marked.
            return Answer(Action.CONTINUE)


def edits(changes: Iterable[Change], *, leading_space: bool) -> tuple[MilterEdit, ...]:
    """Translate changes, in their order. `leading_space`: whether the MTA leaves the space behind the colon to us."""
    return tuple(_edit(each, " " if leading_space else "") for each in changes)


def _edit(change: Change, lead: str) -> MilterEdit:
    match change:
        case InsertField(index, name, value):
            return HeaderEdit(True, name, index, lead + field_text(value))
        case ChangeField(name, occurrence, value):
            return HeaderEdit(False, name, occurrence, lead + field_text(value))
        case DeleteField(name, occurrence):
            return HeaderEdit(False, name, occurrence)
        case AddRecipient(address):
            return AddRecipient(f"<{address}>")
        case DeleteRecipient(address):
            return DeleteRecipient(f"<{address}>")
        case ChangeSender(address):
            return ChangeSender(f"<{address}>")


def field_text(value: str) -> str:
    """A field's value as the protocol takes it: UTF-8, lines end in LF, no line begins a new field, no NUL."""
    text = value.replace("\r\n", "\n").replace("\r", " ").replace("\0", "").rstrip("\n")
    return _STRAY_END.sub("\n\t", text).encode("utf-8", "replace").decode("utf-8")


def _reply(reply: Reply | None, default: Reply) -> Reply:
    """The reply, its text made safe; the default where there is none, or one of the other class.

    libmilter drops a reply whose class is not that of the answer. `printable` leaves no per cent sign, which libmilter
    wants doubled and then sends doubled.
    """
    if reply is None or reply.temporary != default.temporary:
        return default
    return Reply(reply.code, reply.status, reply_text(reply.text) or default.text)
