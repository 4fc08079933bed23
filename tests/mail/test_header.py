"""filterd.mail.header: fields keep their bytes, and are found by any case of their name."""

from filterd.mail.header import Field, Header

SUBJECT = Field(b"Subject", b" Hello\r\n world \t")
RECEIVED = Field(b"received", b" second")
HEADER = Header.of([Field(b"Received", b" first"), SUBJECT, RECEIVED])


def test_raw_is_what_came() -> None:
    assert SUBJECT.raw == b"Subject: Hello\r\n world \t\r\n"


def test_unfolded() -> None:
    """RFC 5322 2.2.3: the line end goes, the white space after it stays."""
    assert SUBJECT.unfolded() == b"Hello world"
    assert Field(b"X", b"\ta\n b").unfolded() == b"a b"
    assert Field(b"X", b"a\r\nb").unfolded() == b"a\r\nb"


def test_all_in_order_of_appearance() -> None:
    assert (Field(b"Received", b" first"), RECEIVED) == HEADER.all("RECEIVED")
    assert HEADER.all("From") == ()


def test_a_name_is_found_though_white_space_stands_before_its_colon() -> None:
    """RFC 5322 4.5: old syntax allows it, and other programs read it so."""
    fields = (Field(b"From ", b" a@b.example"), Field(b"fROM\t", b" c@d.example"))

    assert fields == Header(fields).all("From")
    assert [each.key for each in fields] == [b"from", b"from"]


def test_has() -> None:
    header = Header((Field(b"Resent-From", b" a@b.example"),))

    assert header.has("resent-from")
    assert not header.has("from")
    assert header.has_prefix("Resent-")
    assert not header.has_prefix("List-")


def test_order_and_length() -> None:
    assert [each.name for each in HEADER] == [b"Received", b"Subject", b"received"]
    assert len(HEADER) == 3
    assert Header(HEADER.fields) == HEADER
