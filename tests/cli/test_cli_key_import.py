"""`filterd key import-opendkim`: what it prints is a policy that signs with the keys that OpenDKIM signs with."""

import stat
from base64 import b64encode
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from dkim_mail import ed25519_pair, rsa_pair

from filterd.backend.keys import load_key
from filterd.backend.policy_files import load_policy
from filterd.cli.main import main
from filterd.mail.domain import Domain
from filterd.policy.rules import Policy

CONF = """\
# As Debian's README has it
Mode            sv
UserID          opendkim
KeyTable        {0}/KeyTable
SigningTable    refile:{0}/SigningTable
MultipleSignatures yes
SignatureTTL    604800
"""
KEY_TABLE = """\
mail._domainkey.example.org example.org:mail:{0}/mail.private
ed._domainkey.example.org   example.org:ed:{0}/ed.private
net                         %:mail:{0}/mail.private
"""
SIGNING_TABLE = """\
*@example.org   mail._domainkey.example.org
*@example.org   ed._domainkey.example.org
*@*.example.org mail._domainkey.example.org
*@example.net   net
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    folder = tmp_path / "opendkim"
    folder.mkdir()
    for name, pem in {"mail": rsa_pair().pem, "ed": ed25519_pair().pem}.items():
        (folder / f"{name}.private").write_bytes(pem)
        (folder / f"{name}.private").chmod(0o600)
    (folder / "KeyTable").write_text(KEY_TABLE.format(folder))
    (folder / "SigningTable").write_text(SIGNING_TABLE)
    path = folder / "opendkim.conf"
    path.write_text(CONF.format(folder))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["key", "import-opendkim", *map(str, arguments)])


def policy_of(result: Result, folder: Path) -> Policy:
    """The output as it is, comments and all, with the one line that makes a policy of it."""
    path = folder / "policy.yaml"
    path.write_text('version: "1"\n' + result.stdout)
    return load_policy(path)


def signed_by(policy: Policy, author: str) -> tuple[str, list[tuple[str, str]]] | None:
    """As which domain an author's mail is signed, with which selectors and records."""
    found = policy.signers.for_author(Domain.parse(author))
    if found is None:
        return None
    return found.domain.name, [(each.selector, each.key.public_record()) for each in found.signer.keys]


MAIL, ED = ("mail", rsa_pair().record.decode()), ("ed", ed25519_pair().record.decode())


@pytest.mark.parametrize("copy", [False, True])
def test_the_policy_signs_as_opendkim_does(tmp_path: Path, conf: Path, copy: bool) -> None:
    result = run(conf, *(["--copy", tmp_path / "keys"] if copy else []))
    policy = policy_of(result, tmp_path)

    assert result.exit_code == 0
    assert signed_by(policy, "example.org") == ("example.org", [MAIL, ED])
    assert signed_by(policy, "a.b.example.org") == ("example.org", [MAIL])
    assert signed_by(policy, "example.net") == ("example.net", [MAIL])
    assert signed_by(policy, "a.example.net") is None
    assert {entry.expires for entry in policy.settings.sign} == {604800.0}


def test_copies_are_private_and_the_originals_stay(tmp_path: Path, conf: Path) -> None:
    original = conf.with_name("mail.private")
    original.chmod(0o644)

    result = run(conf, "--copy", tmp_path / "keys")
    copies = sorted((tmp_path / "keys").iterdir())

    assert result.exit_code == 0
    assert [path.name for path in copies] == ["example.net.mail.pem", "example.org.ed.pem", "example.org.mail.pem"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in copies} == {0o600}
    assert copies[2].read_bytes() == original.read_bytes()
    assert stat.S_IMODE(original.stat().st_mode) == 0o644
    assert result.stderr == "".join(
        f"wrote {tmp_path}/keys/{name}.pem\n" for name in ("example.org.mail", "example.org.ed", "example.net.mail")
    )


def test_nothing_is_overwritten(tmp_path: Path, conf: Path) -> None:
    taken = tmp_path / "keys" / "example.org.ed.pem"
    taken.parent.mkdir()
    taken.write_text("mine")

    result = run(conf, "--copy", tmp_path / "keys")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{taken}: exists already, and is not overwritten\n"
    assert [path.name for path in taken.parent.iterdir()] == [taken.name]


@pytest.mark.parametrize(
    ("pem", "mode", "says"),
    [
        (rsa_pair().pem, 0o644, "is open to more than its owner (mode 0644); chmod 0600 is right, or 0640"),
        (rsa_pair(1024).pem, 0o600, "the RSA key has 1024 bits; 2048 to 4096 are allowed"),
        (b"none", 0o600, "the file is no unencrypted private key in PEM"),
    ],
)
def test_a_key_that_cannot_be_used_as_it_is(conf: Path, pem: bytes, mode: int, says: str) -> None:
    file = conf.with_name("mail.private")
    file.write_bytes(pem)
    file.chmod(mode)

    result = run(conf)

    assert result.exit_code == 1
    assert f"# Keys that cannot be used as they are:\n#   {file}: {says}\n" in result.stdout
    assert f"file: {file} }}" in result.stdout


def test_a_bad_key_is_not_copied(tmp_path: Path, conf: Path) -> None:
    conf.with_name("ed.private").write_bytes(b"none")

    result = run(conf, "--copy", tmp_path / "keys")

    assert result.exit_code == 1
    assert f"#   {conf.with_name('ed.private')}: the file is no unencrypted private key in PEM\n" in result.stdout
    assert not (tmp_path / "keys" / "example.org.ed.pem").exists()


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_key_that_stands_in_the_table(tmp_path: Path, conf: Path, form: PrivateFormat) -> None:
    key = load_pem_private_key(rsa_pair().pem, None)
    text = b64encode(key.private_bytes(Encoding.DER, form, NoEncryption())).decode()
    conf.with_name("KeyTable").write_text(f"k example.org:s:{text}\n")
    conf.with_name("SigningTable").write_text("*@example.org k\n")

    stays = run(conf)
    copied = run(conf, "--copy", tmp_path / "keys")

    assert stays.exit_code == 1
    assert "KeyTable:1: the key stands in the table itself; --copy DIR makes a file of it\n" in stays.stdout
    assert text not in stays.output
    assert copied.exit_code == 0
    assert load_key(tmp_path / "keys" / "example.org.s.pem").public_record().encode() == rsa_pair().record
    assert signed_by(policy_of(copied, tmp_path), "example.org") is not None


def test_what_stands_in_the_table_is_no_key(tmp_path: Path, conf: Path) -> None:
    conf.with_name("KeyTable").write_text("k example.org:s:mail.private\n")
    conf.with_name("SigningTable").write_text("*@example.org k\n")

    result = run(conf, "--copy", tmp_path / "keys")

    assert result.exit_code == 1
    assert "KeyTable:1: this is no unencrypted private key\n" in result.stdout


def test_what_has_no_equivalent_is_a_comment(tmp_path: Path, conf: Path) -> None:
    conf.write_text(conf.read_text() + "DontSignMailTo friend@example.com\n")
    with conf.with_name("SigningTable").open("a") as table:
        table.write("joe@\x1b[31mexample.org net\n")

    result = run(conf)

    assert result.exit_code == 1
    assert result.stderr == "Not all of it can be taken over as it is; the comments say why.\n"
    assert "# Not taken over, so that mail may go unsigned:\n#   " in result.stdout
    assert "SigningTable:5: joe@?[31mexample.org: is for some addresses of a domain" in result.stdout
    assert "opendkim.conf:8: DontSignMailTo: filterd signs whoever the recipients are\n" in result.stdout
    assert signed_by(policy_of(result, tmp_path), "example.org") == ("example.org", [MAIL, ED])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("KeyTable dsn:mysql://user:secret@host/base", "opendkim.conf:8: KeyTable is a data set of kind dsn:"),
        ("Selector", "opendkim.conf:8: Selector has no value"),
    ],
)
def test_a_configuration_that_cannot_be_understood(conf: Path, line: str, says: str) -> None:
    conf.write_text(conf.read_text() + line + "\n")

    result = run(conf)

    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_an_owner_is_for_copies(conf: Path) -> None:
    assert run(conf, "--owner", "root").exit_code == 2
