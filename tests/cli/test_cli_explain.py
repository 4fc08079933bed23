"""`filterd explain`: the demonstration's mails, judged offline as they are live; statuses; what cannot be judged."""

import json
import re
import time
from pathlib import Path

import pytest
from click.testing import Result
from command_line import SHIPPED_POLICY, filterd
from dkim_mail import rsa_pair

from filterd.demo.cast import HOST, READER, SEALER, Ends, Scene, scenes, zone
from filterd.dkim.sign import SigningKey

KEY = SigningKey.load(rsa_pair().pem)
Options = list[str | Path]


@pytest.fixture
def cast() -> dict[str, Scene]:
    return {scene.title: scene for scene in scenes(KEY, int(time.time()))}


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """The shipped policy, and the demonstration's zone."""
    ours = f"\nidentity: {{ authserv_id: {HOST} }}\narc: {{ trusted_sealers: [{SEALER}] }}\n"
    (tmp_path / "policy.yaml").write_text(SHIPPED_POLICY.read_text() + ours)
    (tmp_path / "zone").write_text(zone(KEY))
    return ["--policy", tmp_path / "policy.yaml", "--zone", tmp_path / "zone"]


def explain(scene: Scene, options: Options, *more: str | Path) -> Result:
    user = ("--user", scene.user) if scene.user else ()
    client = ("--client-ip", scene.client_ip, "--helo", scene.helo)
    envelope = ("--sender", f"<{scene.sender}>", "--recipient", READER)
    return filterd("explain", "-", *client, *envelope, *user, *options, *more, stdin=scene.message)


def test_it_says_what_the_daemon_says(cast: dict[str, Scene], options: Options) -> None:
    for scene in cast.values():
        result = explain(scene, options, "--json")
        transcript = json.loads(result.stdout)

        found = transcript["results"]
        words = tuple(found.get(check, {"code": "-"})["code"] for check in ("spf", "dmarc"))
        dkim = [each["code"] for each in found["dkim"]] or ["none"] if "dkim" in found else ["-"]
        assert (*words, *dkim) == (scene.spf, scene.dmarc, scene.dkim), scene.title
        assert transcript["verdict"].get("rule", "-") == scene.rule
        assert transcript["authserv_id"] == HOST
        assert result.exit_code == (1 if scene.ends is Ends.REFUSED else 0)
        assert result.stderr == ""


def test_it_says_why_a_mail_passes(cast: dict[str, Scene], options: Options) -> None:
    result = explain(cast["honest: DKIM and SPF"], options)

    assert result.exit_code == 0
    assert result.stdout.startswith("verdict   accepted: no rule decided\n")
    assert "\n  spf       pass       bank.example, matched ip4:192.0.2.10\n" in result.stdout
    assert "\n  dkim      pass       bank.example, selector demo, rsa-sha256\n" in result.stdout
    assert "aligned by SPF and DKIM" in result.stdout
    assert re.search(
        r"refuse-forgery +did not fire\n +arc.trusted_dmarc=\"\", dmarc.policy=\"reject\", dmarc.result=\"pass\"",
        result.stdout,
    )
    assert '\n  spf       TXT   bank.example  found "v=spf1 ip4:192.0.2.10 -all"\n' in result.stdout


def test_it_says_why_a_mail_is_refused(cast: dict[str, Scene], options: Options) -> None:
    result = explain(cast["forged From, p=reject"], options)

    assert result.exit_code == 1
    verdict, because, reply, *_ = result.stdout.splitlines()
    assert verdict == "verdict   rejected by refuse-forgery"
    assert because.startswith('because   arc.trusted_dmarc="", dmarc.policy="reject", dmarc.result="fail"')
    assert reply == "reply     550 5.7.1 bank.example asks that mail failing DMARC be refused"
    outcomes = re.findall(r"(?m)^  end_of_message +(\S+) +(.*)$", result.stdout)
    assert outcomes == [
        ("refuse-forgery", "fired"),
        ("quarantine-list", "not reached"),
        ("quarantine-forgery", "not reached"),
        ("unauthenticated", "not reached"),
    ]


def test_our_own_mail_is_not_judged_as_a_strangers(cast: dict[str, Scene], options: Options) -> None:
    result = explain(cast["submission, logged in"], options)

    assert result.exit_code == 0
    assert "\nuser      anna\n" in result.stdout
    assert len(re.findall(r"not applicable: mail from us", result.stdout)) == 4
    assert "\ndns\n" not in result.stdout


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_mail_from_a_mailbox_is_the_mail_that_came(
    cast: dict[str, Scene], options: Options, tmp_path: Path, end: bytes
) -> None:
    scene = cast["honest: forwarded, DKIM only"]
    file = tmp_path / "mail.eml"
    file.write_bytes(b"From service@bank.example Tue Nov 14 22:13:20 2023" + end + scene.message.replace(b"\r\n", end))

    result = filterd("explain", file, "--client-ip", scene.client_ip, "--sender", scene.sender, *options, "--json")

    assert [each["code"] for each in json.loads(result.stdout)["results"]["dkim"]] == ["pass"]


def test_a_zone_can_say_that_nobody_answers(cast: dict[str, Scene], options: Options, tmp_path: Path) -> None:
    (tmp_path / "zone").write_text("; fails: bank.example\n")
    result = explain(cast["honest: forwarded, DKIM only"], options, "--json")

    found = json.loads(result.stdout)["results"]
    assert result.exit_code == 0
    assert [found["spf"]["code"], found["dkim"][0]["code"], found["dmarc"]["code"]] == ["temperror"] * 3


def test_nothing_remote_moves_the_terminal(options: Options) -> None:
    mail = "From: \x1b[2J\u202e <a@\x1b]0;x\x07.example>\r\nDKIM-Signature: v=1; d=\x1b[1m; s=\x9b\r\n\r\n".encode()
    result = filterd("explain", "-", *options, "--client-ip", "192.0.2.1", "--helo", "\x1b[2J\u202ex", stdin=mail)

    assert all(char.isprintable() or char == "\n" for char in result.stdout)


@pytest.mark.parametrize(
    ("options_changed", "says"),
    [
        (["--client-ip", "1.2.3"], "'1.2.3' is no IP address; 192.0.2.1 would be one"),
        (["--sender", "a b"], "'a b' is no mail address"),
        (["--recipient", "<@>"], "'<@>' is no mail address"),
        (["--policy", "{folder}/missing.yaml"], "{folder}/missing.yaml: cannot be read: No such file or directory"),
        (["--policy", "{folder}/broken.yaml"], "{folder}/broken.yaml:2:1: rule: there is no key rule here"),
        (["--zone", "{folder}/missing"], "{folder}/missing: cannot be read: No such file or directory"),
        (["--zone", "{folder}"], "{folder}: cannot be read: Is a directory"),
        (["--zone", "{folder}/bad-zone"], "{folder}/bad-zone:2: "),
        (["--zone", "{folder}/binary-zone"], "{folder}/binary-zone: is not UTF-8 text"),
    ],
)
def test_what_cannot_be_judged_is_misuse(
    options: Options, tmp_path: Path, options_changed: list[str], says: str
) -> None:
    (tmp_path / "broken.yaml").write_text("version: 1\nrule: []\n")
    (tmp_path / "bad-zone").write_text("a.example. IN A 192.0.2.1\nb.example. IN A 192.0.2\n")
    (tmp_path / "binary-zone").write_bytes(b"\xff")
    (tmp_path / "mail.eml").write_bytes(b"From: a@example.org\r\n\r\n")
    changed = [each.format(folder=tmp_path) for each in options_changed]

    result = filterd("explain", tmp_path / "mail.eml", *options, *changed)

    assert (result.exit_code, result.stdout) == (2, "")
    assert says.format(folder=tmp_path) in result.stderr


def test_a_mail_that_cannot_be_read_is_misuse(options: Options, tmp_path: Path) -> None:
    for file, why in ((tmp_path / "missing.eml", "No such file or directory"), (tmp_path, "Is a directory")):
        result = filterd("explain", file, *options)

        assert (result.exit_code, result.stdout) == (2, "")
        assert f"'{file}': {why}" in result.stderr


def test_without_a_policy_it_is_misuse() -> None:
    result = filterd("explain", "-")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "Missing option '-p' / '--policy'" in result.stderr
