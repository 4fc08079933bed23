"""Stored mails are read as they were stored: quoting undone, nothing lost, nothing stops at what is broken."""

import mailbox
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filterd.backend import mailboxes
from filterd.backend.mailboxes import mails, size_of

MAILS = [b"Subject: 1\n\nFrom here on\n>From there\nend\n", b"Subject: 2\n\n\n\n", b"\n", b"no mail"]


def quoted(mail: bytes) -> bytes:
    """As mboxrd has it."""
    lines = mail.splitlines(keepends=True)
    return b"".join(b">" + line if line.lstrip(b">").startswith(b"From ") else line for line in lines)


def write(file: Path, stored: list[bytes]) -> None:
    file.write_bytes(b"".join(b"From x Tue Nov 14\n" + quoted(mail) + b"\n" for mail in stored))


def test_an_mbox_has_the_mails_that_were_stored(tmp_path: Path) -> None:
    file = tmp_path / "box"
    stored = [mail if mail.endswith(b"\n") else mail + b"\n" for mail in MAILS]
    write(file, stored)
    found = list(mails(file))

    assert [each.data for each in found] == stored
    assert [each.name for each in found] == ["box:1", "box:2", "box:3", "box:4"]
    assert sum(each.octets for each in found) == size_of(file) == file.stat().st_size


@settings(max_examples=100)
@given(
    stored=st.lists(st.lists(st.sampled_from([b"From x\n", b">From y\n", b"\n", b"a: b\n", b"\xff\n"])).map(b"".join))
)
def test_whatever_stands_in_them(tmp_path_factory: pytest.TempPathFactory, stored: list[bytes]) -> None:
    file = tmp_path_factory.mktemp("box") / "box"
    write(file, stored)

    if stored:
        assert [each.data for each in mails(file)] == stored


def test_a_mail_that_is_too_large_is_told_of_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailboxes, "MAX_MAIL", 100)
    write(tmp_path / "box", [b"a" * 50 + b"\n", b"b" * 200 + b"\n", b"c\n"])
    found = list(mails(tmp_path / "box"))

    assert [each.data for each in found] == [b"a" * 50 + b"\n", None, b"c\n"]
    assert found[1].why == "is larger than 100 octets"


def test_a_maildir_has_new_and_seen_mail_and_a_folder_all_below_it(tmp_path: Path) -> None:
    box = mailbox.Maildir(tmp_path / "Maildir")
    for number in range(3):
        box.add(f"Subject: {number}\n\n".encode())
    (tmp_path / "Maildir" / "tmp" / "half").write_bytes(b"half")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a.eml").write_bytes(b"Subject: e\n\n")
    write(tmp_path / "deep" / "b.mbox", [b"x\n", b"y\n"])

    assert len(list(mails(tmp_path / "Maildir"))) == 3
    names = [each.name for each in mails(tmp_path)]
    assert len(names) == 6
    assert {"deep/er/a.eml", "deep/b.mbox:1", "deep/b.mbox:2"} <= set(names)
