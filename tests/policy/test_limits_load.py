"""Limits of a policy file: when they are charged, and what is wrong with them and where."""

import pytest

from filterd.mail.transaction import Stage
from filterd.policy.errors import PolicyErrors
from filterd.policy.facts import Check
from filterd.policy.load import load
from filterd.policy.rules import Policy

VALID = "name: one, key: client.user, rate: 5 recipients per 1h"


def policy(limit: str, more: str = "", files: dict[str, bytes] | None = None) -> Policy:
    def read(name: str) -> bytes:
        try:
            return (files or {})[name]
        except KeyError:
            raise ValueError(f"{name}: there is no such file") from None

    return load(f"version: 1\n{more}\nlimits:\n- {{ {limit} }}\n", "p.yaml", read_file=read)


@pytest.mark.parametrize(
    ("limit", "stages"),
    [
        ("key: client.user, rate: 5 messages per 1h", {Stage.MAIL}),
        ("key: client.ip, rate: 5 messages per 1h", {Stage.MAIL}),
        ("key: client.user, rate: 5 recipients per 1h", {Stage.RCPT}),
        ("key: envelope.recipient, rate: 5 messages per 1h", {Stage.RCPT}),
        ("key: client.user, rate: 5 MB per 1h", {Stage.END_OF_MESSAGE}),
        ("key: client.user, rate: 5 failures per 1h", {Stage.RCPT}),
        ("key: client.user, rate: 5 networks per 1h", {Stage.MAIL}),
        ("key: author.domain, rate: 5 recipients per 1h", {Stage.END_OF_HEADERS}),
        ("key: client.user, rate: 5 recipients per 1h, when: message.indirect", {Stage.END_OF_HEADERS}),
        ("key: client.user, rate: 5 recipients per 1h, exempt: message.size < 100", {Stage.END_OF_MESSAGE}),
        ("key: client.user, rate: 5 recipients per 1h, then: quarantine", {Stage.DATA}),
        ("key: client.user, rate: [5 messages per 1h, 5 recipients per 1h, 5 MB per 1h]",
         {Stage.MAIL, Stage.RCPT, Stage.END_OF_MESSAGE}),
    ],
)  # fmt: skip
def test_a_limit_is_charged_as_soon_as_all_is_known(limit: str, stages: set[Stage]) -> None:
    found = policy(f"name: one, {limit}")

    assert {stage for stage in Stage if found.limits[stage]} == stages
    assert all(found.judges(stage) for stage in stages)


def test_a_limit_causes_the_checks_that_it_names() -> None:
    found = policy('name: one, key: spf.domain, rate: 5 messages per 1h, when: spf.result == "pass"')

    assert found.needs_at(Stage.MAIL) == {Check.SPF}


@pytest.mark.parametrize(
    ("limit", "problem"),
    [
        (VALID.replace("client.user", "client.usr"), "limits[0].key[0]: there is no fact client.usr; did you mean client.user?"),
        (VALID.replace("client.user", "dkim.pass_domains"), "dkim.pass_domains is a list"),
        (VALID.replace("5 recipients per 1h", "5 mails/h"), "'5 mails' is no number of messages"),
        (VALID.replace("5 recipients per 1h", "[1 messages per 1h, 2 messages per 60m]"), "two rates count messages"),
        (f"{VALID}, burst: 5", "a burst is less than the rate"),
        (f"{VALID}, when: client.authentic", "there is no fact or function client.authentic"),
        (f"{VALID}, exempt: client.user == 5", "cannot be applied"),
        (f"{VALID}, then: refuse", "'refuse' is not possible here"),
        (f"{VALID}, then: quarantine, reply: 451 4.7.1 no", "quarantine has no reply"),
        (f"{VALID}, reply: 550 5.7.1 no", "the reply of defer has a 4xx code"),
        (f'{VALID}, reply: "451 4.7.1 {{limit.retry}}"', "there is no fact limit.retry; did you mean limit.retry_after?"),
        (f"{VALID}, fold: {{ ipv4: 33 }}", "less than or equal to 32"),
        (f"{VALID}, overrides: none", "none: there is no such file"),
        (f"{VALID}, overrides: vip", "vip:2: "),
        (f"{VALID}, overrides: vip2", "the limit does not count messages"),
        (f"{VALID}, overrides: vip3", "vip3:2: Anna stands there twice"),
        ("name: one, key: envelope.recipient, rate: 5 MB per 1h", "envelope.recipient is judged at RCPT"),
        ("name: one, key: [envelope.recipient, author.domain], rate: 5 messages per 1h", "what else it names is known later"),
        ("name: one, key: envelope.recipient, rate: 5 messages per 1h, then: hold", "hold is for all"),
        ("key: client.user, rate: 5 messages per 1h", "the key name is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(limit: str, problem: str) -> None:
    files = {
        "vip": b"anna: 5 per 1h\nbob 5\n",
        "vip2": b"anna: 5 messages per 1h",
        "vip3": b"anna: 1 per 1h\nAnna: 2 per 1h",
    }

    with pytest.raises(PolicyErrors) as wrong:
        policy(limit, files=files)

    text = str(wrong.value)
    assert text.startswith("p.yaml:4:")
    assert problem in text


def test_a_name_stands_for_one_rule_or_limit() -> None:
    with pytest.raises(PolicyErrors, match="a rule is named one, too"):
        policy(VALID, 'rules: [{ name: one, when: "true", then: tag }]')
    with pytest.raises(PolicyErrors, match="two limits are named one"):
        load(f"version: 1\nlimits:\n- {{ {VALID} }}\n- {{ {VALID} }}\n", "p.yaml")


@pytest.mark.parametrize(
    "state",
    ["sqlite:/var/lib/filterd/state.db", "redis://192.0.2.1", "rediss://u:p@r.example:6380/2", "unix:///run/redis.sock",
     "redis+sentinel://a.example:26379,b.example/mail", "rediss+cluster://a.example,b.example"],
)  # fmt: skip
def test_where_state_is_kept(state: str) -> None:
    assert load(f'version: 1\nserver: {{ state: "{state}" }}', "p.yaml").server.state == state


@pytest.mark.parametrize("state", ["state.db", "sqlite:state.db", "mysql://x", "redis:", "unix:/x"])
def test_where_it_is_not(state: str) -> None:
    with pytest.raises(PolicyErrors, match=r"p\.yaml:2:11: server\.state: state is kept in sqlite:/PATH"):
        load(f'version: 1\nserver: {{ state: "{state}" }}', "p.yaml")


def test_overrides_are_part_of_the_digest() -> None:
    def digest(overrides: bytes) -> str:
        return load(f"version: 1\nlimits: [{{ {VALID}, overrides: vip }}]", "p", read_file=lambda _: overrides).digest

    assert digest(b"anna: unlimited\n") == digest(b"anna: unlimited\n") != digest(b"anna: 5 per 1h\n")
