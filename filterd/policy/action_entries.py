"""What may stand behind `then:`: words, and actions that need to be told more; one of them, or a list.

An action that needs more is one key with what it needs: `{ add_header: { name: X-Spam, value: "{score}" } }`.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from filterd.mail.address import AddressError, Mailbox, parse_path
from filterd.policy.conditions import ConditionError, check_pattern
from filterd.policy.section import Section

#: What ends the judgement; at most one stands in a list, at its end.
FINAL_WORDS = ("accept", "reject", "defer", "discard", "quarantine", "hold")

_NAME = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322 3.6.8
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")
_NUMBER = re.compile(r"[+-]?\d{1,6}(\.\d{1,3})?")

# Whose fields these are: MTAs' (RFC 5321 4.4), or only filterd's, as readers trust them.
_TRACE = {"received", "return-path", "authentication-results", "x-filterd-tag", "x-filterd-quarantine"}
_CHAIN = {"arc-seal", "arc-message-signature", "arc-authentication-results"}
# Which author was judged, and as what programs read the body.
_JUDGED = {"from", "mime-version", "content-type", "content-transfer-encoding", "content-disposition"}
# RFC 5322 3.6: no mail has two of these.
_ONCE = {"date", "sender", "reply-to", "to", "cc", "bcc", "message-id", "in-reply-to", "references", "subject"}
_NOT_ADDED = _TRACE | _CHAIN | _JUDGED | _ONCE | {"dkim-signature"}
_NOT_REWRITTEN = _TRACE | _CHAIN | _JUDGED | {"dkim-signature"}
# Strangers' results and signatures may go, ours are not there yet.
_NOT_REMOVED = (_TRACE | _CHAIN | _JUDGED | {"date"}) - {"authentication-results"}


def _name_but(forbidden: set[str], verb: str) -> BeforeValidator:
    def check(value: Any) -> str:
        name = str(value)
        if not _NAME.fullmatch(name):
            raise ValueError("a header field's name is printable ASCII without spaces and colons, such as X-Spam")
        if name.lower() in forbidden:
            hint = "; rewrite_header and subject_prefix change it" if name.lower() == "subject" else ""
            raise ValueError(f"{name} is not {verb} by rules{hint}")
        return name

    return BeforeValidator(check)


def _pattern(value: Any) -> Any:
    try:
        check_pattern(str(value))
    except ConditionError as error:
        raise ValueError(error.text) from None
    return value


def _text(value: Any) -> Any:
    text = _PLACEHOLDER.sub("", str(value or ""))
    if any(not char.isprintable() and char != "\n" for char in text):
        raise ValueError("the text has characters that cannot be printed")
    return value


def _mailbox(text: str) -> Mailbox | None:
    if "{" in text:
        raise ValueError("an address has no {fact} fields: whoever writes the fact would choose who gets the mail")
    try:
        mailbox = parse_path(text)
    except AddressError as error:
        raise ValueError(f"{error}; an address reads like anna@example.org") from None
    if mailbox is not None and not mailbox.local.isascii():
        raise ValueError("the local part is ASCII: an MTA without SMTPUTF8 could not take the address")
    return mailbox


def _recipient(value: Any) -> str:
    mailbox = _mailbox(str(value))
    if mailbox is None:
        raise ValueError("a recipient is an address such as anna@example.org")
    return str(mailbox)


def _sender(value: Any) -> str:
    mailbox = _mailbox(str(value))
    return "" if mailbox is None else str(mailbox)


def _number(value: Any) -> Any:
    if isinstance(value, float):
        return value
    if not _NUMBER.fullmatch(str(value)):
        raise ValueError("a score is a number with at most three decimals, such as 5, 2.5 or -1")
    return float(value)


Recipient = Annotated[str, BeforeValidator(_recipient)]
Sender = Annotated[str, BeforeValidator(_sender)]
Number = Annotated[float, BeforeValidator(_number)]
Text = Annotated[str, Field(min_length=1, max_length=1000), BeforeValidator(_text)]
Pattern = Annotated[str, Field(max_length=500), BeforeValidator(_pattern)]
_MATCHING = Field(None, description="Only fields whose text this regular expression (RE2) is found in; else all.")


class AddedField(Section):
    """A field to add."""

    name: Annotated[str, _name_but(_NOT_ADDED, "added")]
    value: Text = Field(description="Its text; {fact} is filled in.")


class RemovedField(Section):
    """Fields to remove."""

    name: Annotated[str, _name_but(_NOT_REMOVED, "removed")]
    matching: Pattern | None = _MATCHING


class RewrittenField(Section):
    """Fields to give another text."""

    name: Annotated[str, _name_but(_NOT_REWRITTEN, "rewritten")]
    value: Text = Field(description="The new text; {fact} is filled in.")
    matching: Pattern | None = _MATCHING


class AddHeader(Section):
    """Add a header field above all others."""

    add_header: AddedField


class RemoveHeader(Section):
    """Remove the header fields of a name."""

    remove_header: RemovedField


class RewriteHeader(Section):
    """Give the header fields of a name another text."""

    rewrite_header: RewrittenField


class SubjectPrefix(Section):
    """Put a text before the subject, unless it begins with it."""

    subject_prefix: Text


class AddRecipient(Section):
    """Send the mail to one more address."""

    add_recipient: Recipient


class RemoveRecipient(Section):
    """Do not send the mail to that address; a mail without any recipient left is discarded."""

    remove_recipient: Recipient


class Redirect(Section):
    """Send the mail to this address instead of all others."""

    redirect: Recipient


class ChangeSender(Section):
    """Change the envelope sender; <> is the null sender."""

    change_sender: Sender


class Score(Section):
    """Add to the mail's score, which the section `score` and the fact `score` judge."""

    score: Number


_WITH_MORE = {
    next(iter(each.model_fields)): each
    for each in (
        AddHeader,
        RemoveHeader,
        RewriteHeader,
        SubjectPrefix,
        AddRecipient,
        RemoveRecipient,
        Redirect,
        ChangeSender,
        Score,
    )
}
#: Every action, and what it does.
ACTIONS = {
    "accept": "Deliver; no later rule refuses.",
    "reject": "Refuse for good (5xx), with the rule's reply.",
    "defer": "Refuse for now (4xx), with the rule's reply.",
    "discard": "Take the mail and throw it away.",
    "quarantine": "Deliver with the field X-Filterd-Quarantine, for the Junk folder.",
    "hold": "Keep the mail in the MTA's hold queue.",
    "tag": "Add the field X-Filterd-Tag with the rule's name, and go on.",
    **{name: each.__doc__ or "" for name, each in _WITH_MORE.items()},
}


def word_of(action: "Action") -> str:
    """What an action is called."""
    return action if isinstance(action, str) else next(iter(type(action).model_fields))


def _kind(value: Any) -> str | None:
    """Which action is meant: a word has no key."""
    if isinstance(value, Section):
        return next(iter(type(value).model_fields))
    if isinstance(value, dict):
        return next(iter(value)) if len(value) == 1 else None
    return "word" if value in FINAL_WORDS or value == "tag" else str(value)


Word = Literal["accept", "reject", "defer", "discard", "quarantine", "hold", "tag"]
Action = Annotated[
    Annotated[Word, Tag("word")]
    | Annotated[AddHeader, Tag("add_header")]
    | Annotated[RemoveHeader, Tag("remove_header")]
    | Annotated[RewriteHeader, Tag("rewrite_header")]
    | Annotated[SubjectPrefix, Tag("subject_prefix")]
    | Annotated[AddRecipient, Tag("add_recipient")]
    | Annotated[RemoveRecipient, Tag("remove_recipient")]
    | Annotated[Redirect, Tag("redirect")]
    | Annotated[ChangeSender, Tag("change_sender")]
    | Annotated[Score, Tag("score")],
    Discriminator(_kind),
]
Actions = Annotated[
    Annotated[Action, Tag("one")] | Annotated[tuple[Action, ...], Field(min_length=1, max_length=20), Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, (list, tuple)) else "one"),
]
