"""Body hashes, made while the body arrives (RFC 6376 3.7): one pass and flat memory for any number of signatures.

Answers what bh= has to be. SHA-256 is the only hash: rsa-sha1 signatures are not looked at (RFC 8301 3.1).
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from filterd.dkim.canonical import CanonicalBody, Canonicalization


@dataclass(frozen=True, slots=True)
class BodyForm:
    """What is hashed: the canonical body, up to `length` octets (l=), or all of it."""

    canonicalization: Canonicalization
    length: int | None = None


@dataclass(frozen=True, slots=True)
class BodyHash:
    """`digest` is the SHA-256 of the form's octets, `length` the number of octets in the whole canonical body."""

    digest: bytes
    length: int


class BodyHasher:
    """Hashes a body in all forms that are wanted; signatures of one form share the work."""

    def __init__(self, forms: Iterable[BodyForm] = ()) -> None:
        self._digests: dict[BodyForm, _Digest] = {}
        self._bodies: dict[Canonicalization, CanonicalBody] = {}
        self._outlets: dict[Canonicalization, list[_Digest]] = {}
        self._finished = False
        self.add(forms)

    def add(self, forms: Iterable[BodyForm]) -> None:
        """Hash these forms too: for whoever else reads the same body. To be called before the first octet."""
        for form in forms:
            if form in self._digests:
                continue
            self._digests[form] = _Digest(form.length)
            outlet = self._outlets.setdefault(form.canonicalization, [])
            outlet.append(self._digests[form])
            if form.canonicalization not in self._bodies:
                self._bodies[form.canonicalization] = CanonicalBody(form.canonicalization, _to_all(outlet))

    def update(self, chunk: bytes) -> None:
        """Take the next octets of the body, as they stand in the message: lines end in CRLF."""
        for body in self._bodies.values():
            body.update(chunk)

    def finish(self) -> None:
        """The body is complete. To be called before `hash_of`; again, it changes nothing."""
        if not self._finished:
            self._finished = True
            for body in self._bodies.values():
                body.finish()

    def hash_of(self, form: BodyForm) -> BodyHash:
        """The hash of one of the forms that were asked for."""
        return BodyHash(self._digests[form].hash.digest(), self._bodies[form.canonicalization].length)


class _Digest:
    """A SHA-256 that takes no more than `limit` octets."""

    def __init__(self, limit: int | None) -> None:
        self._remaining = limit
        self.hash = hashlib.sha256()

    def update(self, octets: bytes) -> None:
        if self._remaining is not None:
            octets = octets[: self._remaining]
            self._remaining -= len(octets)
        self.hash.update(octets)


def _to_all(digests: list[_Digest]) -> Callable[[bytes], None]:
    def write(octets: bytes) -> None:
        for digest in digests:
            digest.update(octets)

    return write
