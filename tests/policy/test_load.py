"""A policy file becomes a policy, or every fault with its place."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.mail.transaction import Stage
from filterd.policy.errors import PolicyErrors
from filterd.policy.facts import Check
from filterd.policy.load import load

POLICIES = Path(__file__).parents[2] / "policies"

VALID = """\
version: 1
server:
  socket: { group: postfix, mode: "0660" }
  milter: ["unix:/run/filterd/milter.sock"]
  workers: auto
identity: { authserv_id: mx.example.org }
networks: { trusted: ["127.0.0.0/8", "::1"], relays: [192.0.2.7] }
dns: { servers: ["127.0.0.1:5353"], timeout: 5s }
rules:
  - name: refuse-forgery
    when: dmarc.result == "fail" && dmarc.policy == "reject"
    then: reject
    reply: "550 5.7.1 {dmarc.author_domain} asks for it"
  - name: no-mail-for-root
    when: envelope.recipient == "root@example.org"
    then: defer
"""


def faults(text: str) -> list[str]:
    with pytest.raises(PolicyErrors) as caught:
        load(text, "p.yaml")
    return [str(error) for error in caught.value.errors]


def test_valid() -> None:
    policy = load(VALID, "p.yaml")

    assert [rule.name for rule in policy.rules[Stage.END_OF_MESSAGE]] == ["refuse-forgery"]
    assert [rule.name for rule in policy.rules[Stage.RCPT]] == ["no-mail-for-root"]
    assert frozenset({Check.DMARC}) == policy.needs_at(Stage.END_OF_MESSAGE)
    assert policy.server.socket.mode == 0o660
    assert policy.settings.dns.servers == (("127.0.0.1", 5353),)
    assert not policy.judges(Stage.MAIL)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version: 1", "version: 2", "p.yaml:1:1: version: '2' is not possible here; allowed: 1"),
        ("version: 1\n", "", "p.yaml:1:1: version: the key version is missing"),
        ("workers: auto", "worker: auto", "p.yaml:5:3: server.worker: there is no key worker here; did you mean workers?"),
        ("workers: auto", "workers: 0", "p.yaml:5:3: server.workers: write auto, or a number of processes from 1 to 999"),
        ("workers: auto", "workers: auto\n  workers: 3", "p.yaml:6:3: server: the key workers stands here twice"),
        ("timeout: 5s", "timeout: 5", "p.yaml:8:37: dns.timeout: a duration has a unit"),
        ("timeout: 5s", "timeout: 1:30", "p.yaml:8:37: dns.timeout: a duration has a unit"),
        ("timeout: 5s", "timeout: 0s", "p.yaml:8:37: dns.timeout: "),
        ("127.0.0.1:5353", "ns.example:53", "p.yaml:8:18: dns.servers[0]: a name server is an IP address"),
        ("127.0.0.0/8", "127.0.0.1/8", "p.yaml:7:23: networks.trusted[0]: 127.0.0.1/8 has host bits set"),
        ("unix:/run/filterd/milter.sock", "unix:milter", "p.yaml:4:12: server.milter[0]: a socket reads unix:/PATH"),
        ("unix:/run/filterd/milter.sock", "inet:99999@127.0.0.1", "p.yaml:4:12: server.milter[0]: a port is a number"),
        ("unix:/run/filterd/milter.sock", "inet:8891@localhost", "p.yaml:4:12: server.milter[0]: behind the @ stands"),
        ("unix:/run/filterd/milter.sock", "inet:8891@::1", "p.yaml:4:12: server.milter[0]: inet: goes with"),
        ("0660", "0860", 'p.yaml:3:29: server.socket.mode: a mode is octal, such as "0660"'),
        ("mx.example.org", "mx..org", "p.yaml:6:13: identity.authserv_id: a label of the domain is empty"),
        ("then: reject", "then: rejct", "p.yaml:12:5: rules[0].then: 'rejct' is not possible here; did you mean reject?"),
        ("dmarc.result ==", "dmarc.reslt ==", "p.yaml:11:16: rules[0].when: there is no fact or function dmarc.reslt"),
        ('"fail"', '"fial"', "p.yaml:11:27: rules[0].when: it is never 'fial'; did you mean 'fail'?"),
        ('then: reject', 'at: mail\n    then: reject', "p.yaml:12:5: rules[0].at: dmarc.policy is not known before end_of_message"),
        ("{dmarc.author_domain}", "{dmarc.authr_domain}", "p.yaml:13:5: rules[0].reply: there is no fact {dmarc.authr_domain}"),
        ('"550 5.7.1', '"450 4.7.1', "p.yaml:13:5: rules[0].reply: the reply of reject has a 5xx code, not 450"),
        ('"550 5.7.1', '"550 4.7.1', "p.yaml:13:5: rules[0].reply: the code 550 and the status 4.7.1 are of different"),
        ('"550 5.7.1', '"hello', "p.yaml:13:5: rules[0].reply: a reply reads like"),
        ("name: no-mail-for-root", "name: refuse-forgery", "p.yaml:9:1: rules: two rules are named refuse-forgery"),
        ('== "root@example.org"', '== "r" && dmarc.result == "fail"', "p.yaml:15:5: rules[1].when: envelope.recipient is judged at RCPT"),
        ("then: defer", "then: discard", "p.yaml:15:5: rules[1].when: at RCPT one recipient is judged, and discard is for"),
        ("then: defer", "then: tag", "p.yaml:15:5: rules[1].when: at RCPT one recipient is judged, and tag is for"),
        ("rules:", "rules: 5\nmore:", "p.yaml:9:1: rules: here stands a list"),
        ("server:", "server: 5\nmore:", "p.yaml:2:1: server: here stand keys with values"),
        ("identity:", "mail_from_us: dmarc.result == \"pass\"\nidentity:", "p.yaml:6:1: mail_from_us: whose mail it is must be known"),
        ("version: 1", "version: 1\ndecisions: { file: d.db }", "p.yaml:2:14: decisions.file: "),
        ("version: 1", "version: 1\ndecisions: { file: /d, max_size: 5 }", "p.yaml:2:24: decisions.max_size: a size"),
        ("version: 1", "version: 1\ndecisions: { file: /d, keep: headers, personal: false }", "p.yaml:2:1: decisions: keep: headers"),
        ("identity:", "mail_from_us: from_us\nidentity:", "p.yaml:6:1: mail_from_us: whose mail it is must be known"),
        ("version: 1", "version: 1\n? [a]\n: b", "p.yaml:2:3: a key is a plain word"),
        ("version: 1", "version: &a 1", "p.yaml:1:10: anchors and aliases are not used here"),
        ("version: 1", "version: !!int 1", "p.yaml:1:10: tags"),
        ("version: 1", "version: [1", "p.yaml:"),
        ("version: 1", "version: 1\n\tx: 1", "p.yaml:2:1: this is no YAML"),
    ],
)  # fmt: skip
def test_start_valid_change_one_thing(old: str, new: str, expected: str) -> None:
    assert old in VALID

    assert any(line.startswith(expected) for line in faults(VALID.replace(old, new, 1))), faults(
        VALID.replace(old, new, 1)
    )


def test_all_faults_come_at_once_in_the_order_of_the_file() -> None:
    text = VALID.replace('"fail"', '"fial"').replace("{dmarc.author_domain}", "{nobody}").replace("root@", "root@", 1)

    assert [fault.split(": ")[0] for fault in faults(text)] == ["p.yaml:11:27", "p.yaml:13:5"]


def test_a_fault_in_a_block_scalar_has_its_own_line() -> None:
    text = VALID.replace(
        'when: dmarc.result == "fail" && dmarc.policy == "reject"', "when: |\n      from_us ||\n      frm_us"
    )

    assert faults(text)[0].startswith("p.yaml:13:7: rules[0].when: there is no fact or function frm_us")


def test_nothing_is_judged_before_mail_unless_the_rule_says_so() -> None:
    rule = "  - { name: a, when: client.ip == '192.0.2.1', then: reject }\n"

    assert [each.name for each in load(f"version: 1\nrules:\n{rule}", "p").rules[Stage.MAIL]] == ["a"]
    early = load(f"version: 1\nrules:\n{rule.replace('then', 'at: connect, then')}", "p")
    assert [each.name for each in early.rules[Stage.CONNECT]] == ["a"]


def test_a_reply_needs_the_checks_of_its_facts() -> None:
    rule = "  - { name: a, when: from_us, then: reject, reply: '550 5.7.1 {spf.helo_result}' }\n"

    assert Check.SPF_HELO in load(f"version: 1\nrules:\n{rule}", "p").checks


@pytest.mark.parametrize("file", sorted(POLICIES.glob("*.yaml")), ids=lambda file: file.name)
def test_shipped_policies_load(file: Path) -> None:
    assert load(file.read_text(), file.name).digest


def test_lists_are_read_once_and_are_part_of_the_digest() -> None:
    asked: list[str] = []

    def read(content: bytes) -> str:
        def read_list(file: str) -> bytes:
            asked.append(file)
            return content

        rules = "".join(
            f"  - {{ name: {name}, when: client.ip.in_list('f.txt'), then: reject }}\n" for name in ("a", "b")
        )
        return load(f"version: 1\nrules:\n{rules}", "p", read_list=read_list).digest

    assert read(b"192.0.2.1") != read(b"192.0.2.2")
    assert asked == ["f.txt", "f.txt"]


def test_a_fault_of_a_list_names_both_files() -> None:
    text = "version: 1\nrules:\n  - name: a\n    when: client.ip.in_list('f.txt')\n    then: reject\n"
    with pytest.raises(PolicyErrors) as caught:
        load(text, "p", read_list=lambda file: b"a.example\nb..example\n")

    assert str(caught.value).startswith("p:4:29: rules[0].when: f.txt:2: a label of the domain is empty")


def test_a_billion_laughs_are_not_expanded() -> None:
    text = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )

    assert "anchors and aliases are not used here" in faults(text)[0]


def test_deep_nesting_is_refused() -> None:
    assert "nested too deep" in faults("version: " + "[" * 500 + "]" * 500)[0]


@given(st.text(max_size=200))
def test_whatever_is_written_is_a_policy_or_an_error(text: str) -> None:
    try:
        load(text, "p.yaml")
    except PolicyErrors as error:
        assert error.errors


@given(st.data())
def test_a_damaged_policy_is_a_policy_or_an_error(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(VALID)))
    end = data.draw(st.integers(start, min(len(VALID), start + 12)))
    text = VALID[:start] + data.draw(st.text("ab:{}[]\"'\n -&*!?|>%@#\t0", max_size=6)) + VALID[end:]
    try:
        load(text, "p.yaml")
    except PolicyErrors as error:
        assert all(each.line >= 1 for each in error.errors)
