"""No mail passes DMARC as somebody who did not send it; every honest mail that looks like one of those passes."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from spoofing import author_tricks, chain_tricks, dkim_tricks, envelope_tricks, results_tricks, user_tricks
from spoofing.cast import ATTACKER, Attack, Honest
from spoofing.readers import end, misled
from spoofing.stage import OBSERVING, Seen, behind_postfix, bundled, shipped

from filterd.mail.message import split
from filterd.policy.verdict import QUARANTINE_FIELD, TAG_FIELD

_ROOMS = (author_tricks, chain_tricks, dkim_tricks, envelope_tricks, results_tricks, user_tricks)
ATTACKS: list[Attack] = [each for room in _ROOMS for each in room.attacks()]
HONEST: list[Honest] = [each for room in _ROOMS for each in room.honest()]

# What may have come through a list or a forwarder, as anybody can say, goes to the Junk folder; all else is refused.
_INDIRECT = re.compile(rb"(?mi)^(list-id|resent-[a-z]+|arc-seal):")


def ends(seen: Seen) -> str:
    """How a mail ended; a refusal and several copies are told of each."""
    return " and ".join([*filter(None, [seen.refused]), *sorted(map(end, seen.delivered))])


def all_ends(play: Iterable[Seen]) -> dict[str, str]:
    return {each.mail.name: ends(each) for each in play}


def all_misled(seen: Iterable[Seen]) -> dict[str, list[str]]:
    """Which mails would mislead a program, and how."""
    found = {each.mail.name: [how for message in each.delivered for how in misled(message)] for each in seen}
    return {name: how for name, how in found.items() if how}


def pass_as_another(seen: dict[str, Seen]) -> list[str]:
    """The attacks by which the attacker passes as anybody else."""
    return [
        each.name
        for each in ATTACKS
        for message in seen[each.name].delivered
        if "pass as" in (said := end(message))
        and not said.endswith(ATTACKER)
        and (each.lie is None or each.lie in message)
    ]


def test_every_attack_has_an_honest_twin() -> None:
    assert {each.twin for each in ATTACKS} <= {each.name for each in HONEST}


def test_the_bundled_mta(tmp_path: Path) -> None:
    expected = {each.name: each.ends for each in ATTACKS} | {
        each.name: each.ends or f"pass as {each.author}" for each in HONEST
    }
    with bundled(tmp_path, OBSERVING) as play:
        seen = play([*ATTACKS, *HONEST])

    assert pass_as_another(seen) == []
    assert expected == all_ends(seen.values())
    assert all_misled(seen.values()) == {}


@pytest.mark.system
def test_postfix() -> None:
    expected = {each.name: each.postfix or each.ends for each in ATTACKS} | {
        each.name: each.ends or f"pass as {each.author}" for each in HONEST
    }
    with behind_postfix(OBSERVING) as play:
        seen = play([*ATTACKS, *HONEST])

    assert pass_as_another(seen) == []
    assert expected == all_ends(seen.values())
    assert all_misled(seen.values()) == {}


def test_the_shipped_policy(tmp_path: Path) -> None:
    with bundled(tmp_path, shipped()) as play:
        seen = play([*ATTACKS, *HONEST])

    found = {name: places(each) for name, each in seen.items()}
    strangers = [each for each in ATTACKS if each.user is None and "pass as" not in each.ends]
    assert {each.name: ["inbox"] for each in HONEST} == {each.name: found[each.name] for each in HONEST}
    assert {each.name: shipped_place(each) for each in strangers} == {each.name: found[each.name] for each in strangers}


def shipped_place(attack: Attack) -> list[str]:
    """Where an attack ends by the shipped policy, never as if all were well."""
    if attack.ends.startswith("temperror"):
        return ["tagged"]
    header = attack.content.partition(b"\r\n\r\n")[0]
    return ["junk"] if attack.ends.startswith("fail") and _INDIRECT.search(header) else []


def places(seen: Seen) -> list[str]:
    """Where the copies of a mail are found."""
    headers = [split(message)[0] for message in seen.delivered]
    return [
        "junk" if header.has(QUARANTINE_FIELD) else "tagged" if header.has(TAG_FIELD) else "inbox" for header in headers
    ]
