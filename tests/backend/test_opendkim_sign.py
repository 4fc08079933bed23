"""OpenDKIM's tables become the patterns and keys of a `sign` section; what they say otherwise is told."""

from pathlib import Path

import pytest

from filterd.backend.opendkim_config import OpenDkimConfig, OpenDkimError
from filterd.backend.opendkim_sign import OpenDkimSigning, read_signing

KEYS = """\
one example.org:s1:/keys/one
two example.org:s2:/keys/two
net example.net:s3:/keys/net
any %:s4:/keys/%/private
"""


def signing(folder: Path, table: str, keys: str = KEYS, form: str = "refile", more: str = "") -> OpenDkimSigning:
    (folder / "KeyTable").write_text(keys)
    (folder / "SigningTable").write_text(table)
    conf = f"KeyTable file:{folder}/KeyTable\nSigningTable {form}:{folder}/SigningTable\n{more}"
    return of_conf(folder, conf)


def of_conf(folder: Path, text: str) -> OpenDkimSigning:
    (folder / "opendkim.conf").write_text(text)
    return read_signing(OpenDkimConfig(folder / "opendkim.conf"))


def keys_of(found: OpenDkimSigning) -> dict[str, list[tuple[str, str]]]:
    return {
        pattern: [(key.selector, str(key.file or key.text)) for key in keys] for pattern, keys in found.keys.items()
    }


def unsigned(found: OpenDkimSigning, folder: Path) -> list[str]:
    return [str(each).removeprefix(f"{folder}/") for each in found.remarks if each.unsigned]


def told(found: OpenDkimSigning, folder: Path) -> list[str]:
    return [str(each).replace(f"{folder}/", "") for each in found.remarks if not each.unsigned]


ONE, TWO, NET = ("s1", "/keys/one"), ("s2", "/keys/two"), ("s3", "/keys/net")
ANY_ORG, ANY_NET = ("s4", "/keys/example.org/private"), ("s4", "/keys/example.net/private")


@pytest.mark.parametrize(
    ("table", "keys"),
    [
        ("*@example.org one", {"example.org": [ONE]}),
        ("*@*.example.org one", {"*.example.org": [ONE]}),
        ("*@*example.org one", {"example.org": [ONE], "*.example.org": [ONE]}),
        ("*@example.org one\n*@example.net net", {"example.org": [ONE], "example.net": [NET]}),
        ("*@example.org any\n*@example.net any", {"example.org": [ANY_ORG], "example.net": [ANY_NET]}),
        ("*@example.org one\n*@*.example.org two", {"example.org": [ONE], "*.example.org": [TWO]}),
    ],
)
def test_patterns(tmp_path: Path, table: str, keys: dict[str, list[tuple[str, str]]]) -> None:
    found = signing(tmp_path, table)

    assert keys_of(found) == keys
    assert (found.remarks, found.expires) == ((), None)


@pytest.mark.parametrize(
    ("table", "keys"),
    [
        ("example.org one", {"example.org": [ONE]}),
        (".example.org one", {"*.example.org": [ONE]}),
        (".example.org two\nexample.org one", {"example.org": [ONE], "*.example.org": [TWO]}),
    ],
)
def test_plain_keys(tmp_path: Path, table: str, keys: dict[str, list[tuple[str, str]]]) -> None:
    found = signing(tmp_path, table, form="file")

    assert keys_of(found) == keys
    assert found.remarks == ()


def test_a_table_in_the_configuration_itself(tmp_path: Path) -> None:
    found = of_conf(tmp_path, "KeyTable one=example.org:s1:/keys/one\nSigningTable example.org=one, .example.org=one\n")

    assert keys_of(found) == {"example.org": [ONE], "*.example.org": [ONE]}


@pytest.mark.parametrize(
    ("form", "table", "keys", "says"),
    [
        # opendkim.conf(5), SigningTable: patterns are checked in order, and only the first match is applied.
        ("refile", "*@example.org one\n*@example.org two", {"example.org": [ONE]}, "example.org"),
        ("refile", "*@*.example.org one\n*@a.example.org any", {"*.example.org": [ONE]}, "a.example.org"),
        ("refile", "* one\n*@example.net net", {"example.org": [ONE], "*.example.org": [ONE]}, "example.net"),
        # In other tables only keys that are the same are.
        ("file", "example.org one\nexample.org two", {"example.org": [ONE]}, "example.org"),
    ],
)
def test_rows_that_are_never_used(
    tmp_path: Path, form: str, table: str, keys: dict[str, list[tuple[str, str]]], says: str
) -> None:
    found = signing(tmp_path, table, form=form)

    assert keys_of(found) == keys
    assert f"SigningTable:2: is never used: SigningTable:1 takes the mail of {says} first" in told(found, tmp_path)


def test_in_plain_tables_the_nearest_row_wins_whatever_the_order(tmp_path: Path) -> None:
    found = signing(tmp_path, "* one\n.example.org two\nexample.org any", form="file")

    assert keys_of(found) == {"example.org": [ANY_ORG], "*.example.org": [TWO]}


def test_several_signatures(tmp_path: Path) -> None:
    table = "*@example.org one\n*@example.org two\n*@example.org one\n*@example.net net"

    found = signing(tmp_path, table, more="MultipleSignatures yes\n")

    assert keys_of(found) == {"example.org": [ONE, TWO], "example.net": [NET]}
    assert found.remarks == ()


def test_several_signatures_of_different_rows(tmp_path: Path) -> None:
    found = signing(tmp_path, "*@a.example.org any\n*@*.example.org two", more="MultipleSignatures 1\n")

    assert keys_of(found) == {"a.example.org": [("s4", "/keys/a.example.org/private")], "*.example.org": [TWO]}
    assert told(found, tmp_path) == [
        "SigningTable:1: mail of a.example.org was signed by SigningTable:2 too; here the nearest entry alone signs"
    ]


def test_more_signatures_than_a_policy_makes(tmp_path: Path) -> None:
    keys = "".join(f"k{number} example.org:s{number}:/keys/{number}\n" for number in range(5))
    table = "".join(f"*@example.org k{number}\n" for number in range(5))

    found = signing(tmp_path, table, keys, more="MultipleSignatures yes\n")

    assert len(found.keys["example.org"]) == 4
    assert told(found, tmp_path) == ["SigningTable:5: mail of example.org gets 4 signatures here at most"]


def test_keys_named_after_the_authors_domain(tmp_path: Path) -> None:
    keys = "example.org example.org:s1:/keys/one\nexample.net %:s4:/keys/%/private\nspare x.example:s:/x\n"

    found = signing(tmp_path, "* %", keys)

    assert keys_of(found) == {"example.org": [ONE], "example.net": [ANY_NET]}
    assert found.remarks == ()
    assert keys_of(signing(tmp_path, "*@example.org %", keys)) == {"example.org": [ONE]}
    assert unsigned(signing(tmp_path, "*@*.example.org %", keys), tmp_path) == [
        "SigningTable:1: no key is named after a domain of *.example.org"
    ]


def test_everybodys_mail_by_one_domain(tmp_path: Path) -> None:
    found = signing(tmp_path, "* one")

    assert keys_of(found) == {"example.org": [ONE], "*.example.org": [ONE]}
    assert told(found, tmp_path) == [
        "SigningTable:1: here example.org signs its own mail and that of names below it, not everybody's"
    ]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("joe@example.org one", "joe@example.org: is for some addresses of a domain"),
        ("*@example.* one", "*@example.*: stands for no domain"),
        ("*@a.example.org one", "signs mail of a.example.org as example.org: here only *.example.org does"),
        ("*@*.a.example.org one", "signs mail of *.a.example.org as example.org: here only *.example.org does"),
        (
            "*@example.com one",
            "signs mail of example.com as example.org, which proves nothing about its author (DMARC)",
        ),
        ("*@*.example.org any", "each domain of *.example.org signs as itself: name those that are yours"),
        ("* any", "each domain of * signs as itself: name those that are yours"),
        ("*@example.org odd", "the selector o+dd is none that RFC 6376 3.1 has"),
    ],
)
def test_what_cannot_be_said(tmp_path: Path, row: str, says: str) -> None:
    found = signing(tmp_path, f"*@example.net net\n{row}\n", KEYS + "odd example.org:o+dd:/keys/odd\n")

    assert keys_of(found) == {"example.net": [NET]}
    assert len(unsigned(found, tmp_path)) == 1
    assert unsigned(found, tmp_path)[0].startswith(f"SigningTable:2: {says}")


def test_an_identity_is_told(tmp_path: Path) -> None:
    found = signing(tmp_path, "*@example.org one:postmaster@%")

    assert keys_of(found) == {"example.org": [ONE]}
    assert told(found, tmp_path) == ["SigningTable:1: *@example.org: i= is the signing domain, without a user"]


def test_keys_are_files_or_stand_in_the_table(tmp_path: Path) -> None:
    keys = "a example.org:s1:./keys/a\nb example.net:s2:../b\nc example.com:s3:MIIEow==\n"

    found = signing(tmp_path, "*@example.org a\n*@example.net b\n*@example.com c", keys)

    assert keys_of(found) == {
        "example.org": [("s1", f"{tmp_path}/keys/a")],
        "example.net": [("s2", f"{tmp_path}/../b")],
        "example.com": [("s3", "MIIEow==")],
    }
    assert str(found.keys["example.com"][0].place) == f"{tmp_path}/KeyTable:3"


@pytest.mark.parametrize(
    ("conf", "keys"),
    [
        ("Domain example.org\n", {"example.org": [("s", "/k.pem")]}),
        (
            "Domain example.org, example.net\nSubDomains yes\n",
            {
                pattern: [("s", "/k.pem")]
                for pattern in ("example.org", "*.example.org", "example.net", "*.example.net")
            },
        ),
        ("Domain example.org\nSubDomains no\nMultipleSignatures yes\n", {"example.org": [("s", "/k.pem")]}),
        ("Domain file:{}/domains\n", {"a.example": [("s", "/k.pem")], "b.example": [("s", "/k.pem")]}),
        ("Domain refile:{}/domains\n", {"a.example": [("s", "/k.pem")], "b.example": [("s", "/k.pem")]}),
    ],
)
def test_one_key_for_some_domains(tmp_path: Path, conf: str, keys: dict[str, list[tuple[str, str]]]) -> None:
    (tmp_path / "domains").write_text("a.example\n# none\nb.example\n")

    found = of_conf(tmp_path, conf.format(tmp_path) + "Selector s\nKeyFile /k.pem\n")

    assert keys_of(found) == keys
    assert found.remarks == ()


def test_one_key_for_every_domain(tmp_path: Path) -> None:
    found = of_conf(tmp_path, "Domain *\nSelector s\nKeyFile /k.pem\n")

    assert keys_of(found) == {}
    assert unsigned(found, tmp_path) == ["opendkim.conf:1: each domain of * signs as itself: name those that are yours"]


@pytest.mark.parametrize(
    ("value", "expires", "remarks"),
    [("604800", 604800, 0), ("0", None, 0), ("60", 3600, 1)],
)
def test_how_long_signatures_hold(tmp_path: Path, value: str, expires: int | None, remarks: int) -> None:
    found = signing(tmp_path, "*@example.org one", more=f"SignatureTTL {value}\n")

    assert (found.expires, len(found.remarks)) == (expires, remarks)


def test_other_settings_are_told(tmp_path: Path) -> None:
    found = signing(
        tmp_path, "*@example.org one", more="Mode v\nSyslog yes\nOversignHeaders From\nSenderHeaders Sender\n"
    )

    assert told(found, tmp_path) == [
        "opendkim.conf:5: OversignHeaders: filterd seals From and eight other fields against additions, always",
        "opendkim.conf:6: SenderHeaders: the author in From decides, alone",
        "opendkim.conf:3: Mode: OpenDKIM only verifies, as it is set up here",
    ]


@pytest.mark.parametrize(
    ("conf", "says"),
    [
        ("Mode v\n", "opendkim.conf:1: nothing is signed: there is neither SigningTable nor Domain"),
        ("\nDomain example.org\nSelector s\n", "opendkim.conf:2: Domain needs KeyFile and Selector"),
        ("\nDomain example.org\nKeyFile /k\n", "opendkim.conf:2: Domain needs KeyFile and Selector"),
        ("SigningTable a=b\n", "opendkim.conf:1: SigningTable needs a KeyTable"),
        ("KeyTable a=b\n", "opendkim.conf:1: there is no SigningTable that says whose mail these keys sign"),
        (
            "KeyTable a=b\nSigningTable x.example=a\n",
            "opendkim.conf:1: a row of a KeyTable reads NAME DOMAIN:SELECTOR:FILE",
        ),
        ("KeyTable a=b:c:\nSigningTable x=a\n", "opendkim.conf:1: a row of a KeyTable reads NAME DOMAIN:SELECTOR:FILE"),
        ("KeyTable a=..:c:/k\nSigningTable x=a\n", "opendkim.conf:1: ..: a label of the domain is empty"),
        ("KeyTable a=%:c:/k\nSigningTable x.example=b\n", "opendkim.conf:2: the KeyTable has no key that is named b"),
        ("KeyTable a=%:c:/k\nSigningTable x.example\n", "opendkim.conf:2: x.example has no key's name behind it"),
        ("KeyTable a=%:c:/k\nSigningTable x.example=a\nSignatureTTL 1d\n", "opendkim.conf:3: SignatureTTL is a number"),
        ("KeyTable refile:{}/p\nSigningTable x.example=a\n", "p:1: names of keys that are patterns"),
    ],
)
def test_what_makes_no_sense(tmp_path: Path, conf: str, says: str) -> None:
    (tmp_path / "p").write_text("*a example.org:s:/k\n")

    with pytest.raises(OpenDkimError) as caught:
        of_conf(tmp_path, conf.format(tmp_path))

    assert str(caught.value).startswith(f"{tmp_path}/{says}")
