"""Mail addresses, read strictly: the author is who all mail programs agree on (RFC 5322 3.4, RFC 5321 4.1.2).

Answers: which mailboxes does a From field name, which mailbox is this envelope path. Attackers live on parsers that
disagree, so whatever two programs may read differently is malformed here, even where RFC 5322 allows it: comments or
space inside an address, obsolete routes and dotted words, encoded words in a local part. Display names are checked and
thrown away; nothing in them is ever decoded or taken for an address.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from filterd.mail.comment import comment_end
from filterd.mail.domain import Domain, DomainError

_MAX_LIST = 16_384  # octets of a From field's value
_MAX_PARTS = 5_000  # words, special characters, spaces and comments of it
_MAX_MAILBOXES = 1_000
_MAX_PATH = 1_024  # characters; RFC 5321 4.5.3.1.3 has 256, VERP and BATV make longer ones

# RFC 5322 3.2.3 and RFC 6532 3.2; C1 controls are left out with the others. Only single characters are repeated
# possessively: CPython before 3.11.5 matches possessive groups wrongly (gh-106052).
_ATEXT = r"[^\x00-\x20\x7f-\x9f()<>\[\]:;@\\,.\"]"
_DOT_ATOM = rf"{_ATEXT}++(?:\.{_ATEXT}++)*"
_QUOTED = r'"[^"\\]*+(?:\\.[^"\\]*+)*"'
_LITERAL = r"\[[^\[\]\\]*+\]"
_ADDR_SPEC = rf"(?P<local>{_DOT_ATOM}|{_QUOTED})@(?P<domain>{_DOT_ATOM}|{_LITERAL})"

_IS_DOT_ATOM = re.compile(_DOT_ATOM)
# MTAs take a domain with the root's dot, too.
_PATH = re.compile(rf"(?:@{_DOT_ATOM}(?:,@{_DOT_ATOM})*:)?{_ADDR_SPEC}(?:(?<!\])\.)?")
# RFC 5322 4.1 allows dots among the words of a display name, and every "John Q. Public" has one.
_TOKEN = re.compile(
    rf"(?P<address>{_ADDR_SPEC})|(?P<word>(?:{_ATEXT}|\.)+)|(?P<quoted>{_QUOTED})|(?P<special>[][<>:;,])", re.DOTALL
)
# RFC 5322 wants quotes around "[JIRA] Ann" and around an address that serves as a name; many honest programs forget.
_DISPLAYED = ("word", "quoted", "address", "[", "]")
_SPACE = re.compile(r"[ \t]++")
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_ADDRESS_LIKE = re.compile(r"[<>@]")
_ENCODED_WORD = re.compile(r"=\?[^?]*\?[bq]\?", re.IGNORECASE)


class AddressError(ValueError):
    """The text is no address; the message says why, and repeats nothing of the text."""


@dataclass(frozen=True, slots=True)
class AddressLiteral:
    """What stands for a domain in `user@[192.0.2.1]`: `text` without the brackets (RFC 5321 4.1.3)."""

    text: str

    def __str__(self) -> str:
        return f"[{self.text}]"


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An addr-spec. `local` is what is meant: without quotes and quoted pairs, case kept."""

    local: str
    domain: Domain | AddressLiteral

    def __str__(self) -> str:
        """The addr-spec, its local part quoted where the grammar needs it (RFC 5322 3.4.1)."""
        if _IS_DOT_ATOM.fullmatch(self.local):
            return f"{self.local}@{self.domain}"
        escaped = self.local.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"@{self.domain}'


def parse_mailbox_list(value: bytes) -> tuple[Mailbox, ...]:
    """Read the value of a From or Sender field: UTF-8 (RFC 6532), folded or not, groups allowed (RFC 6854).

    A group yields its members, an empty one nothing. At most 16,384 octets, 5,000 words and 1,000 mailboxes.
    Raises AddressError.
    """
    if len(value) > _MAX_LIST:
        raise AddressError("the field is too long")
    # Old programs write display names in other charsets. In an address such octets, now surrogates, are refused below.
    text = _FOLD.sub("", value.decode("utf-8", "surrogateescape"))
    if _CONTROL.search(text):
        raise AddressError("a control character or a bare line end")
    mailboxes = tuple(islice(_ListReader(text).mailboxes(), _MAX_MAILBOXES + 1))
    if len(mailboxes) > _MAX_MAILBOXES:
        raise AddressError("too many mailboxes")
    return mailboxes


def parse_path(text: str) -> Mailbox | None:
    """Read a reverse or forward path as an MTA hands it over; None for `<>` and for nothing.

    Within angle brackets RFC 5321's grammar holds, and a source route is dropped (RFC 5321 4.1.1.3). Without them the
    local part may also stand unquoted, as in Postfix's policy protocol: the last at-sign is the one that counts.
    Raises AddressError.
    """
    if text in ("", "<>"):
        return None
    if len(text) > _MAX_PATH:
        raise AddressError("the path is too long")
    bracketed = text.startswith("<")
    if bracketed and not text.endswith(">"):
        raise AddressError("the angle bracket is not closed")
    inner = text[1:-1] if bracketed else text
    found = _PATH.fullmatch(inner)
    if found:
        return Mailbox(_local(found["local"]), _domain(found["domain"]))
    local, _, domain = inner.rpartition("@")
    if bracketed or not local:
        raise AddressError("the path is no address")
    return Mailbox(_printable(local), _domain(domain))


def _printable(local: str) -> str:
    # Beyond ASCII this also bars line separators, direction overrides and what else is not seen.
    if not local.isprintable():
        raise AddressError("the local part has characters that cannot be printed")
    return local


def _local(text: str) -> str:
    if text.startswith('"'):
        text = _QUOTED_PAIR.sub(r"\1", text[1:-1])
    return _printable(text)


def _domain(text: str) -> Domain | AddressLiteral:
    if text.startswith("["):
        return _literal(text[1:-1])
    try:
        return Domain.parse(text)
    except DomainError as error:
        raise AddressError(str(error)) from None


def _literal(text: str) -> AddressLiteral:
    tag, colon, address = text.partition(":")
    try:
        if not colon:
            ipaddress.IPv4Address(text)
        elif tag.lower() == "ipv6" and "%" not in address:
            ipaddress.IPv6Address(address)
        else:
            raise AddressError("the address literal is of no known kind")
    except ValueError:
        raise AddressError("the address literal holds no address") from None
    return AddressLiteral(text)


@dataclass(frozen=True, slots=True)
class _Token:
    """An addr-spec, a word, or a special character; `commented` where a comment stood before it."""

    kind: str  # address, word, quoted, end, or the special character itself
    text: str
    commented: bool


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    commented = False
    for _ in range(_MAX_PARTS):
        if at == len(text):
            yield _Token("end", "", commented)
            return
        if space := _SPACE.match(text, at):
            at = space.end()
        elif text[at] == "(":
            at = _after_comment(text, at)
            commented = True
        elif found := _TOKEN.match(text, at):
            kind = "address" if found["address"] else found.lastgroup or ""
            yield _Token(found.group() if kind == "special" else kind, found.group(), commented)
            commented = False
            at = found.end()
        else:
            raise AddressError("a character stands where it may not, or a quoted string does not end")
    raise AddressError("too many words, comments and spaces")


def _after_comment(text: str, at: int) -> int:
    end = comment_end(text, at)
    if end is None:
        raise AddressError("a comment does not end")
    if _ADDRESS_LIKE.search(text, at, end):
        # Programs that look for angle brackets or at-signs first would see another author here.
        raise AddressError("a comment holds what looks like an address")
    return end


class _ListReader:
    """Reads mailbox-list and group (RFC 5322 3.4, RFC 6854): one token ahead, never back."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = next(self._tokens)

    def _take(self, *kinds: str) -> _Token:
        token = self._next
        if token.kind not in kinds:
            raise AddressError("the field is no list of mailboxes")
        self._next = next(self._tokens, token)
        return token

    def mailboxes(self) -> Iterator[Mailbox]:
        grouped = False
        while True:
            name = self._display_name()
            if name and not grouped and self._next.kind == ":" and all(word.kind != "address" for word in name):
                self._take(":")
                grouped = True
                if self._next.kind != ";":
                    continue
            else:
                yield self._mailbox(name)
            if grouped and self._next.kind == ";":
                self._take(";")
                grouped = False
            if not grouped and self._next.kind == "end":
                return
            self._take(",")

    def _display_name(self) -> list[_Token]:
        words = []
        while self._next.kind in _DISPLAYED:
            words.append(self._take(*_DISPLAYED))
        return words

    def _mailbox(self, name: list[_Token]) -> Mailbox:
        if len(name) == 1 and name[0].kind == "address" and self._next.kind != "<":
            return _author(name[0])
        if any(word.kind == "quoted" and '\\"' in word.text and _ADDRESS_LIKE.search(word.text) for word in name):
            # Programs that know no quoted pairs end the string early, and see another author in its rest.
            raise AddressError("a display name escapes quotation marks around what looks like an address")
        self._take("<")
        address, close = self._take("address"), self._take(">")
        if address.commented or close.commented:
            raise AddressError("a comment within angle brackets")
        author = _author(address)
        if any(word.kind == "address" and _author(word).domain != author.domain for word in name):
            raise AddressError("a display name without quotes shows an address of another domain")
        return author


def _author(address: _Token) -> Mailbox:
    found = _PATH.fullmatch(address.text)
    assert found is not None
    local = _local(found["local"])
    if _ENCODED_WORD.search(local):
        # RFC 2047 5 forbids it here, but programs decode it, and show what it hides (Mailsploit, 2017).
        raise AddressError("an encoded word in an address")
    if found["local"].startswith('"') and _ADDRESS_LIKE.search(local):
        raise AddressError("a quoted local part holds what looks like an address")
    return Mailbox(local, _domain(found["domain"]))
