"""The policy that `filterd key import-opendkim` makes, against Debian's OpenDKIM with the same tables.

Where nothing is remarked, the same authors' mail is signed with the same keys as the same domains. Where something is,
rows may be missing, and nothing is signed that OpenDKIM does not sign so.
"""

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from dkim_mail import rsa_pair
from servers.debian import unpacked

from filterd.backend.policy_files import load_policy
from filterd.cli.main import main
from filterd.mail.domain import Domain

pytestmark = pytest.mark.system

KEY_TABLE = """\
one example.org:s1:{0}/key.pem
two example.org:s2:{0}/%.pem
net example.net:s3:{0}/key.pem
any %:s4:{0}/key.pem
example.net %:s5:{0}/key.pem
"""
AUTHORS = (
    "example.org",
    "Example.ORG",
    "a.example.org",
    "b.a.example.org",
    "badexample.org",
    "example.net",
    "example.com",
)
_MADE = re.compile(r"DKIM-Signature' hvalue='[^']*? d=([^;]*); s=([^;]*);")

Signatures = set[tuple[str, str]]  # d= and s=


def conf(folder: Path, form: str, table: str, more: str = "") -> Path:
    for name in ("key", "example.org"):
        (folder / f"{name}.pem").write_bytes(rsa_pair().pem)
        (folder / f"{name}.pem").chmod(0o600)
    (folder / "KeyTable").write_text(KEY_TABLE.format(folder))
    (folder / "table").write_text(table)
    path = folder / "opendkim.conf"
    # /tmp is open to all.
    top = f"Mode s\nRequireSafeKeys no\n{more}\n"
    path.write_text(f"{top}KeyTable file:{folder}/KeyTable\nSigningTable {form}:{folder}/table\n")
    return path


def by_opendkim(path: Path) -> dict[str, Signatures]:
    """What OpenDKIM makes of a mail of each author, in its test mode: no socket, no daemon."""
    return {author: _by_opendkim(path, author) for author in AUTHORS}


def _by_opendkim(path: Path, author: str) -> Signatures:
    mail = path.with_name("mail")
    mail.write_text(f"From: jane@{author}\nDate: Tue, 14 Nov 2023 22:13:20 +0000\nMessage-ID: <1@{author}>\n\nHi.\n")
    program = unpacked("opendkim") / "usr/sbin/opendkim"
    done = subprocess.run([program, "-x", path, "-b", "s", "-t", mail, "-vvv"], capture_output=True, text=True)
    # A mail that is none of its business ends the test mode with a failure.
    assert done.returncode == 0 or "mlfi_eoh() returned SMFIS_ACCEPT" in done.stderr, done.stderr
    return set(_MADE.findall(done.stdout))


def by_filterd(path: Path) -> tuple[dict[str, Signatures], bool]:
    """What a policy that was made of the tables signs, and whether it was made without a remark."""
    policy = path.with_name("policy.yaml")
    made = CliRunner().invoke(main, ["key", "import-opendkim", str(path)]).stdout
    policy.write_text('version: "1"\n' + made)
    signers = load_policy(policy).signers
    signatures: dict[str, Signatures] = {}
    for author in AUTHORS:
        found = signers.for_author(Domain.parse(author))
        signatures[author] = {(found.domain.name, each.selector) for each in found.signer.keys} if found else set()
    return signatures, made.count("#") == 1


@pytest.mark.parametrize(
    ("form", "table"),
    [
        ("refile", "*@example.org one\n"),
        ("refile", "*@*.example.org one\n"),
        ("refile", "*.example.org one\n"),
        ("refile", "*@example.org one\n*@*.example.org two\n*@example.net net\n"),
        ("refile", "*@example.org any\n*@example.net any\n"),
        ("refile", "*@example.net %\n"),
        ("file", "example.org one\n"),
        ("file", ".example.org one\nexample.org two\n"),
        ("file", "example.org one\nexample.net any\n"),
    ],
)
def test_the_same_is_signed(tmp_path: Path, form: str, table: str) -> None:
    path = conf(tmp_path, form, table)

    assert by_filterd(path) == (by_opendkim(path), True)


def test_the_same_is_signed_several_times(tmp_path: Path) -> None:
    path = conf(
        tmp_path, "refile", "*@example.org one\n*@*.example.org two\n*@example.org any\n", "MultipleSignatures yes"
    )

    assert by_filterd(path) == (by_opendkim(path), True)


@pytest.mark.parametrize(
    ("form", "table", "more"),
    [
        ("refile", "*@*example.org one\n", ""),
        ("refile", "*example.org one\n", ""),
        ("refile", "*@example.org one\n*@example.org two\n", ""),
        ("refile", "*@*.example.org one\n*@a.example.org any\n", ""),
        ("refile", "*@*.example.org one\n*@a.example.org any\n", "MultipleSignatures yes"),
        ("refile", "*@a.example.org one\n*@*.example.org any\n", ""),
        ("refile", "* one\n*@example.net net\n", ""),
        ("refile", "joe@example.org one\n*@example.org two\n", ""),
        ("refile", "example.org one\n", ""),
        ("refile", "*@example.* any\n", ""),
        ("file", "*@example.org one\n", ""),
        ("file", "* one\n.example.org two\n", ""),
        ("file", "example.org one\nexample.org two\n", "MultipleSignatures yes"),
        ("file", "a.example.org any\n.example.org two\n", "MultipleSignatures yes"),
        ("file", "joe@example.org one\n", ""),
    ],
)
def test_nothing_else_is_signed(tmp_path: Path, form: str, table: str, more: str) -> None:
    path = conf(tmp_path, form, table, more)

    ours, theirs = by_filterd(path)[0], by_opendkim(path)

    assert {author: ours[author] - theirs[author] for author in AUTHORS} == {author: set() for author in AUTHORS}
