"""Canonicalization: the form in which a signer and a verifier see the same octets (RFC 6376 3.4).

Answers which header fields a signature covers and as which octets, and streams a body through. Knows nothing of hashes
and keys.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum

from filterd.mail.header import Field, Header

_CRLF = b"\r\n"
_WSP = b" \t"
_BLANK_LINES = _CRLF * 4096


class Canonicalization(StrEnum):
    """The two algorithms, as c= names them."""

    SIMPLE = "simple"
    RELAXED = "relaxed"


def signed_octets(
    header: Header, names: Iterable[str], signature: Field, own_value: bytes, canonicalization: Canonicalization
) -> bytes:
    """What the signature in b= signs: the selected fields, then the signature field itself (RFC 6376 3.7).

    `own_value` is the value of `signature` with b= empty.
    """
    own = Field(signature.name, own_value)
    octets = canonical_fields([*select_fields(header, names, signature), own], canonicalization)
    # RFC 6376 3.7: the DKIM-Signature field comes last, without a trailing CRLF.
    return octets.removesuffix(_CRLF)


def select_fields(header: Header, names: Iterable[str], signature: Field) -> list[Field]:
    """The fields that h= names: each name takes the lowest instance not yet taken, or nothing (RFC 6376 5.4.2).

    The signature that is being made or verified is never one of them (RFC 6376 3.5, h=).
    """
    remaining: dict[str, list[Field]] = {}
    selected = []
    for name in names:
        fields = remaining.get(name)
        if fields is None:
            fields = remaining[name] = [field for field in header.all(name) if field is not signature]
        if fields:
            selected.append(fields.pop())
    return selected


def canonical_fields(fields: Iterable[Field], canonicalization: Canonicalization) -> bytes:
    """The fields' canonical octets, each with its CRLF (RFC 6376 3.4.1, 3.4.2)."""
    if canonicalization is Canonicalization.SIMPLE:
        return b"".join(field.raw for field in fields)
    # RFC 6376 2.8: white space is space and tab. Other verifiers take form feeds and the like for it, too.
    lines = [b"%s:%s\r\n" % (field.key, field.value.replace(_CRLF, b"").strip(_WSP)) for field in fields]
    return _squeeze(b"".join(lines))


class CanonicalBody:
    """A body on its way through one algorithm (RFC 6376 3.4.3, 3.4.4): chunks in, canonical octets out to `write`.

    Chunks may end anywhere, between CR and LF too. Memory is flat: what the next octet decides about is held back as
    at most two octets and a count of line ends. Only CRLF ends a line; a lone CR or LF is an octet like others.
    """

    def __init__(self, canonicalization: Canonicalization, write: Callable[[bytes], object]) -> None:
        self._relaxed = canonicalization is Canonicalization.RELAXED
        self._write = write
        self._held = b""
        self._line_ends = 0
        self.length = 0  #: octets written so far

    def update(self, chunk: bytes) -> None:
        """Take the next octets of the body."""
        text = self._held + chunk
        if self._relaxed:
            text = _squeeze(text)
        settled = text.removesuffix(b"\r")
        if self._relaxed:
            settled = settled.removesuffix(b" ")
        self._held = text[len(settled) :]
        if self._relaxed:
            settled = settled.replace(b" \r\n", _CRLF)
        self._put(settled)

    def finish(self) -> None:
        """There is no more: write what was held back, and the one final CRLF."""
        # RFC 6376 3.4.4: white space at the end of a line goes, the last line's too where no CRLF ends it.
        self._put(self._held.removesuffix(b" ") if self._relaxed else self._held)
        # RFC 6376 3.4.3: an empty body is a CRLF in simple form; 3.4.4: it is nothing in relaxed form.
        if self.length or not self._relaxed:
            self._emit(_CRLF)

    def _put(self, text: bytes) -> None:
        # Empty lines at the end of the body are ignored, so line ends wait until something follows them.
        tail = text[len(text.rstrip(_CRLF)) :].replace(_CRLF, b".")
        line_ends = len(tail) - len(tail.rstrip(b"."))
        content = text[: len(text) - 2 * line_ends]
        if content:
            while self._line_ends:
                # In pieces: a body may be line ends by the megabyte.
                piece = _BLANK_LINES[: 2 * self._line_ends]
                self._emit(piece)
                self._line_ends -= len(piece) // 2
            self._emit(content)
        self._line_ends += line_ends

    def _emit(self, octets: bytes) -> None:
        self.length += len(octets)
        self._write(octets)


def _squeeze(text: bytes) -> bytes:
    # Halving runs of spaces: a run of n costs log n passes at the speed of memchr, where a regular expression that
    # matches each run costs more on ordinary text, and dkimpy's is quadratic.
    text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text
