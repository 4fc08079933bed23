"""Body hashes of all forms come out of one pass, and memory stays flat."""

import hashlib
import tracemalloc
from base64 import b64encode

import pytest

from filterd.dkim.bodyhash import BodyForm, BodyHash, BodyHasher
from filterd.dkim.canonical import Canonicalization

SIMPLE, RELAXED = Canonicalization.SIMPLE, Canonicalization.RELAXED
BODY = b"Hi.\r\n\r\nWe lost  the game.\t\r\n\r\n\r\n"
CANONICAL = {SIMPLE: b"Hi.\r\n\r\nWe lost  the game.\t\r\n", RELAXED: b"Hi.\r\n\r\nWe lost the game.\r\n"}


def hash_of(body: bytes, form: BodyForm) -> BodyHash:
    hasher = BodyHasher([form])
    hasher.update(body)
    hasher.finish()
    return hasher.hash_of(form)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (SIMPLE, b"frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="),
        (RELAXED, b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
    ],
)
def test_the_hash_of_an_empty_body(algorithm: Canonicalization, expected: bytes) -> None:
    """RFC 6376 3.4.3 and 3.4.4 give them."""
    assert b64encode(hash_of(b"", BodyForm(algorithm)).digest) == expected


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_all_forms_at_once(chunk: int) -> None:
    forms = [
        BodyForm(algorithm, length) for algorithm in Canonicalization for length in (None, 0, 1, 7, 20, 24, 29, 1000)
    ]
    hasher = BodyHasher([*forms, *forms])
    for start in range(0, len(BODY), chunk):
        hasher.update(BODY[start : start + chunk])
    hasher.finish()

    for form in forms:
        octets = CANONICAL[form.canonicalization]
        expected = BodyHash(hashlib.sha256(octets[: form.length]).digest(), len(octets))
        assert hasher.hash_of(form) == expected


def test_nothing_is_done_where_nothing_is_wanted() -> None:
    hasher = BodyHasher([])
    hasher.update(BODY)
    hasher.finish()


@pytest.mark.parametrize("unit", [b"Some text, as mail has it.\r\n", b" ", b"\r\n", b"\t\r\n"])
def test_memory_is_flat_in_the_size_of_the_body(unit: bytes) -> None:
    """dkimpy takes a gigabyte for a mail of 25 MB."""
    chunk = unit * (65536 // len(unit))
    hasher = BodyHasher([BodyForm(SIMPLE), BodyForm(RELAXED), BodyForm(RELAXED, 100)])
    tracemalloc.start()
    try:
        for _ in range(160):
            hasher.update(chunk)
        hasher.update(b".")
        hasher.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 8 * 65536


def test_a_hasher_serves_all_who_read_the_body() -> None:
    """Whoever comes second adds forms, and finishing again changes nothing."""
    body = b"Hi  there. \r\n\r\n"
    hasher = BodyHasher([BodyForm(RELAXED)])
    hasher.add([BodyForm(RELAXED), BodyForm(SIMPLE), BodyForm(RELAXED, 5)])
    hasher.update(body)
    hasher.finish()
    hasher.finish()

    for form in (BodyForm(RELAXED), BodyForm(SIMPLE), BodyForm(RELAXED, 5)):
        assert hasher.hash_of(form) == hash_of(body, form)
