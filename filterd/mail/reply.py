"""SMTP replies that are always legal (RFC 5321 4.2, RFC 2034, RFC 3463).

The one place where text becomes a reply: whatever remote text a rule puts into it, no line end, control character,
8-bit octet or per cent sign (libmilter's format character) gets out, and class and code agree.
"""

import re
from dataclasses import dataclass
from textwrap import wrap

_FORM = re.compile(
    r"(?P<code>[45][0-5][0-9])(?:[ ]+(?P<status>[245]\.[0-9]{1,3}\.[0-9]{1,3}))?(?:[ ]+(?P<text>.*))?", re.DOTALL
)
# RFC 5321 4.5.3.1.5: a reply line has at most 512 octets with code and CRLF.
_MAX_TEXT = 480
# libmilter takes 32.
_MAX_LINES = 16


class ReplyError(ValueError):
    """The text is no reply; the message says what would be."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A refusal: `code` 4xx or 5xx, `status` the enhanced code of the same class, `text` lines of printable ASCII."""

    code: int
    status: str
    text: str

    @classmethod
    def parse(cls, line: str) -> "Reply":
        """Read `550 5.7.1 text`; a missing enhanced code becomes 4.7.1 or 5.7.1 (RFC 3463 3.8).

        Raises ReplyError.
        """
        found = _FORM.fullmatch(line.strip())
        if found is None:
            raise ReplyError('a reply reads like "550 5.7.1 text", with a code from 400 to 459 or from 500 to 559')
        code, status = int(found["code"]), found["status"] or f"{found['code'][0]}.7.1"
        if status[0] != found["code"][0]:
            raise ReplyError(f"the code {code} and the status {status} are of different classes (RFC 2034 4)")
        return cls(code, status, reply_text(found["text"] or "") or "refused by policy")

    @property
    def temporary(self) -> bool:
        """Whether the client may come again with the same mail."""
        return self.code < 500

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of its text."""
        return tuple(self.text.split("\n"))

    @property
    def smtp(self) -> str:
        """The reply as it is sent, lines parted by CRLF (RFC 5321 4.2.1), each with the enhanced code (RFC 2034 4)."""
        *more, last = self.lines
        return "".join(f"{self.code}-{self.status} {line}\r\n" for line in more) + f"{self.code} {self.status} {last}"

    def __str__(self) -> str:
        """In one line, for people."""
        return f"{self.code} {self.status} {' '.join(self.lines)}"


def reply_text(text: str) -> str:
    """Text of several lines made fit for a reply: too long ones are folded at a space, empty ones left out."""
    lines = [part for line in text.splitlines() for part in wrap(_safe(line), _MAX_TEXT, break_on_hyphens=False)]
    return "\n".join(lines[:_MAX_LINES])


def printable(text: str) -> str:
    """Make remote text fit for one reply line: printable ASCII, single spaces, bounded, without per cent signs."""
    safe = _safe(text)
    return safe if len(safe) <= _MAX_TEXT else safe[: _MAX_TEXT - 3] + "..."


def _safe(text: str) -> str:
    words = " ".join(text.split())
    return "".join(char if " " <= char <= "~" and char != "%" else "?" for char in words)
