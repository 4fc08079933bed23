"""`filterd key new` and `filterd key show`: files that are private, records that verify, lines that a policy takes."""

import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from dkim_mail import ed25519_pair, rsa_pair

from filterd.backend.keys import load_key
from filterd.backend.policy_files import load_policy
from filterd.backend.zone import zone_resolver
from filterd.cli.main import main
from filterd.dkim.published import Published, published
from filterd.dkim.signature import Algorithm
from filterd.mail.domain import Domain
from filterd.policy.schema import SignEntry


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["key", *map(str, arguments)])


def zone_of(output: str) -> str:
    return output.partition("zone file:\n\n")[2].partition("\n\nor in")[0] + "\n"


def sign_of(output: str, folder: Path) -> tuple[SignEntry, ...]:
    policy = folder / "policy.yaml"
    policy.write_text('version: "1"\n' + output[output.index("sign:\n") :])
    return load_policy(policy).settings.sign


def test_two_keys_by_default(tmp_path: Path) -> None:
    result = run("new", "Example.ORG", "--directory", tmp_path / "keys")
    files = sorted((tmp_path / "keys").iterdir())

    assert result.exit_code == 0
    assert [re.sub(r"2\d{3}", "YEAR", file.name) for file in files] == [
        "example.org.eYEAR.pem",
        "example.org.rYEAR.pem",
    ]
    assert [(load_key(file).algorithm, load_key(file).bits) for file in files] == [
        (Algorithm.ED25519_SHA256, 256),
        (Algorithm.RSA_SHA256, 2048),
    ]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_the_lines_for_the_zone_publish_the_keys(tmp_path: Path) -> None:
    result = run("new", "example.org", "--selector", "x", "--directory", tmp_path)
    zone = zone_resolver(zone_of(result.stdout))

    for selector in ("x-rsa", "x-ed25519"):
        key = load_key(tmp_path / f"example.org.{selector}.pem")
        state = published(key, Domain.parse("example.org"), selector, zone)

        assert state == (Published.YES, None)
        assert f"\n{selector}._domainkey.example.org\n{key.public_record()}\n" in result.stdout


def test_the_lines_for_the_policy_sign(tmp_path: Path) -> None:
    result = run("new", "example.org", "--selector", "x", "--directory", tmp_path)
    (entry,) = sign_of(result.stdout, tmp_path)

    assert entry.domains == ("example.org",)
    assert [(key.selector, key.file) for key in entry.keys] == [
        ("x-rsa", f"{tmp_path}/example.org.x-rsa.pem"),
        ("x-ed25519", f"{tmp_path}/example.org.x-ed25519.pem"),
    ]


@pytest.mark.parametrize(
    ("arguments", "file", "algorithm", "bits"),
    [
        (["--algorithm", "rsa"], "b.example.s1.pem", Algorithm.RSA_SHA256, 2048),
        (["--algorithm", "rsa", "--bits", "3072"], "b.example.s1.pem", Algorithm.RSA_SHA256, 3072),
        (["--algorithm", "ed25519"], "b.example.s1.pem", Algorithm.ED25519_SHA256, 256),
    ],
)
def test_one_key(tmp_path: Path, arguments: list[str], file: str, algorithm: Algorithm, bits: int) -> None:
    result = run("new", "b.example", "--selector", "s1", "--directory", tmp_path, *arguments)
    key = load_key(tmp_path / file)

    assert (result.exit_code, key.algorithm, key.bits) == (0, algorithm, bits)
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_an_internationalized_domain(tmp_path: Path) -> None:
    run("new", "bücher.example", "--selector", "s", "--algorithm", "ed25519", "--directory", tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["xn--bcher-kva.example.s.pem"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """One of two is in the way: the other is not made either."""
    taken = tmp_path / "example.org.x-ed25519.pem"
    taken.write_text("mine")
    result = run("new", "example.org", "--selector", "x", "--directory", tmp_path)

    assert result.exit_code == 1
    assert result.stderr == f"Error: {taken}: exists already, and is not overwritten\n"
    assert [path.name for path in tmp_path.iterdir()] == [taken.name]
    assert taken.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["exa mple.org"], "a label of the domain"),
        (["*.example.org"], "a label of the domain"),
        ([".".join(["x" * 60] * 4)], "the domain is longer than 253 octets"),
        (["example.org", "--selector", "a.b"], "a selector is a word"),
        (["example.org", "--selector", "../x"], "a selector is a word"),
        (["example.org", "--bits", "1024"], "--bits"),
        (["example.org", "--algorithm", "dsa"], "--algorithm"),
    ],
)
def test_misuse(tmp_path: Path, arguments: list[str], says: str) -> None:
    result = run("new", *arguments, "--directory", tmp_path)

    assert result.exit_code == 2
    assert says in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("new", "example.org", "--directory", tmp_path / "file" / "keys")

    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path}/file/keys: Not a directory\n"


def test_an_owner_that_does_not_exist(tmp_path: Path) -> None:
    result = run("new", "example.org", "--directory", tmp_path, "--owner", "no such user")

    assert result.exit_code == 1
    assert result.stderr == "Error: no such user: there is no such user or group here\n"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "example.org.r1.pem"
    path.write_bytes(rsa_pair().pem)
    path.chmod(0o600)
    return path


RECORD = rsa_pair().record.decode()


def test_the_record_of_a_key_that_there_is(key: Path) -> None:
    result = run("show", key)
    answer = zone_resolver(zone_of(result.stdout)).lookup("r1._domainkey.example.org", "TXT")

    assert result.exit_code == 0
    assert answer.texts == (rsa_pair().record,)
    assert result.stdout.endswith(f"\nr1._domainkey.example.org\n{RECORD}\n")


def test_the_record_by_another_name(key: Path) -> None:
    assert f"\ns._domainkey.example.org\n{RECORD}\n" in run("show", key, "--selector", "s").stdout
    assert f"\nr1._domainkey.b.example\n{RECORD}\n" in run("show", key, "--domain", "b.example").stdout


def test_a_file_with_any_other_name_has_a_bare_record(key: Path) -> None:
    other = key.rename(key.with_name("private.key"))

    assert run("show", other).stdout == f"{RECORD}\n"
    assert run("show", other, "--domain", "example.org").stdout == f"{RECORD}\n"
    assert "s._domainkey.b.example\n" in run("show", other, "--domain", "b.example", "--selector", "s").stdout


def test_nothing_private_is_shown(key: Path) -> None:
    key.write_bytes(ed25519_pair().pem)
    secret = ed25519_pair().pem.splitlines()[1].decode()

    assert secret not in run("show", key).stdout


def test_a_key_that_cannot_be_shown(key: Path) -> None:
    assert run("show", key, "--domain", "a..b").exit_code == 2

    key.chmod(0o644)
    result = run("show", key)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {key}: is open to more than its owner (mode 0644)")
