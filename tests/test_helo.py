"""The kinds of names that clients give themselves."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.backend.zone import zone_resolver
from filterd.engine.replay import StoredMail, judge
from filterd.engine.runtime import Runtime
from filterd.helo import HeloKind, HeloResult, check_helo_name
from filterd.mail.address import parse_path
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.load import load
from filterd.policy.transcript import Transcript

ZONE = """\
mail.example. A 192.0.2.1
six.example. AAAA 2001:db8::1
text.example. TXT hello
; fails: slow.example
"""


@pytest.mark.parametrize(
    ("helo", "kind"),
    [
        ("mail.example", HeloKind.OK),
        ("MAIL.example.", HeloKind.OK),
        ("six.example", HeloKind.OK),
        ("", HeloKind.MISSING),
        ("[192.0.2.1]", HeloKind.LITERAL),
        ("[IPv6:::ffff:192.0.2.1]", HeloKind.LITERAL),
        ("[192.0.2.2]", HeloKind.OTHER_LITERAL),
        ("[IPv6:2001:db8::1]", HeloKind.OTHER_LITERAL),
        ("[nonsense]", HeloKind.MALFORMED),
        ("192.0.2.1", HeloKind.ADDRESS),
        ("2001:db8::1", HeloKind.ADDRESS),
        ("mx.example.org", HeloKind.OWN),
        ("MX.Example.org", HeloKind.OWN),
        ("localhost", HeloKind.UNQUALIFIED),
        ("two words", HeloKind.MALFORMED),
        ("a..example", HeloKind.MALFORMED),
        ("none.example", HeloKind.UNRESOLVABLE),
        ("text.example", HeloKind.UNRESOLVABLE),
        ("slow.example", HeloKind.TEMPERROR),
    ],
)
def test_kinds(helo: str, kind: HeloKind) -> None:
    found = check_helo_name(helo, ip_address("192.0.2.1"), {"mx.example.org"}, zone_resolver(ZONE))
    assert found == HeloResult(kind)


@given(st.text(max_size=40))
def test_whatever_a_client_says_has_a_kind(helo: str) -> None:
    assert check_helo_name(helo, None, (), zone_resolver(ZONE)).kind in HeloKind


RULE = 'rules: [{ name: helo, when: \'helo.kind in ["own", "unqualified"]\', then: [{ score: 2 }, tag] }]'


@pytest.mark.parametrize(
    ("user", "rules", "kind", "tags"),
    [(None, RULE, HeloKind.OWN, ("helo",)), ("anna", RULE, None, ()), (None, "", None, ())],
)
def test_rules_read_it_of_strangers_alone_and_results_say_it_where_one_asks(
    user: str | None, rules: str, kind: HeloKind | None, tags: tuple[str, ...]
) -> None:
    policy = load(f"version: 1\nidentity: {{ authserv_id: mx.example.org }}\n{rules}\n", "p.yaml")
    transcripts: list[Transcript] = []
    runtime = Runtime(policy, "mx.example.org", lambda _: zone_resolver(ZONE), transcripts.append)
    sender, to = ("a@shop.example", "b@example.org")
    mail = StoredMail(
        b"From: a@shop.example\r\n\r\ntext\r\n",
        Client(ip_address("192.0.2.9")),
        "mx.example.org",
        ReversePath(sender, parse_path(sender)),
        (ForwardPath(to, parse_path(to)),),
        user,
    )
    finished = judge(runtime, mail)

    found = transcripts[0].results.helo
    assert (found.kind if found else None) == kind
    assert transcripts[0].tags() == tags
    assert ("x-helo=own smtp.helo=mx.example.org" in str(finished.changes)) is (kind is not None)
