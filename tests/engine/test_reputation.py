"""What is known of the client's address: asked where a rule wants it, told of in Authentication-Results."""

from ipaddress import ip_address

import pytest

from filterd.backend.zone import zone_resolver
from filterd.engine.changes import InsertField
from filterd.engine.replay import StoredMail, judge
from filterd.engine.runtime import Runtime
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.load import load
from filterd.policy.transcript import Transcript

_ZONE = """\
$TTL 300
@                         IN SOA ns.test. h.test. 1 2 3 4 5
9.113.0.203.in-addr.arpa.  IN PTR mx.example.org.
mx.example.org.            IN A 203.0.113.9
8.113.0.203.in-addr.arpa.  IN PTR mx.example.org.
"""
_REFUSE = (
    'rules: [{ name: nameless, when: iprev.result != "pass", then: reject, reply: "550 5.7.25 who is {client.ip}" }]'
)


def _judged(client: str, policy: str, user: str | None = None) -> tuple[Transcript, str]:
    """The transcript, and the Authentication-Results that the mail leaves with."""
    transcripts: list[Transcript] = []
    runtime = Runtime(
        load(f"version: 1\n{policy}", "p.yaml"), "mx.home.example", lambda _: zone_resolver(_ZONE), transcripts.append
    )
    envelope = ReversePath("", None), (ForwardPath("anna@home.example", None),)
    mail = StoredMail(
        b"From: a@example.org\r\n\r\nx\r\n", Client(ip_address(client)), "mx.example.org", *envelope, user
    )
    changes = judge(runtime, mail).changes
    values = [each.value for each in changes if isinstance(each, InsertField) and each.name == "Authentication-Results"]
    return transcripts[-1], "".join(values)


@pytest.mark.parametrize(
    ("client", "code", "name", "rule"),
    [
        ("203.0.113.9", "pass", "mx.example.org", None),
        ("203.0.113.8", "fail", None, "nameless"),
        ("203.0.113.7", "permerror", None, "nameless"),
    ],
)
def test_a_rule_asks_whether_the_clients_name_leads_back(
    client: str, code: str, name: str | None, rule: str | None
) -> None:
    transcript, results = _judged(client, _REFUSE)
    iprev = transcript.results.iprev

    assert iprev is not None
    assert (iprev.code, iprev.name and iprev.name.name, transcript.verdict.rule) == (code, name, rule)
    assert ("iprev=pass (mx.example.org) policy.iprev=203.0.113.9" in results) == (rule is None)


def test_nobody_asks_where_no_rule_does() -> None:
    transcript, results = _judged("203.0.113.9", "")

    assert transcript.results.iprev is None
    assert "iprev" not in results


def test_our_own_mail_is_not_judged_as_a_strangers() -> None:
    transcript, _ = _judged("203.0.113.7", _REFUSE, user="anna")

    assert transcript.results.iprev is None
    assert transcript.verdict.rule is None
