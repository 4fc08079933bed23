"""`filterd explain` of mails that were judged before: found by name, or listed; what is shown is what was decided."""

import json
import time
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from command_line import SHIPPED_POLICY, filterd
from dkim_mail import rsa_pair

from filterd.backend.decisions import DecisionWriter
from filterd.backend.zone import zone_resolver
from filterd.cli.painted import painted
from filterd.demo.cast import HOST, READER, scenes, zone
from filterd.dkim.sign import SigningKey
from filterd.engine.replay import StoredMail, judge
from filterd.engine.runtime import Runtime
from filterd.mail.address import parse_path
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.explain import explain
from filterd.policy.load import load
from filterd.policy.schema import Decisions
from filterd.policy.transcript import Transcript

KEY = SigningKey.load(rsa_pair().pem)


def judged() -> dict[str, Transcript]:
    """The demonstration's mails, by title; their queue ids are Q0, Q1 ..."""
    policy = load(SHIPPED_POLICY.read_text(), "p.yaml")
    taken: dict[str, Transcript] = {}
    resolver = zone_resolver(zone(KEY))
    for number, scene in enumerate(scenes(KEY, int(time.time()))):
        found: list[Transcript] = []
        sender = ReversePath(scene.sender, parse_path(scene.sender))
        mail = StoredMail(
            scene.message,
            Client(ip_address(scene.client_ip)),
            scene.helo,
            sender,
            (ForwardPath(READER, parse_path(READER)),),
            scene.user,
        )
        judge(Runtime(policy, HOST, lambda _: resolver, found.append), mail)
        transaction = replace(found[0].transaction, id=f"c{number}.1", queue_id=f"Q{number}")
        taken[scene.title] = replace(found[0], transaction=transaction)
    return taken


@pytest.fixture
def mails() -> dict[str, Transcript]:
    return judged()


@pytest.fixture
def store(tmp_path: Path, mails: dict[str, Transcript]) -> Path:
    file = tmp_path / "decisions.db"
    writer = DecisionWriter(Decisions(file=str(file)), lambda why, dropped: None)
    for each in mails.values():
        writer.put(each)
    writer.close(60)
    return file


def test_the_page_is_that_of_the_mail_as_it_was_judged(store: Path, mails: dict[str, Transcript]) -> None:
    for each in mails.values():
        assert each.transaction.queue_id is not None
        result = filterd("explain", each.transaction.queue_id, "--store", store)

        assert (result.stdout, result.stderr) == (explain(each), "")
        assert result.exit_code == (1 if each.verdict.disposition.final else 0)


def test_the_policy_knows_the_store(store: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(f"version: 1\ndecisions: {{ file: {store} }}\n")
    result = filterd("explain", "c0.1", "-p", tmp_path / "p.yaml", "--json")

    assert json.loads(result.stdout)["transaction"]["queue_id"] == "Q0"


def test_of_several_mails_the_newest_is_shown_and_the_others_are_named(
    store: Path, mails: dict[str, Transcript]
) -> None:
    first = next(iter(mails.values()))
    again = replace(first, at=first.at + 5, transaction=replace(first.transaction, id="later.1"))
    writer = DecisionWriter(Decisions(file=str(store)), lambda why, dropped: None)
    writer.put(again)
    writer.close(60)

    result = filterd("explain", "Q0", "--store", store)
    assert result.stdout == explain(again)
    assert result.stderr.startswith("2 mails bear Q0: this is the newest; the others are c0.1 (")


def test_mails_are_listed_newest_first(store: Path, mails: dict[str, Transcript]) -> None:
    lines = filterd("explain", "--store", store, "--last", "3").stdout.splitlines()

    assert lines[0].split() == ["when", "(UTC)", "queue", "id", "session", "verdict", "rule", "client", "from", "to"]
    assert [line.split()[2] for line in lines[1:]] == [f"Q{len(mails) - 1 - each}" for each in range(3)]


def test_a_list_can_be_narrowed(store: Path) -> None:
    result = filterd("explain", "--store", store, "--sender", "@evil", "--recipient", READER, "--since", "1d")
    assert all("@evil" in line for line in result.stdout.splitlines()[1:])

    result = filterd("explain", "--store", store, "--client-ip", "198.18.0.1")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "no mail fits\n")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["NOSUCH", "--store", "{store}"], "no mail has the queue id or session 'NOSUCH', and no file that name"),
        (["NOSUCH"], "there is no store of decisions to look in: say --store FILE, or -p POLICY"),
        (["NOSUCH", "-p", "{policy}"], "there is no store of decisions to look in: the policy keeps none"),
        (["NOSUCH", "--store", "{store}x"], "there is no file {store}x"),
        (["--store", "{store}", "--since", "yesterday"], "'yesterday' is no time; 30m, 2h or 7d would be one"),
    ],
)
def test_what_cannot_be_found_is_misuse(store: Path, options: list[str], says: str) -> None:
    named = {"store": store, "policy": SHIPPED_POLICY}
    result = filterd("explain", *(each.format(**named) for each in options))

    assert (result.exit_code, result.stdout) == (2, "")
    assert says.format(**named) in result.stderr


def test_colour_changes_no_text(mails: dict[str, Transcript]) -> None:
    from click import unstyle

    for each in mails.values():
        page = painted(explain(each))
        assert "\x1b[1m" in page
        assert unstyle(page) == explain(each)


def test_a_mail_is_judged_again_by_another_policy(store: Path, tmp_path: Path) -> None:
    def again(when: str) -> tuple[int, str, str]:
        policy = tmp_path / "new.yaml"
        policy.write_text(
            f"version: 1\ndecisions: {{ file: {store} }}\nrules: [{{ name: new, when: {when!r}, then: reject }}]"
        )
        result = filterd("explain", "--replay", "Q0", "-p", policy)
        return result.exit_code, result.stdout.splitlines()[0], result.stderr

    code, verdict, told = again('dmarc.result == "pass"')
    assert (code, verdict) == (1, "verdict   rejected by new")
    assert told.endswith("it was accepted by no rule\n")
    assert again('dmarc.result == "fail"')[:2] == (0, "verdict   accepted: no rule decided")
    assert again('spf.helo_result == "fail"')[:2] == (
        2,
        "verdict   cannot tell: dns for mail.bank.example was not asked",
    )
