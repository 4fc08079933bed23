"""opendkim.conf and its data sets are read as opendkim.conf(5) and opendkim(8) have them."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.backend.opendkim_config import DataSet, Form, OpenDkimConfig, OpenDkimError


def config(folder: Path, text: str) -> OpenDkimConfig:
    path = folder / "opendkim.conf"
    path.write_text(text, encoding="utf-8")
    return OpenDkimConfig(path)


def values(read: OpenDkimConfig) -> dict[str, str]:
    return {name: setting.value for name, setting in read.settings.items()}


def rows(found: DataSet | None) -> list[tuple[str, str, int]]:
    assert found is not None
    return [(row.key, row.value, row.place.line) for row in found.rows]


def test_lines(tmp_path: Path) -> None:
    text = "# all\n\nSyslog\tyes\n  KeyFile   /etc/my key.pem  # the key\nDOMAIN a.example\r\nDomain b.example, c.example\n"

    read = config(tmp_path, text)

    assert values(read) == {"syslog": "yes", "keyfile": "/etc/my key.pem", "domain": "b.example, c.example"}
    assert str(read.settings["domain"].place) == f"{tmp_path}/opendkim.conf:6"
    assert read.settings["domain"].name == "Domain"


def test_other_files_are_included(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Selector s\nMode sv\n")

    read = config(tmp_path, "Selector r\nInclude more\nMode s\n")

    assert values(read) == {"selector": "s", "mode": "s"}
    assert str(read.settings["selector"].place) == f"{tmp_path}/more:1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Mode sv\nSelector\n", "opendkim.conf:2: Selector has no value"),
        ("Selector # s\n", "opendkim.conf:1: Selector has no value"),
        ("\nInclude none\n", "opendkim.conf:2: {folder}/none cannot be read: No such file or directory"),
        ("Include opendkim.conf\n", "opendkim.conf:1: more files are included than OpenDKIM allows"),
        ("Include a\0b\n", "opendkim.conf:1: {folder}/a?b cannot be read: is no file name"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(OpenDkimError) as caught:
        config(tmp_path, text)

    assert str(caught.value) == f"{tmp_path}/" + says.format(folder=tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OpenDkimError, match=r"none:1: .*none cannot be read: No such file"):
        OpenDkimConfig(tmp_path / "none")


@pytest.mark.parametrize("name", ["file:{}", "{}", "refile:{}", "FILE:{}"])
def test_a_data_set_in_a_file(tmp_path: Path, name: str) -> None:
    table = tmp_path / "table"
    table.write_text("# rows\n a.example   one:two three # comment\n\n*@b.example\tfour\nalone\n")

    found = config(tmp_path, f"SigningTable {name.format(table)}\n").dataset("SigningTable")

    assert rows(found) == [("a.example", "one:two three", 2), ("*@b.example", "four", 4), ("alone", "", 5)]
    assert found is not None
    assert found.form is (Form.PATTERNS if name.startswith("refile") else Form.PLAIN)
    assert found.rows[0].place.file == table


@pytest.mark.parametrize("prefix", ["", "csl:"])
def test_a_data_set_in_a_list(tmp_path: Path, prefix: str) -> None:
    found = config(tmp_path, f"Domain {prefix}a.example, b.example = x:y ,\n").dataset("Domain")

    assert rows(found) == [("a.example", "", 1), ("b.example", "x:y", 1)]


def test_a_data_set_that_is_not_there(tmp_path: Path) -> None:
    assert config(tmp_path, "Mode s\n").dataset("Domain") is None


@pytest.mark.parametrize("base", ["", "BaseDirectory {}/base\n"])
def test_names_of_files_begin_at_the_base_directory(tmp_path: Path, base: str) -> None:
    folder = tmp_path / "base" if base else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / "table").write_text("a.example key\n")

    read = config(tmp_path, base.format(tmp_path) + "SigningTable file:table\n")

    assert rows(read.dataset("SigningTable")) == [("a.example", "key", 1)]
    assert read.file("/etc/key") == Path("/etc/key")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("db:/etc/keys", "db"),
        ("/etc/keys.db", "db"),
        ("dsn:mysql://user:secret@host/base/table=t", "dsn"),
        ("ldap://host/dc=example", "ldap"),
        ("ldaps://host/dc=example", "ldaps"),
        ("lua:/etc/keys.lua", "lua"),
        ("memcache:host/keyname", "memcache"),
        ("erlang:node@host:cookie:module:function", "erlang"),
        ("mdb:/etc/keys", "mdb"),
    ],
)
def test_data_sets_of_programs_are_named(tmp_path: Path, value: str, kind: str) -> None:
    with pytest.raises(OpenDkimError) as caught:
        config(tmp_path, f"Mode s\nKeyTable {value}\n").dataset("KeyTable")

    assert str(caught.value).startswith(f"{tmp_path}/opendkim.conf:2: KeyTable is a data set of kind {kind}:, ")
    assert "secret" not in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OpenDkimError, match=r"opendkim\.conf:1: /none cannot be read: No such file"):
        config(tmp_path, "KeyTable refile:/none\n").dataset("KeyTable")


def test_control_characters_are_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(OpenDkimError, match=r"opendkim\.conf:1: Sel\?\[2Jector has no value"):
        config(tmp_path, "Sel\x1b[2Jector\n")


@given(
    text=st.text(max_size=200)
    | st.lists(st.sampled_from(["KeyTable ", "csl:", "file:x", "\n", "#", ",", "="])).map("".join)
)
def test_nothing_else_is_raised(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    with suppress(OpenDkimError):
        config(tmp_path_factory.getbasetemp(), text).dataset("KeyTable")
