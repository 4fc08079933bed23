"""What is right and hardly meant is warned of; what is meant is not."""

import pytest

from filterd.policy.load import load
from filterd.policy.warnings import warnings


def said(*rules: str, more: str = "") -> list[str]:
    lines = "".join(f"  - {{ name: {name}, {rule} }}\n" for name, rule in zip("abcd", rules, strict=False))
    return [problem for _, problem in warnings(load(f"version: 1\nrules:\n{lines}{more}", "p"))]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (("when: 'true', then: reject", "when: from_us, then: tag"), "b never fires: a, which is asked before it, alw"),
        (("when: from_us, then: accept", "when: ' from_us ', then: reject"), "b never fires: a, which is asked before"),
        (("when: from_us, then: accept", "when: from_us, at: data, then: tag"), "b never fires"),
        (("when: 'false', then: reject",), "a never fires: its condition is false"),
        (("when: from_us, then: tag", "when: from_us, then: reject"), "b asks the same as a: one rule can do both"),
        (("when: message.size > 5, then: reject", "when: from_us, then: accept"), "b accepts at mail, before a"),
        (("when: from_us, then: { score: 1 }",), "scores are added up, and nothing reads the sum"),
    ],
)
def test_what_is_warned_of(rules: tuple[str, ...], expected: str) -> None:
    (problem,) = said(*rules)

    assert problem.startswith(expected)


@pytest.mark.parametrize(
    "rules",
    [
        ("when: 'true', then: tag", "when: from_us, then: reject"),
        ("when: 'true', then: reject, mode: observe", "when: from_us, then: tag"),
        ("when: 'true', at: end_of_message, then: quarantine", "when: from_us, then: reject"),
        ("when: 'true', at: rcpt, then: reject", "when: message.size > 5, then: tag"),
        ("when: from_us, then: tag", "when: from_us, at: data, then: reject"),
        ("when: from_us, then: { score: 1 }", "when: score > 1, then: tag"),
    ],
)
def test_what_is_meant(rules: tuple[str, ...]) -> None:
    assert said(*rules) == []


def test_a_score_is_read_by_its_section() -> None:
    assert said("when: from_us, then: { score: 1 }", more="score: { tag: 1 }\n") == []


@pytest.mark.parametrize(
    ("rule", "warned"),
    [
        ("when: 'iprev.result == \"fail\"', then: { score: 1 }", True),
        ("when: 'iprev.result == \"fail\"', at: end_of_headers, then: { score: 1 }", False),
        ("when: 'iprev.result == \"fail\"', then: reject", False),
        ("when: client.relay, then: { score: 1 }", False),
    ],
)
def test_what_adds_up_is_asked_when_the_client_of_a_relay_is_known(rule: str, warned: bool) -> None:
    score, relays = "score: { tag: 1 }\n", "networks: { relays: [192.0.2.1] }\n"
    assert said(rule, more=score) == []
    told = said(rule, more=score + relays)
    assert [each.startswith("a leaves out what `networks.relays` bring") for each in told] == [True] * warned


@pytest.mark.parametrize(
    ("server", "warned"), [("{ }", True), ("{ workers: 1 }", False), ("{ state: 'sqlite:/var/lib/state.db' }", False)]
)
def test_greylisting_without_a_common_store(server: str, warned: bool) -> None:
    told = said("when: from_us, then: tag", more=f"greylist: {{ }}\nserver: {server}\n")
    assert [each.startswith("without `server.state` each worker") for each in told] == [True] * warned


_SERVICE_ALONE = "server: { milter: [], policy_service: ['unix:/run/p'] }\n"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", []),
        (_SERVICE_ALONE, ["a never fires: it asks for content", "late never counts: author.domain is of the content"]),
    ],
)
def test_what_only_a_milter_sees_is_never_seen_without_one(more: str, expected: list[str]) -> None:
    limits = "limits:\n" + "".join(
        f"  - {{ name: {name}, key: {key}, rate: 5 per 1h, then: defer }}\n"
        for name, key in (("late", "author.domain"), ("early", "client.ip"))
    )
    found = said("when: author.domain == 'a.example', then: reject", "when: from_us, then: tag", more=more + limits)

    assert len(expected) == len(found)
    assert all(problem.startswith(start) for problem, start in zip(found, expected, strict=True))
