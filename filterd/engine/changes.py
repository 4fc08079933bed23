"""What is changed of a mail: the header and envelope as they leave, and the changes that make them so.

The edits of rules are made one after the other on what the mail then has. What comes out is one list of changes that
every MTA takes alike: fields that the mail came with are changed by the numbers that they came with, those of a name
from the last to the first, as deleting one renumbers the next; then fields are inserted above all others.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from filterd.mail.encoded_word import shown, written
from filterd.mail.header import Field, Header
from filterd.policy import verdict as edits
from filterd.policy.conditions import found_in


@dataclass(frozen=True, slots=True)
class InsertField:
    """Insert a field; index 0 is above all others, the MTA's own Received included.

    `value` is the text behind "Name: ", further lines joined by "\\n\\t" or "\\n ".
    """

    index: int
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class ChangeField:
    """Give the n-th field (from 1, top to bottom) of that name another value."""

    name: str
    occurrence: int
    value: str


@dataclass(frozen=True, slots=True)
class DeleteField:
    """Delete the n-th field (from 1, top to bottom) of that name, as they are numbered at that moment."""

    name: str
    occurrence: int


@dataclass(frozen=True, slots=True)
class AddRecipient:
    """Add an envelope recipient."""

    address: str


@dataclass(frozen=True, slots=True)
class DeleteRecipient:
    """Remove an envelope recipient, as the MTA wrote it."""

    address: str


@dataclass(frozen=True, slots=True)
class ChangeSender:
    """Change the envelope sender; empty is the null sender."""

    address: str


Change = InsertField | ChangeField | DeleteField | AddRecipient | DeleteRecipient | ChangeSender

#: What an MTA has to offer for the edits that rules ask for.
NEEDED: Mapping[type[edits.RuleEdit], frozenset[type[Change]]] = {
    edits.AddField: frozenset({InsertField}),
    edits.RemoveField: frozenset({DeleteField}),
    edits.RewriteField: frozenset({ChangeField}),
    edits.PrefixSubject: frozenset({ChangeField, InsertField}),
    edits.AddRecipient: frozenset({AddRecipient}),
    edits.RemoveRecipient: frozenset({DeleteRecipient}),
    edits.RedirectTo: frozenset({AddRecipient, DeleteRecipient}),
    edits.ChangeSender: frozenset({ChangeSender}),
}


class EditedHeader:
    """A header section under change."""

    def __init__(self, header: Header) -> None:
        self._header = header
        # By name in lower case and occurrence: the new value, None for a field that goes.
        self._touched: dict[tuple[str, int], str | None] = {}
        self._names: dict[str, str] = {}
        self._inserted: list[tuple[str, str]] = []

    def delete(self, name: str, occurrence: int) -> None:
        """Take the n-th field of that name away, as the mail came."""
        self._touch(name, occurrence, None)

    def insert(self, name: str, value: str) -> None:
        """Put a field above all others; lines of `value` are parted by "\\n"."""
        self._inserted.append((name, value))

    def apply(self, edit: edits.HeaderEdit) -> None:
        """Make one edit of a rule."""
        match edit:
            case edits.AddField(name, text):
                self.insert(name, written(text, len(name) + 2))
            case edits.RemoveField(name, matching):
                for occurrence, text in self._of(name):
                    if matching is None or found_in(matching, text):
                        self.delete(name, occurrence)
                self._inserted = [each for each in self._inserted if not _matches(each, name, matching)]
            case edits.RewriteField(name, text, matching):
                value = written(text, len(name) + 2)
                for occurrence, old in self._of(name):
                    if matching is None or found_in(matching, old):
                        # In the milter protocol, a field that is given no value is deleted.
                        self._touch(name, occurrence, value or None)
                self._inserted = [
                    (each[0], value) if _matches(each, name, matching) else each for each in self._inserted
                ]
            case edits.PrefixSubject(text):
                self._prefix(text)

    def _prefix(self, text: str) -> None:
        fields = self._header.all("Subject")
        if not fields:
            self.apply(edits.AddField("Subject", text))
        for occurrence, old in self._of("Subject"):
            if old.startswith(text):
                continue
            value = fields[occurrence - 1].value
            whole = written(f"{text} {old}", len("Subject: "))
            if ("subject", occurrence) not in self._touched and value.isascii() and text.isascii():
                # What the author wrote is left as it is, folds and encoded words too.
                prefix, rest = written(text, len("Subject: ")), value.decode("ascii").strip().replace("\r\n", "\n")
                whole = f"{prefix} {rest}"
            self._touch("Subject", occurrence, whole)

    def _touch(self, name: str, occurrence: int, value: str | None) -> None:
        self._touched[name.lower(), occurrence] = value
        self._names.setdefault(name.lower(), name)

    def _of(self, name: str) -> list[tuple[int, str]]:
        """The fields of that name that are still there, with the text that they show now."""
        found = []
        for occurrence, field in enumerate(self._header.all(name), 1):
            value = self._touched.get((name.lower(), occurrence), "")
            if value is not None:
                found.append((occurrence, shown(value.encode() or field.value)))
        return found

    @property
    def touched(self) -> int:
        """How many of the fields that the mail came with go or change."""
        return len(self._touched)

    def changes(self) -> list[Change]:
        """The changes, in the order in which they must be made."""
        changes: list[Change] = []
        for key, name in self._names.items():
            numbers = sorted((number for at, number in self._touched if at == key), reverse=True)
            for number in numbers:
                value = self._touched[key, number]
                changes.append(DeleteField(name, number) if value is None else ChangeField(name, number, value))
        return changes + [InsertField(0, name, value) for name, value in self._inserted]

    def header(self) -> Header:
        """The header section as it leaves."""
        if not self._touched and not self._inserted:
            return self._header
        fields = [_field(name, value) for name, value in reversed(self._inserted)]
        seen: Counter[str] = Counter()
        for field in self._header:
            name = field.key.decode("latin-1")
            seen[name] += 1
            at = (name, seen[name])
            value = self._touched.get(at, "")
            if value is not None:
                fields.append(_field(self._names[name], value) if at in self._touched else field)
        return Header.of(fields)


def envelope_changes(wanted: Iterable[edits.Edit], recipients: Iterable[str]) -> tuple[list[Change], int]:
    """The changes of the envelope, and how many recipients are left. Addresses are compared without case."""
    came = list(dict.fromkeys(recipients))
    now = {address.lower(): address for address in came}
    sender: str | None = None
    for edit in wanted:
        match edit:
            case edits.AddRecipient(address):
                now.setdefault(address.lower(), address)
            case edits.RemoveRecipient(address):
                now.pop(address.lower(), None)
            case edits.RedirectTo(address):
                now = {address.lower(): now.get(address.lower(), address)}
            case edits.ChangeSender(address):
                sender = address
    changes: list[Change] = [DeleteRecipient(address) for address in came if address.lower() not in now]
    known = {address.lower() for address in came}
    changes += [AddRecipient(address) for key, address in now.items() if key not in known]
    return changes + ([ChangeSender(sender)] if sender is not None else []), len(now)


def _matches(inserted: tuple[str, str], name: str, matching: str | None) -> bool:
    found, value = inserted
    return found.lower() == name.lower() and (matching is None or found_in(matching, shown(value.encode())))


def _field(name: str, value: str) -> Field:
    return Field(name.encode(), b" " + value.replace("\n", "\r\n").encode())
