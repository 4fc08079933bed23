"""`filterd check`: says what a policy does, or all that is wrong with it and where; status 0, 1, 2."""

from pathlib import Path

import pytest
from command_line import SHIPPED_POLICY, filterd

CHEAP = """\
version: 1
dmarc: { on_multiple_authors: skip }
rules:
- { name: at-the-end, when: message.size > 100, then: tag }
- { name: costs-two, when: spf.result == "fail" && dkim.result == "none", then: quarantine }
- { name: early, when: client.ip == "192.0.2.1", then: reject, at: connect }
- { name: watched, when: envelope.sender == "", then: defer, mode: observe }
"""


def test_the_shipped_policy_is_fine() -> None:
    result = filterd("check", SHIPPED_POLICY)

    assert result.exit_code == 0
    assert result.stderr == ""
    head, *rules, end, tests = result.stdout.splitlines()
    assert head.split() == ["rule", "stage", "checks", "then"]
    assert len(rules) == 5
    assert end.startswith(f"{SHIPPED_POLICY}: 5 rules, policy ")
    assert end.endswith(", fine")
    assert tests.startswith("tests: 8 passed in ")


def test_it_shows_when_each_rule_runs_and_what_it_costs(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(CHEAP)

    lines = filterd("check", file).stdout.splitlines()

    assert lines[:-1] == [
        "rule        stage           checks     then",
        "early       connect         -          reject 550 5.7.1 refused by policy (early)",
        "watched     mail            -          defer (observe) 451 4.7.1 try again later (watched)",
        "at-the-end  end_of_message  -          tag",
        "costs-two   end_of_message  dkim, spf  quarantine",
    ]


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("", ["1:1: version: the key version is missing"]),
        ("version: 2\n", ["1:1: version: '2' is not possible here; allowed: 1"]),
        ("version: 1\nrule: []\n", ["2:1: rule: there is no key rule here; did you mean rules?"]),
        (
            "version: 1\nrules: [\n",
            ["3:1: this is no YAML: while parsing a flow node; did not find expected node content"],
        ),
        (
            "version: 1\nrules: {}\n",
            ["2:1: rules: here stands a list: [a, b], or lines that begin with a dash"],
        ),
        (
            "version: 1\nserver: { milter: [] }\n",
            [
                "2:11: server.milter: nobody could connect: write an address here, or under server.policy_service",
            ],
        ),
        (
            "version: 1\nsign: [{ domains: [], keys: [{ selector: s, file: f }] }]\n",
            ["2:10: sign[0].domains: here stands a list of at least 1"],
        ),
        (
            'version: 1\nserver: { milter: ["unix:a"] }\n',
            [
                "2:20: server.milter[0]: a socket reads unix:/PATH, inet:PORT@ADDRESS or inet6:PORT@ADDRESS",
            ],
        ),
        (
            'version: 1\nrules:\n- { name: a, when: spf.resul == "pass", then: reject }\n'
            '- { name: b, when: spf.result == "fial", then: reject, reply: 250 2.0.0 ok }\n',
            [
                "3:23: rules[0].when: there is no fact or function spf.resul; did you mean spf.result?",
                "4:34: rules[1].when: it is never 'fial'; did you mean 'fail'?",
                '4:56: rules[1].reply: a reply reads like "550 5.7.1 text", with a code from 400 to 459 or from 500 to 559',
            ],
        ),
    ],
)
def test_all_that_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, errors: list[str]) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)

    result = filterd("check", file)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [f"{file}:{error}" for error in errors]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    binary, missing = tmp_path / "binary.yaml", tmp_path / "missing.yaml"
    binary.write_bytes(b"version: 1\n# \xff\n")
    results = [filterd("check", file) for file in (missing, tmp_path, binary)]

    assert [result.exit_code for result in results] == [1, 1, 1]
    assert [result.stderr for result in results] == [
        f"{missing}: cannot be read: No such file or directory\n",
        f"{tmp_path}: cannot be read: Is a directory\n",
        f"{binary}:2:3: is not UTF-8 text\n",
    ]


def test_without_a_policy_it_is_misuse() -> None:
    result = filterd("check")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "say which policy, or --facts" in result.stderr


def test_what_is_hardly_meant_is_warned_of_at_its_place(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(
        "version: 1\nrules:\n- { name: all, when: 'true', then: accept }\n- { name: b, when: from_us, then: tag }\n"
    )

    result = filterd("check", file)

    assert result.exit_code == 0
    assert result.stderr == (
        f"warning: {file}:4:14: rules[1].when: b never fires: all, which is asked before it, always fires and decides\n"
    )
