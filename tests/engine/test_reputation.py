"""What is known of the client's address: asked where a rule wants it, told of in Authentication-Results."""

from ipaddress import ip_address

import pytest

from filterd.backend.zone import zone_resolver
from filterd.engine.changes import DeleteField, InsertField
from filterd.engine.replay import StoredMail, judge
from filterd.engine.runtime import Runtime
from filterd.mail.address import parse_path
from filterd.mail.reason import Reason
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.load import load
from filterd.policy.transcript import Transcript
from filterd.spam import Scan, Scanner, SpamCode, SpamResult

_ZONE = """\
$TTL 300
@                         IN SOA ns.test. h.test. 1 2 3 4 5
9.113.0.203.in-addr.arpa.  IN PTR mx.example.org.
mx.example.org.            IN A 203.0.113.9
8.113.0.203.in-addr.arpa.  IN PTR mx.example.org.
7.113.0.203.dnsbl.example.     IN A 127.0.0.2
6.113.0.203.dnsbl.example.     IN A 127.255.255.254
7.113.0.203.dnswl.example.     IN A 127.0.0.3
sender.example.rhsbl.example.  IN A 127.0.0.4
example.org.rhsbl.example.     IN A 127.0.0.5
"""
_REFUSE = (
    'rules: [{ name: nameless, when: iprev.result != "pass", then: reject, reply: "550 5.7.25 who is {client.ip}" }]'
)


def _desk(policy: str, scanner: Scanner | None = None) -> tuple[Runtime, list[Transcript]]:
    transcripts: list[Transcript] = []
    loaded, resolver = load(f"version: 1\n{policy}", "p.yaml"), zone_resolver(_ZONE)
    return Runtime(loaded, "mx.home.example", lambda _: resolver, transcripts.append, scanner=scanner), transcripts


def _mail(client: str, user: str | None = None, data: bytes = b"From: a@example.org\r\n\r\nx\r\n") -> StoredMail:
    sender, recipient = "b@sender.example", "anna@home.example"
    envelope = ReversePath(sender, parse_path(sender)), (ForwardPath(recipient, parse_path(recipient)),)
    return StoredMail(data, Client(ip_address(client)), "mx.example.org", *envelope, user)


def _judged(client: str, policy: str, user: str | None = None) -> tuple[Transcript, str]:
    """The transcript, and the Authentication-Results that the mail leaves with."""
    runtime, transcripts = _desk(policy)
    changes = judge(runtime, _mail(client, user)).changes
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


_LISTS = """
dnsbl:
  - { zone: dnsbl.example, score: 4 }
  - { zone: dnswl.example, codes: ["127.0.0.[2..3]"], score: -1.5 }
  - { zone: rhsbl.example, of: sender, score: 1 }
  - { zone: rhsbl.example, of: author, codes: [127.0.0.4], score: 7 }
  - { zone: rhsbl.example, of: author, codes: [127.0.0.5], score: 0.25 }
  - { zone: rhsbl.example, of: helo, score: 9 }
"""


def test_lists_add_to_the_score_and_name_themselves() -> None:
    transcript, _ = _judged("203.0.113.7", _LISTS)

    assert [(each.source, each.number) for each in transcript.verdict.summands] == [
        ("dnsbl dnsbl.example", 4.0),
        ("dnsbl dnswl.example", -1.5),
        ("dnsbl rhsbl.example", 1.0),
        ("dnsbl rhsbl.example", 0.25),
    ]
    assert transcript.log_line()["dnsbl"] == "dnsbl.example,dnswl.example,rhsbl.example"


def test_the_sum_decides() -> None:
    score = "score: { tag: 1, quarantine: 3.75, reject: 4, reply: '550 5.7.1 {score} points' }"
    transcript, _ = _judged("203.0.113.7", f"{score}\n{_LISTS}")

    assert (transcript.verdict.rule, str(transcript.verdict.reply)) == ("score.quarantine", "None")


def test_rules_ask_who_lists() -> None:
    rule = "rules: [{ name: listed, when: '\"dnsbl.example\" in dnsbl.listed', then: reject, reply: '550 5.7.1 no {client.ip}' }]"
    transcript, _ = _judged("203.0.113.7", f"{_LISTS}\n{rule}")

    assert transcript.verdict.rule == "listed"
    # The author's lists are asked at the end of the mail alone.
    assert transcript.results.dnsbl_author is None


@pytest.mark.parametrize(
    ("on_error", "verdict", "rule"),
    [
        ("skip", "continue", None),
        ("accept", "accept", "dnsbl.on_error"),
        ("defer", "defer", "dnsbl.on_error"),
        ("reject", "reject", "dnsbl.on_error"),
    ],
)
def test_a_list_that_refuses_us_lists_nobody(on_error: str, verdict: str, rule: str | None) -> None:
    transcript, _ = _judged(
        "203.0.113.6", f"dnsbl: [{{ zone: dnsbl.example, score: 100, on_error: {on_error} }}]\nscore: {{ reject: 1 }}"
    )

    assert (transcript.verdict.disposition, transcript.verdict.rule) == (verdict, rule)
    assert transcript.verdict.summands == ()
    assert Reason.DNSBL_REFUSED in transcript.reasons()


class Oracle:
    """A scanner that says what it is told to, and keeps what it was shown."""

    def __init__(self, result: SpamResult | Exception) -> None:
        self.shown: list[tuple[bytes, str | None]] = []
        self._result = result

    def begin(self, mail: bytes, user: str | None) -> Scan:
        self.shown.append((mail, user))
        return self

    def result(self) -> SpamResult:
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


_SPAMD = "spamd: { address: inet:783@127.0.0.1, max_size: 2KiB"
_FOUND = SpamResult(
    SpamCode.SPAM, 7.3, 5.0, ("GTUBE",), (("X-Spam-Flag", "YES"), ("X-Spam-Report", "* 7.0 A\n\t* 0.3 B")), "x"
)


def test_a_scanner_sees_the_mail_and_its_fields_are_written() -> None:
    oracle = Oracle(_FOUND)
    runtime, transcripts = _desk(f"{_SPAMD}, user: recipient }}\nscore: {{ quarantine: 7 }}", oracle)
    data = b"X-Spam-Status: No\r\nFrom: a@example.org\r\nX-SPAM-Level: \r\n\r\nx\r\n"
    changes = judge(runtime, _mail("203.0.113.9", data=data)).changes

    # What others say of the mail is not shown: spamd would hand on some of it as its own.
    assert oracle.shown[0][0].endswith(b"\r\nFrom: a@example.org\r\n\r\nx\r\n")
    assert b"X-S" not in oracle.shown[0][0]
    assert b"[203.0.113.9]" in oracle.shown[0][0]
    assert oracle.shown[0][1] == "anna@home.example"
    assert transcripts[-1].verdict.rule == "score.quarantine"
    assert transcripts[-1].log_line()["spam"] == "spam:7.3"
    assert {(each.name.lower(), each.occurrence) for each in changes if isinstance(each, DeleteField)} == {
        ("x-spam-status", 1),
        ("x-spam-level", 1),
    }
    inserted = [(each.name, each.value) for each in changes if isinstance(each, InsertField)]
    assert [each for each in reversed(inserted) if each[0].startswith("X-Spam")] == list(_FOUND.fields)


@pytest.mark.parametrize(
    ("result", "policy", "verdict", "rule"),
    [
        (SpamResult(SpamCode.TEMPERROR, reason=Reason.SPAM_TIMEOUT), "", "continue", None),
        (SpamResult(SpamCode.TEMPERROR, reason=Reason.SPAM_TIMEOUT), ", on_error: defer", "defer", "spamd.on_error"),
        (RuntimeError("broken"), ", on_error: defer", "defer", "spamd.on_error"),
        (RuntimeError("broken"), "", "continue", None),
        (SpamResult(SpamCode.HAM, -1.0, 5.0), ", on_error: reject", "continue", None),
    ],
    ids=range(5),
)
def test_a_scanner_that_cannot_say_ends_by_its_on_error(
    result: SpamResult | Exception, policy: str, verdict: str, rule: str | None
) -> None:
    runtime, transcripts = _desk(f"{_SPAMD}{policy} }}", Oracle(result))
    changes = judge(
        runtime, _mail("203.0.113.9", data=b"X-Spam-Status: No\r\nFrom: a@example.org\r\n\r\nx\r\n")
    ).changes

    assert (transcripts[-1].verdict.disposition, transcripts[-1].verdict.rule) == (verdict, rule)
    # Nobody else's word passes for the scanner's, whatever happened to ours.
    assert (DeleteField("x-spam-status", 1) in changes) == (verdict == "continue")


def test_large_mail_is_not_scanned() -> None:
    oracle = Oracle(_FOUND)
    runtime, transcripts = _desk(f"{_SPAMD} }}", oracle)
    judge(runtime, _mail("203.0.113.9", data=b"From: a@example.org\r\n\r\n" + b"x" * 3000))
    found = transcripts[-1].results.spam

    assert oracle.shown == []
    assert found is not None
    assert (found.code, found.reason) == (SpamCode.SKIPPED, Reason.SPAM_TOO_LARGE)


def test_mail_that_was_decided_before_is_not_shown_to_a_scanner() -> None:
    oracle = Oracle(_FOUND)
    rules = "rules: [{ name: friend, when: client.ip.in_net('203.0.113.0/24'), then: accept }]"
    runtime, transcripts = _desk(f"{_SPAMD} }}\n{rules}", oracle)
    changes = judge(
        runtime, _mail("203.0.113.9", data=b"X-Spam-Status: No\r\nFrom: a@example.org\r\n\r\nx\r\n")
    ).changes

    assert (oracle.shown, transcripts[-1].results.spam) == ([], None)
    assert DeleteField("x-spam-status", 1) in changes


@pytest.mark.parametrize(("ours", "shown", "rule"), [("false", 0, None), ("true", 1, "spam")])
def test_mail_from_us_is_scanned_only_where_the_policy_says_so(ours: str, shown: int, rule: str | None) -> None:
    oracle = Oracle(_FOUND)
    rules = "rules: [{ name: spam, when: spam.score > 5.0 && spam.report.contains('7.0 A'), then: reject }]"
    runtime, transcripts = _desk(f"{_SPAMD}, ours: {ours} }}\n{rules}", oracle)
    judge(runtime, _mail("203.0.113.9", user="anna"))

    assert (len(oracle.shown), transcripts[-1].verdict.rule) == (shown, rule)
    assert transcripts[-1].results.spf is None
