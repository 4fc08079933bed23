"""What stands behind `then:` becomes edits, a summand and at most one decision, or an error at its place."""

import json
from typing import Any

import pytest

from filterd.mail.transaction import Stage
from filterd.policy.errors import PolicyErrors
from filterd.policy.facts import Check
from filterd.policy.load import load
from filterd.policy.rules import Action, Rule
from filterd.policy.schema import RuleEntry
from filterd.policy.verdict import (
    TAG_FIELD,
    AddField,
    AddRecipient,
    ChangeSender,
    PrefixSubject,
    RedirectTo,
    RemoveField,
    RemoveRecipient,
    RewriteField,
    RuleEdit,
)

HEAD = "version: 1\nrules:\n"


def rule(then: str, when: str = "from_us") -> Rule:
    policy = load(f"{HEAD}  - {{ name: r, when: {when}, then: {then} }}\n", "p")
    return next(each for rules in policy.rules.values() for each in rules if each.name == "r")


def faults(then: str, more: str = "", when: str = "from_us") -> list[str]:
    with pytest.raises(PolicyErrors) as caught:
        load(f"{HEAD}  - name: r\n    when: {when}\n    then: {then}\n{more}", "p")
    return [str(error) for error in caught.value.errors]


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        ("tag", AddField(TAG_FIELD, "r")),
        ("{ add_header: { name: X-Spf, value: 'a {spf.result}' } }", AddField("X-Spf", "a {spf.result}")),
        ("{ remove_header: { name: X-Spam } }", RemoveField("X-Spam")),
        ("{ remove_header: { name: X-Spam, matching: '^yes' } }", RemoveField("X-Spam", "^yes")),
        ("{ rewrite_header: { name: Subject, value: new } }", RewriteField("Subject", "new")),
        ("{ rewrite_header: { name: To, value: b, matching: a } }", RewriteField("To", "b", "a")),
        ("{ subject_prefix: '[SPAM]' }", PrefixSubject("[SPAM]")),
        ("{ add_recipient: archive@example.org }", AddRecipient("archive@example.org")),
        ("{ remove_recipient: kid@EXAMPLE.org }", RemoveRecipient("kid@example.org")),
        ("{ redirect: '<spam@bücher.example>' }", RedirectTo("spam@xn--bcher-kva.example")),
        ("{ change_sender: bounce@example.org }", ChangeSender("bounce@example.org")),
        ("{ change_sender: <> }", ChangeSender("")),
    ],
)
def test_each_edit(then: str, expected: RuleEdit) -> None:
    assert ((expected,), None) == (rule(then).edits, rule(then).action)


def test_a_list_is_done_in_order_and_ends_with_a_decision() -> None:
    found = rule("[{ add_header: { name: X-A, value: a } }, tag, { score: 2.5 }, { score: -1 }, quarantine]")

    assert (AddField("X-A", "a"), AddField(TAG_FIELD, "r")) == found.edits
    assert (found.score, found.action) == (1.5, Action.QUARANTINE)


def test_a_fact_in_a_text_decides_when_the_rule_runs_and_what_is_checked() -> None:
    then = "{ add_header: { name: X-Helo, value: '{spf.helo_result} {dmarc.result}' } }"

    found = rule(then, "client.trusted")

    assert (found.stage, found.shown_facts) == (Stage.END_OF_MESSAGE, ("spf.helo_result", "dmarc.result"))
    assert Check.SPF_HELO in load(f"{HEAD}  - {{ name: r, when: client.trusted, then: {then} }}\n", "p").checks


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        ("tagg", "p:5:5: rules[0].then: 'tagg' is not possible here; did you mean tag?"),
        ("add_header", "p:5:5: rules[0].then: here stand keys with values"),
        ("{ ad_header: x }", "p:5:5: rules[0].then: 'ad_header' is not possible here; did you mean add_header?"),
        ("{ score: 1, tag: x }", "p:5:5: rules[0].then: an action is a word, or one key"),
        ("[tag, [tag]]", "p:5:17: rules[0].then[1]: "),
        ("[]", "p:5:5: rules[0].then: here stands a list of at least 1"),
        ("[reject, tag]", "p:5:12: rules[0].then[0]: reject ends the judgement"),
        ("[reject, reject]", "p:5:12: rules[0].then[0]: reject ends the judgement"),
        ("{ score: a }", "p:5:13: rules[0].then.score: a score is a number"),
        ("[tag, { score: 1.2345 }]", "p:5:19: rules[0].then[1].score: a score is a number"),
        ("{ add_header: { name: X }}", "p:5:13: rules[0].then.add_header.value: the key value is missing"),
        ("{ add_header: { nme: X, value: a }}", "p:5:27: rules[0].then.add_header.nme: there is no key nme here; did you mean name?"),
        ("{ add_header: { name: 'a b', value: a }}", "p:5:27: rules[0].then.add_header.name: a header field's name"),
        ("{ add_header: { name: From, value: a }}", "p:5:27: rules[0].then.add_header.name: From is not added by rules"),
        ("{ add_header: { name: Subject, value: a }}", "p:5:27: rules[0].then.add_header.name: Subject is not added"),
        ("{ add_header: { name: authentication-results, value: a }}", "p:5:27: rules[0].then.add_header.name: authent"),
        ("{ add_header: { name: X-Filterd-Tag, value: a }}", "p:5:27: rules[0].then.add_header.name: X-Filterd-Tag is"),
        ("{ rewrite_header: { name: DKIM-Signature, value: a }}", "p:5:31: rules[0].then.rewrite_header.name: DKIM"),
        ("{ rewrite_header: { name: Content-Type, value: a }}", "p:5:31: rules[0].then.rewrite_header.name: Content"),
        ("{ remove_header: { name: Received }}", "p:5:30: rules[0].then.remove_header.name: Received is not removed"),
        ("{ remove_header: { name: X, matching: '[' }}", "p:5:39: rules[0].then.remove_header.matching: no regular"),
        ("{ add_header: { name: X, value: '{spf.reslt}' }}", "p:5:5: rules[0].then: there is no fact {spf.reslt}; did"),
        ('{ add_header: { name: X, value: "a\\x01" }}', "p:5:36: rules[0].then.add_header.value: the text has chara"),
        ("{ add_recipient: nobody }", "p:5:13: rules[0].then.add_recipient: the path is no address"),
        ("{ add_recipient: <> }", "p:5:13: rules[0].then.add_recipient: a recipient is an address"),
        ("{ redirect: '{client.user}@a.example' }", "p:5:13: rules[0].then.redirect: an address has no {fact} fields"),
        ("{ redirect: kä@a.example }", "p:5:13: rules[0].then.redirect: the local part is ASCII"),
        ("{ change_sender: a@b..c }", "p:5:13: rules[0].then.change_sender: "),
    ],
)  # fmt: skip
def test_faults_name_their_place(then: str, expected: str) -> None:
    found = faults(then)

    assert [line for line in found if line.startswith(expected)], found


def test_only_refusals_have_a_reply() -> None:
    assert "only reject and defer have a reply" in faults("[tag, quarantine]", "    reply: 550 no\n")[0]


@pytest.mark.parametrize("then", ["{ score: 1 }", "{ add_recipient: a@b.example }", "[tag, reject]", "hold"])
def test_at_rcpt_only_the_recipient_is_judged(then: str) -> None:
    assert "for the whole mail" in faults(then, when='envelope.recipient == "a@b.example"')[0]


def test_editors_are_told_every_form() -> None:
    schema: dict[str, Any] = RuleEntry.model_json_schema()
    text = json.dumps(schema["properties"]["then"])

    assert '"array"' in text
    for word in ("tag", "AddHeader", "RemoveHeader", "RewriteHeader", "SubjectPrefix", "Redirect", "Score"):
        assert word in text
    assert schema["$defs"]["AddHeader"]["required"] == ["add_header"]
    assert not schema["$defs"]["AddHeader"]["additionalProperties"]
