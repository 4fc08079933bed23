"""What is changed, and what the mail then is, agree: an MTA that makes the changes delivers what was signed."""

from hypothesis import given
from hypothesis import strategies as st

from filterd.engine.changes import EditedHeader
from filterd.mail.header import Field, Header
from filterd.mta.mail_object import MailObject, apply_edits
from filterd.policy.verdict import AddField, HeaderEdit, PrefixSubject, RemoveField, RewriteField
from filterd.wire.milter import ChangeHeader, InsertHeader, Packet

NAMES = st.sampled_from(["X-A", "x-a", "X-B", "Subject"])
TEXTS = st.text("aä \n%", max_size=8)
FIELDS = st.builds(
    Field, NAMES.map(str.encode), st.sampled_from([b" 1", b" 2", b"", b" =?utf-8?q?=C3=A4?=", b" a\r\n b"])
)
PATTERNS = st.sampled_from([None, "1", "ä", "^$"])
EDITS: st.SearchStrategy[HeaderEdit] = st.one_of(
    st.builds(AddField, st.sampled_from(["X-A", "X-C"]), TEXTS),
    st.builds(RemoveField, NAMES, PATTERNS),
    st.builds(RewriteField, NAMES, TEXTS, PATTERNS),
    st.builds(PrefixSubject, st.sampled_from(["[S]", "Ö", "1"])),
)


def made(edited: EditedHeader) -> list[Packet]:
    """The changes as a milter asks for them, where the MTA leaves the space to it."""
    packets: list[Packet] = []
    for change in edited.changes():
        value = getattr(change, "value", None)
        octets = b"" if value is None else b" " + value.encode()
        name = getattr(change, "name", "").encode()
        if hasattr(change, "index"):
            packets.append(InsertHeader(change.index, name, octets))
        else:
            packets.append(ChangeHeader(getattr(change, "occurrence", 0), name, octets))
    return packets


@given(st.lists(FIELDS, max_size=8), st.lists(EDITS, max_size=6), st.sets(st.integers(1, 4)))
def test_what_an_mta_delivers_is_what_was_worked_out(
    fields: list[Field], edits: list[HeaderEdit], gone: set[int]
) -> None:
    header = Header.of(fields)
    edited = EditedHeader(header)
    for occurrence in gone:
        if occurrence <= len(header.all("X-A")):
            edited.delete("X-A", occurrence)
    for edit in edits:
        edited.apply(edit)

    received = Field(b"Received", b" by us")
    mail = MailObject("Q", b"", (b"a@b.example",), received, (received, *fields), b"")
    delivered = apply_edits(mail, made(edited), leading_space=True).shown

    assert [each.raw.lower() for each in edited.header()] == [each.raw.lower() for each in delivered]
