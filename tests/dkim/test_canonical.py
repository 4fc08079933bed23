"""Canonical octets are RFC 6376's and dkimpy's, however the body was cut into chunks."""

import re
from itertools import pairwise

import dkim as dkimpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.dkim.canonical import CanonicalBody, Canonicalization, canonical_fields, select_fields, signed_octets
from filterd.mail.header import Field, Header

SIMPLE, RELAXED = Canonicalization.SIMPLE, Canonicalization.RELAXED
DKIMPY = {SIMPLE: dkimpy.canonicalization.Simple, RELAXED: dkimpy.canonicalization.Relaxed}

PARTS = st.sampled_from(
    [b"\r\n", b"\r\n\r\n", b" ", b"\t", b"   ", b"\r", b"\n", b"a", b"Text of a line.", b"\xff", b"\0"]
)
BODIES = st.lists(PARTS, max_size=25).map(b"".join)
LINES = st.lists(st.from_regex(rb"[ \ta\xfc.]{0,6}\r\n", fullmatch=True), max_size=12).map(b"".join)


def canonical_body(chunks: list[bytes], algorithm: Canonicalization) -> bytes:
    pieces: list[bytes] = []
    body = CanonicalBody(algorithm, pieces.append)
    for chunk in chunks:
        body.update(chunk)
    body.finish()
    octets = b"".join(pieces)
    assert body.length == len(octets)
    return octets


def by_the_letter(body: bytes, algorithm: Canonicalization) -> bytes:
    """RFC 6376 3.4.3 and 3.4.4, step by step."""
    lines = body.split(b"\r\n")
    if algorithm is RELAXED:
        lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        return b"" if algorithm is RELAXED else b"\r\n"
    return b"".join(line + b"\r\n" for line in lines)


@pytest.mark.parametrize(
    ("algorithm", "header", "body"),
    [
        (RELAXED, b"a:X\r\nb:Y Z\r\n", b" C\r\nD E\r\n"),
        (SIMPLE, b"A: X\r\nB : Y\t\r\n\tZ  \r\n", b" C \r\nD \t E\r\n"),
    ],
)
def test_the_examples_of_rfc_6376_3_4_5(algorithm: Canonicalization, header: bytes, body: bytes) -> None:
    fields = [Field(b"A", b" X"), Field(b"B ", b" Y\t\r\n\tZ  ")]

    assert canonical_fields(fields, algorithm) == header
    assert canonical_body([b" C \r\nD \t E\r\n\r\n\r\n"], algorithm) == body


@pytest.mark.parametrize("algorithm", Canonicalization)
@given(body=BODIES, cuts=st.lists(st.integers(0, 60)))
def test_a_body_by_the_letter_and_cut_anywhere(algorithm: Canonicalization, body: bytes, cuts: list[int]) -> None:
    borders = [0, *sorted(cuts), len(body)]
    chunks = [body[start:end] for start, end in pairwise(borders)]

    assert canonical_body(chunks, algorithm) == by_the_letter(body, algorithm)


@pytest.mark.parametrize("algorithm", Canonicalization)
@given(body=LINES | BODIES.map(lambda body: body + b".\r\n"))
def test_a_body_of_whole_lines_is_as_dkimpy_has_it(algorithm: Canonicalization, body: bytes) -> None:
    assert canonical_body([body], algorithm) == DKIMPY[algorithm].canonicalize_body(body)


@given(body=BODIES)
def test_any_body_in_simple_form_is_as_dkimpy_has_it(body: bytes) -> None:
    assert canonical_body([body], SIMPLE) == DKIMPY[SIMPLE].canonicalize_body(body)


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        (b"", b"\r\n", b""),
        (b"\r\n", b"\r\n", b""),
        (b"\r\n\r\n\r\n", b"\r\n", b""),
        (b"a", b"a\r\n", b"a\r\n"),
        (b"a\r\n", b"a\r\n", b"a\r\n"),
        (b"a\r", b"a\r\r\n", b"a\r\r\n"),
        (b"a\n", b"a\n\r\n", b"a\n\r\n"),
        (b" \t\r\n", b" \t\r\n", b""),
        # dkimpy keeps a space here; RFC 6376 3.4.4 and OpenDKIM do not.
        (b"a \t", b"a \t\r\n", b"a\r\n"),
        (b" ", b" \r\n", b""),
        (b"a \r", b"a \r\r\n", b"a \r\r\n"),
    ],
)
def test_how_bodies_end(body: bytes, simple: bytes, relaxed: bytes) -> None:
    """RFC 6376 3.4.3 and 3.4.4: an empty body, one without a last CRLF, empty lines at the end."""
    for chunks in ([body], [body[i : i + 1] for i in range(len(body))]):
        assert canonical_body(chunks, SIMPLE) == simple
        assert canonical_body(chunks, RELAXED) == relaxed


@pytest.mark.parametrize("unit", [b" ", b"\t", b"\r\n", b" \r\n", b"\r", b"\n", b"a ", b"  a", b"\r\n "])
@pytest.mark.parametrize("algorithm", Canonicalization)
def test_work_grows_with_the_body_only(unit: bytes, algorithm: Canonicalization) -> None:
    """A megabyte of spaces costs dkimpy half an hour; here any run is held back as an octet or a number."""
    chunk = unit * (65536 // len(unit))
    written: list[int] = []
    body = CanonicalBody(algorithm, lambda octets: written.append(len(octets)))
    for _ in range(64):
        body.update(chunk)
        assert len(body._held) <= 2
    body.update(b".")
    body.finish()

    assert sum(written) == body.length <= 64 * len(chunk) + 3
    assert max(written) <= 65538
    assert len(written) <= 64 * 10


NAMES = st.sampled_from([b"From", b"from", b"To", b"Subject", b"SUBJECT", b"X-a"])
FIELD_VALUES = st.lists(
    st.sampled_from(
        [b" ", b"\t", b"  ", b"\r\n ", b"\r\n\t", b"a", b"\xc3\xbc", b":", b"words", b"\0", b"\x1f", b"\xa0", b"a\rb"]
    ),
    max_size=12,
).map(b"".join)
HEADERS = st.lists(st.builds(Field, NAMES, FIELD_VALUES), max_size=12).map(Header.of)


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        (b"", b""),
        (b" \t \r\n ", b""),
        (b"\r\n a", b"a"),
        (b" a\r\n\tb\r\n \t c \t", b"a b c"),
        (b"a\t \tb", b"a b"),
        # White space is space and tab (RFC 6376 2.8), a line ends in CRLF. dkimpy strips all of these at the ends of a
        # value, OpenDKIM takes the first three for spaces everywhere.
        (b" \va\v b\v ", b"\va\v b\v"),
        (b" \fa\f b\f ", b"\fa\f b\f"),
        (b" \ra\r b\r ", b"\ra\r b\r"),
        (b" \na\n b\n ", b"\na\n b\n"),
    ],
)
def test_a_value_in_relaxed_form(value: bytes, canonical: bytes) -> None:
    """RFC 6376 3.4.2."""
    assert canonical_fields([Field(b"SUBJect \t", value)], RELAXED) == b"subject:" + canonical + b"\r\n"


def dkimpy_pairs(header: Header) -> list[tuple[bytes, bytes]]:
    return [(field.name, field.value + b"\r\n") for field in header]


@pytest.mark.parametrize("algorithm", Canonicalization)
@given(header=HEADERS, names=st.lists(st.sampled_from(["from", "to", "subject", "x-a", "cc"]), max_size=20))
def test_fields_are_selected_and_written_as_dkimpy_does_it(
    algorithm: Canonicalization, header: Header, names: list[str]
) -> None:
    signature = Field(b"DKIM-Signature", b" v=1; b=")
    pairs = DKIMPY[algorithm].canonicalize_headers(dkimpy_pairs(header))
    selected = dkimpy.select_headers(pairs, [name.encode() for name in names])

    assert canonical_fields(select_fields(header, names, signature), algorithm) == b"".join(
        name + b":" + value for name, value in selected
    )


def test_each_name_takes_the_lowest_field_that_is_left() -> None:
    """RFC 6376 5.4.2; names for which none is left count as empty."""
    first, other, second = Field(b"To", b" 1"), Field(b"X", b" 2"), Field(b"to", b" 3")
    header = Header.of([first, other, second])

    assert select_fields(header, ["to", "x", "to", "to", "cc"], first) == [second, other]
    assert select_fields(header, ["to", "x", "to", "to", "cc"], Field(b"To", b" 1")) == [second, other, first]


def test_a_signature_never_covers_itself_but_may_cover_others() -> None:
    """RFC 6376 3.5, h=."""
    own, other = Field(b"DKIM-Signature", b" own"), Field(b"DKIM-Signature", b" other")

    assert select_fields(Header.of([other, own]), ["dkim-signature"] * 3, own) == [other]


def test_the_signature_comes_last_without_a_line_end() -> None:
    header = Header.of([Field(b"From", b" a@b ")])
    own = Field(b"DKIM-Signature", b" v=1;\r\n\tb=abc")

    assert (
        signed_octets(header, ["from"], own, b" v=1;\r\n\tb=", SIMPLE) == b"From: a@b \r\nDKIM-Signature: v=1;\r\n\tb="
    )
    assert signed_octets(header, ["from"], own, b" v=1;\r\n\tb=", RELAXED) == b"from:a@b\r\ndkim-signature:v=1; b="


def test_selecting_is_linear_in_names_and_fields() -> None:
    """dkimpy's select_headers looks through all fields for each name that is not there."""
    looked_at: list[bytes] = []

    class Counting(Field):
        @property
        def key(self) -> bytes:
            looked_at.append(self.name)
            return Field.key.fget(self)  # type: ignore[attr-defined,no-any-return]

    header = Header.of(Counting(b"X-%d" % i, b"") for i in range(2000))
    select_fields(header, [f"y-{i}" for i in range(2000)], Field(b"DKIM-Signature", b""))

    assert len(looked_at) <= 2000
