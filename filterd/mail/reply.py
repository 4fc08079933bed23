"""SMTP replies that are always legal (RFC 5321 4.2, RFC 2034, RFC 3463).

The one place where text becomes a reply: whatever remote text a rule puts into it, no line end, control character,
8-bit octet or per cent sign (libmilter's format character) gets out, and class and code agree.
"""

import re
from dataclasses import dataclass

_FORM = re.compile(
    r"(?P<code>[45][0-9]{2})(?:[ ]+(?P<status>[245]\.[0-9]{1,3}\.[0-9]{1,3}))?(?:[ ]+(?P<text>.*))?", re.DOTALL
)
# RFC 5321 4.5.3.1.5: a reply line has at most 512 octets with code and CRLF.
_MAX_TEXT = 480


class ReplyError(ValueError):
    """The text is no reply; the message says what would be."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A refusal: `code` 4xx or 5xx, `status` the enhanced code of the same class, `text` one printable ASCII line."""

    code: int
    status: str
    text: str

    @classmethod
    def parse(cls, line: str) -> "Reply":
        """Read `550 5.7.1 text`; a missing enhanced code becomes 4.0.0 or 5.0.0.

        Raises ReplyError.
        """
        found = _FORM.fullmatch(line.strip())
        if found is None:
            raise ReplyError('a reply reads like "550 5.7.1 text", with a code from 400 to 599')
        code, status = int(found["code"]), found["status"] or f"{found['code'][0]}.0.0"
        if status[0] != found["code"][0]:
            raise ReplyError(f"the code {code} and the status {status} are of different classes (RFC 2034 4)")
        return cls(code, status, printable(found["text"] or "refused by policy"))

    @property
    def temporary(self) -> bool:
        """Whether the client may come again with the same mail."""
        return self.code < 500

    def __str__(self) -> str:
        return f"{self.code} {self.status} {self.text}"


def printable(text: str) -> str:
    """Make remote text fit for one reply line: printable ASCII, single spaces, bounded, without per cent signs."""
    words = " ".join(text.split())
    safe = "".join(char if " " <= char <= "~" and char != "%" else "?" for char in words)
    return safe if len(safe) <= _MAX_TEXT else safe[: _MAX_TEXT - 3] + "..."
