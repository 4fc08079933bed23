"""`filterd key list` against Debian's NSD: a key is published where receivers find it, and nowhere else."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from dkim_mail import ed25519_pair, rsa_pair
from servers import nsd
from servers.debian import free_port

from filterd.cli.main import main
from filterd.dkim.zone_text import zone_text

PEM, RECORD = rsa_pair().pem, rsa_pair().record.decode()
ZONE = "".join(
    zone_text(f"{selector}._domainkey.example.org", record, 300)
    for selector, record in {
        "good": RECORD,
        "edward": ed25519_pair().record.decode(),
        "other": rsa_pair(1024).record.decode(),
        "revoked": "v=DKIM1; p=",
        "tls": f"s=tlsrpt; {RECORD.removeprefix('v=DKIM1; ')}",
    }.items()
)
SIGN = """\
sign:
  - domains: [example.org, "*.example.org"]
    keys: [{{ selector: {}, file: keys/example.org.{}.pem }}]
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["key", "list", *map(str, arguments)])


def add_key(folder: Path, name: str, pem: bytes = PEM) -> Path:
    path = folder / "keys" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pem)
    path.chmod(0o600)
    return path


def write_policy(folder: Path, port: int, selector: str) -> Path:
    path = folder / "policy.yaml"
    dns = f'dns: {{ servers: ["127.0.0.1:{port}"] }}\n'
    path.write_text('version: "1"\n' + dns + SIGN.format(selector, selector))
    return path


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with nsd.running({"example.org": ZONE}) as (_, number):
        yield number


@pytest.mark.system
@pytest.mark.parametrize(
    ("selector", "state"),
    [
        ("good", "published"),
        ("other", "different"),
        ("edward", "different"),
        ("revoked", "different: dkim.key.revoked"),
        ("tls", "different: dkim.key.service"),
        ("none", "absent"),
    ],
)
def test_what_dns_has(tmp_path: Path, port: int, selector: str, state: str) -> None:
    """Start published, publish something else."""
    file = add_key(tmp_path, f"example.org.{selector}.pem")
    result = run("-p", write_policy(tmp_path, port, selector), "--json")

    assert json.loads(result.stdout) == [
        {
            "domain": "example.org",
            "selector": selector,
            "algorithm": "rsa-sha256",
            "bits": 2048,
            "file": str(file),
            "state": state,
        }
    ]
    assert result.exit_code == (0 if state == "published" else 1)


@pytest.mark.system
def test_both_keys_of_a_domain(tmp_path: Path, port: int) -> None:
    policy = write_policy(tmp_path, port, "good")
    policy.write_text(policy.read_text().replace("keys: [", "keys: [{ selector: edward, file: keys/e.pem }, "))
    add_key(tmp_path, "example.org.good.pem")
    add_key(tmp_path, "e.pem", ed25519_pair().pem)

    result = run("-p", policy)

    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["domain", "selector", "algorithm", "bits", "DNS", "file"],
        ["example.org", "edward", "ed25519-sha256", "256", "published", f"{tmp_path}/keys/e.pem"],
        ["example.org", "good", "rsa-sha256", "2048", "published", f"{tmp_path}/keys/example.org.good.pem"],
    ]


@pytest.mark.system
def test_a_zone_that_the_server_does_not_have(tmp_path: Path, port: int) -> None:
    """NSD refuses to answer: that says nothing of what is published."""
    policy = write_policy(tmp_path, port, "good")
    policy.write_text(policy.read_text().replace('[example.org, "*.example.org"]', "[example.net]"))
    add_key(tmp_path, "example.org.good.pem")

    result = run("-p", policy, "--json")

    assert [each["state"] for each in json.loads(result.stdout)] == ["cannot tell: dns.servfail"]
    assert result.exit_code == 1


def test_no_server_at_all(tmp_path: Path) -> None:
    add_key(tmp_path, "example.org.good.pem")
    policy = write_policy(tmp_path, free_port(), "good")

    assert "cannot tell: dns." in run("-p", policy).stdout
    assert run("-p", policy, "--no-dns").exit_code == 0


def test_a_folder(tmp_path: Path) -> None:
    add_key(tmp_path, "b.example.s2.pem", ed25519_pair().pem)
    add_key(tmp_path, "a.example.s1.pem")
    add_key(tmp_path, "notes.txt")
    add_key(tmp_path, "odd.pem")

    result = run("--directory", tmp_path / "keys", "--no-dns")

    assert result.exit_code == 0
    assert [line.split()[:4] for line in result.stdout.splitlines()[1:]] == [
        ["a.example", "s1", "rsa-sha256", "2048"],
        ["b.example", "s2", "ed25519-sha256", "256"],
    ]
    assert result.stderr == f"{tmp_path}/keys/odd.pem: left out, as it is not named DOMAIN.SELECTOR.pem\n"


def test_a_key_that_cannot_be_used_is_listed_with_the_reason(tmp_path: Path) -> None:
    add_key(tmp_path, "a.example.s1.pem").chmod(0o644)
    add_key(tmp_path, "a.example.s2.pem", rsa_pair(1024).pem)

    result = run("--directory", tmp_path / "keys", "--no-dns", "--json")

    assert result.exit_code == 1
    assert [(each["algorithm"], each["bits"], each["state"]) for each in json.loads(result.stdout)] == [
        (None, None, "is open to more than its owner (mode 0644); chmod 0600 is right, or 0640"),
        (None, None, "the RSA key has 1024 bits; 2048 to 4096 are allowed"),
    ]


def test_colours_are_for_terminals(tmp_path: Path) -> None:
    add_key(tmp_path, "a.example.s1.pem").chmod(0o644)
    arguments = ["key", "list", "--directory", str(tmp_path / "keys"), "--no-dns"]

    assert "\x1b" not in CliRunner().invoke(main, arguments).stdout
    assert "\x1b[31mis open" in CliRunner().invoke(main, arguments, color=True).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--directory", "{}/none"], 2, "Error: {}/none: No such file or directory; say where keys are by -p"),
        (["--directory", "{}", "-p", "{}/policy.yaml"], 2, "give -p or --directory, not both"),
        (["-p", "{}/none.yaml"], 2, "{}/none.yaml: cannot be read: No such file"),
    ],
)
def test_misuse(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    result = run(*(each.format(tmp_path) for each in arguments))

    assert result.exit_code == code
    assert says.format(tmp_path) in result.stderr


def test_a_policy_whose_key_is_missing_says_where(tmp_path: Path) -> None:
    policy = write_policy(tmp_path, 53, "good")
    result = run("-p", policy)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"{policy}:5:")
    assert "keys/example.org.good.pem: cannot be read: No such file or directory" in result.stderr
