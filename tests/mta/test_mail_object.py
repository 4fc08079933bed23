"""Parting a message into fields and body loses nothing that Postfix keeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.mail.header import Field
from filterd.mta.mail_object import ContentError, MailObject, apply_edits, parse_content
from filterd.wire import milter as m
from filterd.wire.milter_codec import ProtocolError

_LINES = st.lists(st.sampled_from([b"A: b", b"A:", b"Bcc : c", b" fold", b"\tfold", b"", b"no field", b": x", b"x"]))


@given(_LINES)
def test_every_line_is_kept_in_its_place(lines: list[bytes]) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    fields, body = parse_content(content)
    written = b"".join(each.raw for each in fields)
    rest = content.removesuffix(body or b"")

    assert content.endswith(body or b"")
    assert written in (rest, rest.removesuffix(b"\r\n")) or b"Bcc :" in rest


@given(st.binary(max_size=300))
def test_any_octets_are_parted_without_a_fault(content: bytes) -> None:
    fields, body = parse_content(content)

    assert sum(len(each.raw) for each in fields) + len(body or b"") <= len(content)


def test_a_field_of_65000_octets_is_the_longest() -> None:
    parse_content(b"A: " + b"x" * 64_995 + b"\r\n")
    with pytest.raises(ContentError):
        parse_content(b"A: " + b"x\r\n " * 16_250 + b"\r\n")


_RECEIVED = Field(b"Received", b" ours")
_MAIL = MailObject(
    "4X", b"a@b", (b"c@d",), _RECEIVED, (_RECEIVED, Field(b"Received", b" ours"), Field(b"A", b" 1")), b"body\r\n"
)


def test_our_own_field_is_known_by_identity() -> None:
    """A field of another's with the very same text is shown, counted and changed."""
    changed = apply_edits(_MAIL, [m.ChangeHeader(1, b"Received", b"")], leading_space=False)

    assert [each.name for each in _MAIL.shown] == [b"Received", b"A"]
    assert (_RECEIVED, Field(b"A", b" 1")) == changed.fields


def test_a_field_that_was_added_can_be_changed() -> None:
    edits = [
        m.AddHeader(b"B", b"1"),
        m.ChangeHeader(1, b"b", b"2"),
        m.AddHeader(b"B", b"3"),
        m.ChangeHeader(1, b"B", b""),
    ]

    assert Field(b"B", b" 3") == apply_edits(_MAIL, edits, leading_space=False).fields[-1]


@given(
    st.lists(
        st.one_of(
            st.builds(m.AddHeader, st.sampled_from([b"A", b"B"]), st.binary(max_size=5)),
            st.builds(m.InsertHeader, st.integers(0, 2**32 - 1), st.just(b"A"), st.binary(max_size=5)),
            st.builds(m.ChangeHeader, st.integers(0, 4), st.sampled_from([b"a", b"C", b""]), st.binary(max_size=5)),
            st.builds(m.ReplaceBody, st.binary(max_size=5)),
            st.builds(m.AddRecipient, st.binary(max_size=5)),
            st.builds(m.DeleteRecipient, st.sampled_from([b"c@d", b"<c@d>", b""])),
            st.builds(m.ChangeSender, st.binary(max_size=5)),
            st.builds(m.Quarantine, st.binary(max_size=5)),
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_no_edits_make_a_mail_that_cannot_be_read_back(edits: list[m.Packet], leading_space: bool) -> None:
    try:
        mail = apply_edits(_MAIL, edits, leading_space)
    except ProtocolError:
        return
    fields, _ = parse_content(mail.content)

    assert mail.received in mail.fields
    assert len(mail.fields) == len(fields) or b"\r" in b"".join(
        each.value.replace(b"\r\n", b"") for each in mail.fields
    )
