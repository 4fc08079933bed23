"""`filterd check` runs a policy's own tests, and looks whether this machine has what the policy names."""

import json
import os
import pwd
import re
from pathlib import Path

import pytest
from command_line import SHIPPED_POLICY, filterd

POLICY = """\
version: 1
rules:
  - { name: refuse, when: client.helo == "bad.example", then: reject, reply: "550 5.7.1 no" }
tests:
  - { name: The bad one is refused, given: { client: { helo: bad.example } }, expect: { verdict: reject, rule: refuse } }
  - { name: a good one passes, expect: { verdict: accept } }
  - name: this is wrong
    given: { client: { helo: bad.example } }
    expect: { verdict: accept, rule: none }
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    return file


def test_a_failure_shows_what_was_expected_what_happened_and_why(policy: Path) -> None:
    result = filterd("check", policy)

    lines = result.stdout.splitlines()
    start = lines.index("FAILED  this is wrong")
    assert result.exit_code == 1
    assert [line.split() for line in lines[start + 1 : start + 7]] == [
        [f"{policy}:7"],
        [],
        ["expected", "happened"],
        ["verdict", "accept", "reject"],
        ["rule", "none", "refuse"],
        [],
    ]
    assert lines[start + 7] == "        | verdict   rejected by refuse"
    assert any(re.fullmatch(r'        \| +client.helo="bad.example"', line) for line in lines)
    assert lines[-1].startswith("tests: 1 failed, 2 passed in ")


def test_some_alone_by_a_word_of_their_names(policy: Path) -> None:
    result = filterd("check", policy, "-k", "the BAD")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].startswith("tests: 1 passed, 2 left out in ")


def test_a_word_that_no_name_has_is_misuse(policy: Path) -> None:
    result = filterd("check", policy, "-k", "nonsense")

    assert result.exit_code == 2
    assert "no test of this policy has 'nonsense' in its name" in result.stderr


def test_none_at_all(policy: Path) -> None:
    result = filterd("check", policy, "--no-tests")

    assert result.exit_code == 0
    assert "tests" not in result.stdout


def test_a_mail_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text('version: 1\ntests: [{ name: a, given: { dns: "x TXXT y\\n" }, expect: { verdict: accept } }]\n')
    result = filterd("check", file)

    assert result.exit_code == 1
    assert "        dns: line 1: unknown rdatatype 'TXXT'" in result.stdout


def test_json_has_all_of_it(policy: Path) -> None:
    result = filterd("check", policy, "--json")

    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [rule["name"] for rule in found["rules"]] == ["refuse", "dmarc.on_multiple_authors"]
    assert [(each["name"], each["line"], each["passed"]) for each in found["tests"]] == [
        ("The bad one is refused", 5, True),
        ("a good one passes", 6, True),
        ("this is wrong", 7, False),
    ]
    assert found["tests"][2]["mismatches"] == [
        {"what": "verdict", "expected": "accept", "happened": "reject"},
        {"what": "rule", "expected": "none", "happened": "refuse"},
    ]
    assert found["tests"][2]["transcript"]["verdict"]["rule"] == "refuse"
    assert found["tests"][0]["transcript"] is None


def test_json_has_the_errors(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("version: 2\n")
    result = filterd("check", file, "--json")

    (error,) = json.loads(result.stdout)["errors"]
    assert (result.exit_code, error["line"], error["path"]) == (1, 1, "version")


def test_files_stand_beside_the_policy(tmp_path: Path) -> None:
    (tmp_path / "forged.eml").write_text("From: a@bank.example\n\nx\n")
    (tmp_path / "dns.zone").write_text('_dmarc.bank.example. TXT "v=DMARC1; p=reject"\n')
    file = tmp_path / "policy.yaml"
    test = "given: { message: forged.eml, dns: dns.zone }, expect: { rule: refuse-forgery }"
    file.write_text(SHIPPED_POLICY.read_text().partition("\ntests:")[0] + f"\ntests: [{{ name: a, {test} }}]\n")

    assert filterd("check", file).exit_code == 0
    (tmp_path / "dns.zone").unlink()
    line = file.read_text().count("\n")
    missing = f"{file}:{line}:50: tests[0].given.dns: {tmp_path}/dns.zone: cannot be read: No such file or directory\n"
    assert filterd("check", file).stderr == missing


def test_files_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "large.eml").write_bytes(b"x" * 1024 * 1025)
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\ntests: [{ name: a, given: { message: large.eml }, expect: { verdict: accept } }]\n")

    assert f"{tmp_path}/large.eml: is larger than 1024 KiB" in filterd("check", file).stderr


def test_files_are_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\ntests: [{ name: a, given: { message: pipe }, expect: { verdict: accept } }]\n")

    assert f"{tmp_path}/pipe: cannot be read: it is no regular file" in filterd("check", file).stderr


def test_what_this_machine_does_not_have_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nserver:\n  user: nobody-of-that-name\n  socket: { group: none-of-that-name }\n")
    result = filterd("check", file)

    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"warning: {file}:3:3: server.user: there is no user nobody-of-that-name on this machine",
        f"warning: {file}:4:13: server.socket.group: there is no group none-of-that-name on this machine",
    ]
    (tmp_path / "server.yaml").write_text("server: { user: nobody-of-that-name }\n")
    file.write_text("version: 1\ninclude: [server.yaml]\n")
    there = f"warning: {tmp_path}/server.yaml:1:11: server.user: there is no user nobody-of-that-name on this machine\n"
    assert filterd("check", file).stderr == there
    file.write_text(f"version: 1\nserver: {{ user: {pwd.getpwuid(os.geteuid()).pw_name} }}\n")
    assert filterd("check", file).stderr == ""


def test_what_fails_in_the_shadow_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "next.yaml").write_text("version: 1\ntests: [{ name: a, expect: { verdict: hold } }]\n")
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nshadow: next.yaml\n")
    result = filterd("check", file)

    assert result.exit_code == 0
    assert result.stderr == (
        f"warning: {tmp_path}/next.yaml:2:11: tests[0].name: the test 'a' fails: verdict: expected hold, happened accept\n"
    )
    assert filterd("check", file, "--no-tests").stderr == ""
