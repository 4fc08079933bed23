"""`filterd replay`: what a policy changes is counted and named; what mails do not tell is never guessed."""

import json
import mailbox
import re
import time
from pathlib import Path

import pytest
from click.testing import Result
from command_line import filterd
from dkim_mail import rsa_pair

from filterd.demo.cast import Scene, scenes, zone
from filterd.dkim.sign import SigningKey

KEY = SigningKey.load(rsa_pair().pem)
SCENES = [each for each in scenes(KEY, int(time.time())) if not each.user]


def stored(scene: Scene, *, results: str = "", received: bool = True) -> bytes:
    """A mail as our MX stored it."""
    client = f"Received: from {scene.helo} (unknown [{scene.client_ip}])\r\n\tby mx.home.example with ESMTP id 1;\r\n"
    fields = f"Return-Path: <{scene.sender}>\r\nDelivered-To: anna@home.example\r\n"
    if received:
        fields += "Received: from localhost ([127.0.0.1]) by mx.home.example;\r\n" + results + client
    return fields.encode() + scene.message


@pytest.fixture
def mbox(tmp_path: Path) -> Path:
    box = mailbox.mbox(tmp_path / "box.mbox")
    for scene in SCENES:
        box.add(stored(scene).replace(b"\r\n", b"\n"))
    box.close()
    return tmp_path / "box.mbox"


@pytest.fixture
def names(tmp_path: Path) -> Path:
    (tmp_path / "zone").write_text(zone(KEY))
    return tmp_path / "zone"


def policy(tmp_path: Path, when: str, then: str = "reject", name: str = "p") -> Path:
    file = tmp_path / f"{name}.yaml"
    head = "version: 1\ndmarc: { on_multiple_authors: skip }\n"
    file.write_text(f"{head}rules: [{{ name: {name}, when: {when!r}, then: {then} }}]\n")
    return file


def counts(result: Result) -> dict[str, int]:
    found = re.findall(r"(?m)^(mails|end as before|would change|cannot tell) +(\d+)$", result.stdout)
    return {label: int(number) for label, number in found}


def test_what_a_policy_would_do_with_delivered_mail(tmp_path: Path, mbox: Path, names: Path) -> None:
    new = policy(tmp_path, 'dmarc.result == "fail"')
    result = filterd("replay", mbox, "-p", new, "--from-received", "--zone", names, "--list")

    failing = sum(each.dmarc == "fail" for each in SCENES)
    assert result.exit_code == 1, result.stderr
    assert counts(result) == {
        "mails": len(SCENES),
        "end as before": len(SCENES) - failing,
        "would change": failing,
        "cannot tell": 0,
    }
    assert f"\n  {failing:2}  accepted -> rejected by p\n" in result.stdout
    listed = [line for line in result.stdout.splitlines() if line.startswith("box.mbox:")]
    assert listed == [
        f"box.mbox:{number}: accepted -> rejected by p"
        for number, scene in enumerate(SCENES, 1)
        if scene.dmarc == "fail"
    ]
    assert re.search(rf"(?m)^p +0 +{failing} +{failing} +0 +0$", result.stdout)


def test_what_a_change_of_the_policy_changes(tmp_path: Path, mbox: Path, names: Path) -> None:
    old, new = policy(tmp_path, 'dmarc.result == "fail"', name="old"), policy(tmp_path, "false", name="new")
    options = ("--from-received", "--zone", names)

    assert filterd("replay", mbox, "-p", old, "--against", old, *options).exit_code == 0
    result = filterd("replay", mbox, "-p", new, "--against", old, *options, "--json")
    found = json.loads(result.stdout)
    failing = sum(each.dmarc == "fail" for each in SCENES)
    assert found["changes"] == [{"before": "rejected by old", "after": "accepted", "mails": failing}]
    assert found["rules"]["old"] == {"before": failing, "after": 0, "newly": 0, "no longer": failing}


def test_a_server_is_believed_and_dns_is_not_asked(tmp_path: Path) -> None:
    box = mailbox.Maildir(tmp_path / "Maildir")
    said = (
        "Authentication-Results: mx.home.example; spf=pass smtp.mailfrom=x@bank.example; dkim=none;\r\n"
        "\tdmarc=fail header.from=bank.example policy.dmarc=reject\r\n"
    )
    box.add(stored(SCENES[1], results=said))
    believed = ("--from-received", "--trust-results", "mx.home.example")

    for when, changes, unknown in (
        ('dmarc.result == "fail" && dmarc.policy == "reject"', 1, 0),
        ('spf.result == "pass" && spf.domain == "bank.example"', 1, 0),
        ('dkim.result == "pass"', 0, 0),
        ("dmarc.testing", 0, 1),
        ('spf.helo_result == "pass"', 0, 1),
    ):
        result = filterd("replay", tmp_path / "Maildir", "-p", policy(tmp_path, when), *believed)
        found = counts(result)
        assert (found["would change"], found["cannot tell"]) == (changes, unknown), (when, result.stdout)
    other = filterd("replay", tmp_path / "Maildir", "-p", policy(tmp_path, "true"), *believed[:2], "mx.other.example")
    assert "no Authentication-Results of mx.other.example" in other.stdout


def test_mail_that_does_not_tell_its_client_cannot_be_told(tmp_path: Path, names: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "1.eml").write_bytes(stored(SCENES[0], received=False))
    (tmp_path / "a" / "2.eml").write_bytes(b"\x00\xff not a mail")
    (tmp_path / "a" / "3.eml").symlink_to("nowhere")
    (tmp_path / "a" / "notes.txt").write_bytes(b"no mail")
    result = filterd("replay", tmp_path / "a", "-p", policy(tmp_path, "true"), "--from-received", "--zone", names)

    assert result.exit_code == 0
    assert counts(result) == {"mails": 3, "end as before": 0, "would change": 0, "cannot tell": 3}
    assert "  2  no Received field names a client\n" in result.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "say whose mail it is: --from-received, or --client-ip for all of it"),
        (["--from-received", "--zone", "/nowhere"], "/nowhere: cannot be read"),
        (["--client-ip", "192.0.2.1", "--sender", "a b"], "'a b' is no mail address"),
        (["--from-received", "--against", "/nowhere"], "/nowhere: cannot be read"),
    ],
)
def test_what_cannot_be_done_is_misuse(tmp_path: Path, mbox: Path, options: list[str], says: str) -> None:
    result = filterd("replay", mbox, "-p", policy(tmp_path, "true"), *options)

    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
