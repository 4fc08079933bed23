"""Policies from disk: what they include, the secrets that they name, and what cannot be read."""

import os
from pathlib import Path

import pytest

from filterd.backend import policy_files
from filterd.backend.policy_files import load_policy
from filterd.mail.transaction import Stage
from filterd.policy.errors import PolicyErrors


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".yaml").write_text(text)
    return folder / "policy.yaml"


def rule(name: str) -> str:
    return f"version: 1\nrules:\n- {{ name: {name}, when: from_us, then: tag }}\n"


def faults(path: Path) -> list[str]:
    with pytest.raises(PolicyErrors) as caught:
        load_policy(path)
    return [str(each) for each in caught.value.errors]


def test_a_pattern_means_files_in_the_order_of_their_names_and_perhaps_none(tmp_path: Path) -> None:
    path = write(tmp_path, policy="version: 1\ninclude: [rules/*.yaml, more.yaml, nothing/*.yaml]\n", more=rule("c"))
    write(tmp_path, rules__20=rule("b"), rules__10=rule("a"))

    assert [each.name for each in load_policy(path).rules[Stage.MAIL]] == ["a", "b", "c"]


def test_errors_name_the_included_file(tmp_path: Path) -> None:
    path = write(tmp_path, policy="version: 1\ninclude: [a.yaml, none.yaml, '']\n", a=rule("a").replace("from", "frm"))

    assert faults(path) == [
        f"{path}:2:19: include[1]: {tmp_path}/none.yaml cannot be read: No such file or directory",
        f"{path}:2:30: include[2]: here stands the name of a file, or a pattern such as rules.d/*.yaml",
        f"{tmp_path}/a.yaml:3:20: rules[0].when: there is no fact or function frm_us; did you mean from_us?",
    ]


def test_a_pattern_that_means_the_policy_itself_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, policy="version: 1\ninclude: ['*.yaml']\n")

    assert faults(path) == [f"{path}:2:11: include[0]: {path} is part of the policy already"]


def test_what_is_no_text_is_refused_at_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, policy="version: 1\ninclude: [a.yaml]\n")
    (tmp_path / "a.yaml").write_bytes("version: 1\n# ü".encode() + b"\xff\n")

    assert faults(path) == [f"{tmp_path}/a.yaml:2:4: is not UTF-8 text"]
    assert faults(tmp_path / "none") == [f"{tmp_path}/none: cannot be read: No such file or directory"]
    assert faults(tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, policy="#" * (4 * 1024 * 1024) + "\n\n")

    assert faults(path) == [f"{path}: this is no YAML: the file is larger than 4194304 characters"]


def test_a_secret_is_one_line_that_others_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("s3cret\n")
    path.chmod(0o640)

    assert policy_files._secret(path) == "s3cret"
    for text, mode, words in (
        ("s3cret\n", 0o644, r"is open to everybody \(mode 0644\); chmod 0600 is right"),
        ("", 0o600, "has no secret: one line of text"),
        ("a\nb\n", 0o600, "has no secret: one line of text"),
        ("x" * 5000, 0o600, "has no secret: one line of text"),
    ):
        path.write_text(text)
        path.chmod(mode)
        with pytest.raises(ValueError, match=words) as caught:
            policy_files._secret(path)
        assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        policy_files._secret(tmp_path / "none")


def test_a_pipe_that_nobody_writes_to_keeps_no_policy_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)

    [fault] = faults(write(tmp_path, policy="version: 1\ninclude: [pipe]\n"))
    assert fault.partition("include[0]: ")[2].startswith(f"{pipe} cannot be read: it is no regular file")
    with pytest.raises(ValueError, match="cannot be read: it is no regular file"):
        policy_files._secret(pipe)
