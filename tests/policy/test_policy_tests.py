"""The section `tests`: what it may say, and every mistake at its place."""

from collections.abc import Mapping

import pytest

from filterd.dmarc.evaluate import DmarcCode, DmarcResult
from filterd.dnsbl import ListCode, ListResult
from filterd.engine.fallback import HEADER_TOO_LARGE, NO_RECIPIENT, not_judged, not_signed, own_fault
from filterd.limits.rate import Unit
from filterd.mail.reason import Reason
from filterd.policy.errors import PolicyErrors
from filterd.policy.load import load
from filterd.policy.load_tests import NOT_RULES
from filterd.policy.policy_tests import MAX_TESTS, Used
from filterd.policy.results import Results
from filterd.policy.schema import PolicyFile
from filterd.spam import SpamCode, SpamResult

VALID = """\
version: 1
rules:
  - { name: no-root, when: envelope.recipient == "root@example.org", then: reject }
  - { name: odd, when: spf.result == "fail", then: tag }
tests:
  - name: nobody writes to root
    given:
      client: { ip: 192.0.2.1, name: mail.example.com, helo: mail.example.com }
      user: anna
      sender: <>
      recipients: [root@example.org, anna@example.org]
      message: { from: anna@example.org, to: x@example.com, subject: hi, header: { List-Id: <a.example.org> }, body: b }
      signed_by: [example.org]
      changed: { subject: "[a] hi" }
      sealed_by: [list.example, { domain: other.example, saw: { dmarc: fail } }]
      dns:
        example.org: v=spf1 -all
        mx.example.org: [A 192.0.2.7, A 192.0.2.8]
        broken.example: fails
      clock: 2026-11-23T12:00:00Z
      spam: { score: 12.5, threshold: 6, symbols: [GTUBE] }
      used: { per-user: 199, guard: [29 failures, 40MB] }
    expect:
      verdict: accept
      rule: none
      at: mail
      reply: 550 5.7.1
      tags: [odd]
      observed: []
      results: { spf: pass, dkim.pass_domains: [example.org], from_us: true, message.size: 200 }
      recipients: { root@example.org: reject }
      adds: { X-Filterd-Tag: odd }
      removes: [Authentication-Results]
      signed: []
limits:
  - { name: per-user, key: client.user, rate: [200 recipients per 1h, 1000 recipients per 1d] }
  - { name: guard, key: client.user, rate: [30 failures per 10m, 50MB per 1h] }
  - { name: volume, key: client.ip, rate: 50MB per 1h }
spamd: { address: unix:/run/spamd.sock }
"""


def faults(text: str, files: Mapping[str, bytes] = {}) -> list[str]:
    def read(file: str) -> bytes:
        if file in files:
            return files[file]
        raise ValueError(f"{file}: cannot be read")

    with pytest.raises(PolicyErrors) as caught:
        load(text, "p.yaml", read_file=read)
    return [str(error) for error in caught.value.errors]


def test_everything_that_a_test_may_say() -> None:
    (test,) = load(VALID, "p.yaml").tests

    assert (test.name, test.place.line) == ("nobody writes to root", 6)
    assert test.given.sender == ""
    assert [each.domain for each in test.given.sealed_by] == ["list.example", "other.example"]
    assert test.given.dns.records["mx.example.org"] == ("A 192.0.2.7", "A 192.0.2.8")
    assert test.given.clock == 1795435200.0
    assert test.given.used == {
        "per-user": (Used(199),),
        "guard": (Used(29, Unit.FAILURES), Used(40_000_000, Unit.BYTES)),
    }


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("user: anna", "usr: anna", "p.yaml:9:7: tests[0].given.usr: there is no key usr here; did you mean user?"),
        ("ip: 192.0.2.1", "ip: 192.0.2.0/24", "p.yaml:8:17: tests[0].given.client.ip: here stands an IP address, such as"),
        ("ip: 192.0.2.1", "ipp: 192.0.2.1", "p.yaml:8:17: tests[0].given.client.ipp: there is no key ipp here; did you mean ip?"),
        ("{ from: anna", "{ form: anna", "p.yaml:12:18: tests[0].given.message.form: there is no key form here; did you mean from?"),
        ("subject: hi", 'subject: "a\\nb"', "p.yaml:12:61: tests[0].given.message.subject: a field stands in one line here"),
        ("List-Id: <a", '"List Id": <a', "p.yaml:12:84: tests[0].given.message.header.List Id: here stands the name of a header field"),
        ("body: b", "text: b", "p.yaml:12:7: tests[0].given.message: the mail is a file, a text or parts: one of them"),
        ("signed_by: [example.org]", "signed_by: example.org", "p.yaml:13:7: tests[0].given.signed_by: here stands a list"),
        ("[list.example,", "[list..example,", "p.yaml:15:19: tests[0].given.sealed_by[0]: a label of the domain is empty"),
        ("dmarc: fail }", "dmarc: failed }", "p.yaml:15:65: tests[0].given.sealed_by[1].saw.dmarc: 'failed' is not possible here; did you mean fail?"),
        ("A 192.0.2.7", "AA 192.0.2.7", "p.yaml:18:26: tests[0].given.dns.mx.example.org[0]: a record reads"),
        ("broken.example: f", "MX.example.org.: f", "p.yaml:16:7: tests[0].given.dns: mx.example.org stands here twice; write a list of records"),
        ("12:00:00Z", "noon", "p.yaml:20:7: tests[0].given.clock: a time reads like 2026-11-23T12:00:00Z"),
        ("2026-11", "1926-11", "p.yaml:20:7: tests[0].given.clock: a mail comes between 1970 and 2999"),
        ("sender: <>", "sender: anna@", "p.yaml:10:7: tests[0].given.sender: "),
        ("verdict: accept", "verdict: acept", "p.yaml:24:7: tests[0].expect.verdict: 'acept' is not possible here; did you mean accept?"),
        ("rule: none", "rule: no-rot", "p.yaml:25:7: tests[0].expect.rule: there is no rule no-rot; did you mean no-root?"),
        ("tags: [odd]", "tags: [od]", "p.yaml:28:14: tests[0].expect.tags[0]: there is no rule od; did you mean odd?"),
        ("spf: pass", "spf: pas", "p.yaml:30:18: tests[0].expect.results.spf: spf.result is never 'pas'; did you mean pass?"),
        ("spf: pass", "spv.result: pass", "p.yaml:30:18: tests[0].expect.results.spv.result: there is no fact spv.result; did you mean spf.result?"),
        ("spf: pass", "spf: [pass, fail]", "p.yaml:30:18: tests[0].expect.results.spf: spf.result has one value"),
        ("from_us: true", "from_us: yes", "p.yaml:30:63: tests[0].expect.results.from_us: from_us is never 'yes'; it is one of 'true', 'false'"),
        ("size: 200", "size: 2k", "p.yaml:30:78: tests[0].expect.results.message.size: message.size is a number, never '2k'"),
        ("{ root@example.org: reject }", "{ rot@example.org: reject }", "p.yaml:31:21: tests[0].expect.recipients.rot@example.org: there is no recipient rot@example.org; did you mean root@example.org?"),
        ("message: { from: anna@example.org, to: x@example.com, subject: hi, header: { List-Id: <a.example.org> }, body: b }", "message: a.eml", "p.yaml:12:7: tests[0].given.message: a.eml: cannot be read"),
        ("per-user: 199", "per-usr: 199", "p.yaml:22:15: tests[0].given.used.per-usr: there is no limit per-usr; did you mean per-user?"),
        ("per-user: 199", "per-user: many", "p.yaml:22:15: tests[0].given.used.per-user[0]: 'many' is no number of messages, recipients, failures, networks or bytes (50MB)"),
        ("per-user: 199", "per-user: 199 messages", "p.yaml:22:15: tests[0].given.used.per-user: per-user counts recipients, not messages"),
        ("per-user: 199", "guard: 199", "p.yaml:22:27: tests[0].given.used: the key guard"),
        ("[29 failures, 40MB]", "29", "p.yaml:22:30: tests[0].given.used.guard: guard counts bytes, failures; write 29 bytes, say"),
        ("guard: [29 failures, 40MB]", "volume: 1000", "p.yaml:22:30: tests[0].given.used.volume: volume counts bytes; write 1kB, say"),
        ("score: 12.5", "score: high", "p.yaml:21:15: tests[0].given.spam.score: here stands a number"),
        ("[GTUBE]", "[G TUBE]", "p.yaml:21:52: tests[0].given.spam.symbols[0]: here stands the name of a test, such as GTUBE"),
        ("{ score: 12.5, threshold: 6, symbols: [GTUBE] }", "fail", "p.yaml:21:7: tests[0].given.spam: here stands fails, or what spamd says"),
        ("spamd: {", "dnsbl: []  # {", "p.yaml:21:7: tests[0].given.spam: nobody asks spamd: there is no section `spamd`"),
        ("tests:\n", "tests:\n  - { name: a, expect: {} }\n", "p.yaml:6:16: tests[0].expect: the test expects nothing; write the verdict at least"),
        ("tests:\n", "tests:\n  - { name: a }\n", "p.yaml:6:5: tests[0].expect: the key expect is missing"),
        ("tests:\n", "tests:\n  - { name: nobody writes to root, expect: { verdict: accept } }\n", "p.yaml:5:1: tests: two tests are named nobody writes to root"),
    ],
)  # fmt: skip
def test_start_valid_change_one_thing(old: str, new: str, expected: str) -> None:
    assert old in VALID

    found = faults(VALID.replace(old, new, 1))
    assert [line for line in found if line.startswith(expected)], found


def test_their_number_is_bounded() -> None:
    one = "  - {{ name: t{}, expect: {{ verdict: accept }} }}\n"
    text = "version: 1\ntests:\n" + "".join(one.format(number) for number in range(MAX_TESTS + 1))

    assert faults(text) == [f"p.yaml:2:1: tests: here stands a list of at most {MAX_TESTS}"]


def test_a_word_is_a_file_and_a_text_with_white_space_is_itself() -> None:
    text = "version: 1\ntests:\n  - { name: a, given: { message: GIVEN, dns: GIVEN }, expect: { verdict: accept } }\n"
    (named,) = load(text.replace("GIVEN", "some.file"), "p", read_file=lambda file: file.encode()).tests
    (written,) = load(text.replace("GIVEN", '"From: a@b.example"'), "p").tests

    assert (named.message, named.zone) == (b"some.file", b"some.file")
    assert (written.message, written.zone) == (None, None)
    assert written.given.message.text == written.given.dns.text == "From: a@b.example"


def test_what_decides_besides_rules_can_be_expected() -> None:
    settings = PolicyFile.model_validate({"version": "1", "dns": {"on_error": "defer"}})
    broken = Results(dmarc=DmarcResult(DmarcCode.TEMPERROR, None))
    lists = PolicyFile.model_validate({"version": "1", "dnsbl": [{"zone": "l.example", "on_error": "defer"}]})
    listed = Results(dnsbl=(ListResult(lists.dnsbl[0].listing, ListCode.TEMPERROR, "x.example"),))
    spamd = {"address": "unix:/run/spamd.sock", "on_error": "defer"}
    scanning = PolicyFile.model_validate({"version": "1", "spamd": spamd})
    verdicts = [
        not_judged(settings, broken),
        not_judged(lists, listed),
        not_judged(scanning, Results(spam=SpamResult(SpamCode.TEMPERROR))),
        own_fault(settings),
        not_signed(None),
        not_signed(Reason.SIGN_FAILED),
        HEADER_TOO_LARGE,
        NO_RECIPIENT,
    ]

    assert tuple(verdict.rule for verdict in verdicts if verdict) == NOT_RULES
