"""Conditions are checked whole when they are loaded, and evaluate to true or false."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.policy.conditions import ConditionError, EvaluationError, compile_condition
from filterd.policy.facts import FACTS
from filterd.policy.list_file import ListFile


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ('dmarc.result == "fail"', {"dmarc.result": "fail"}, True),
        ('dmarc.result == "fail"', {"dmarc.result": "pass"}, False),
        ('dmarc.result in ["fail", "none"]', {"dmarc.result": "none"}, True),
        ('"a.example" in dkim.pass_domains', {"dkim.pass_domains": ["a.example"]}, True),
        ("client.trusted || from_us", {"client.trusted": False, "from_us": True}, True),
        ('client.ip.in_net("192.0.2.0/24")', {"client.ip": "192.0.2.77"}, True),
        ('client.ip.in_net("192.0.2.0/24")', {"client.ip": "::ffff:192.0.2.77"}, True),
        ('client.ip.in_net("2001:db8::/32")', {"client.ip": "2001:db8::1"}, True),
        ('client.ip.in_net("192.0.2.0/24")', {"client.ip": ""}, False),
        ('author.domain.under("example.org")', {"author.domain": "mail.example.org"}, True),
        ('author.domain.under("example.org")', {"author.domain": "notexample.org"}, False),
        ('author.domain.under("bücher.example")', {"author.domain": "xn--bcher-kva.example"}, True),
        ("message.size > 1000", {"message.size": 1001}, True),
        ("message.size > 1000 ? from_us : false", {"message.size": 1001, "from_us": False}, False),
        ('{"a": dmarc.result}["a"] == "pass"', {"dmarc.result": "pass"}, True),
        ('dkim.pass_domains.exists(d, d.under("a.example"))', {"dkim.pass_domains": ["x.a.example"]}, True),
        ("score > 5", {"score": 5.5}, True),
        ("5 < score && score <= 6", {"score": 5.5}, True),
        ("score + 1 == 6.5", {"score": 5.5}, True),
        ("score in [1, 5, 7]", {"score": 5.0}, True),
        ("score > -1", {"score": -0.5}, True),
        ("score > 5 && message.size > 5", {"message.size": 9, "score": 6.0}, True),
        ('header("Subject") == "a"', {'header("subject")': "a"}, True),
        ("header('subject').contains('a')", {'header("subject")': "bab"}, True),
        ('headers( "x" ).exists(x, x == "b")', {'headers("x")': ["a", "b"]}, True),
        ('has_header("list-id") || from_us', {'has_header("list-id")': False, "from_us": True}, True),
        ('client.helo.matches("^dsl-[0-9]+")', {"client.helo": "dsl-77.example"}, True),
        ('dkim.pass_domains.filter(d, d != "a.example").exists(d, true)', {"dkim.pass_domains": ["b.example"]}, True),
    ],
)
def test_holds(text: str, values: dict[str, object], expected: bool) -> None:
    condition = compile_condition(text)

    assert tuple(sorted(values)) == condition.facts
    assert expected == condition.holds(values)


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ('dmarc.reslt == "fail"', 1, 6, "did you mean dmarc.result?"),
        ('dmarc.result == "fial"', 1, 17, "did you mean 'fail'?"),
        ('dmarc.result in ["pass", "fial"]', 1, 26, "did you mean 'fail'?"),
        ('"xyz" == spf.result', 1, 1, "it is one of 'pass'"),
        ("dmarc.result", 1, 1, "true or false"),
        ('message.size > "x"', 1, 14, "types do not fit"),
        ("from_us &&", 1, 11, "Syntax error"),
        ("from_us &&\n  frm_us", 2, 3, "did you mean from_us?"),
        ('client.ip.in_net("300.0.0.0/8")', 1, 18, "no network"),
        ('client.ip.in_net("10.0.0.1/8")', 1, 18, "host bits"),
        ('author.domain.under("a..b")', 1, 21, "no domain"),
        ('client.ip.in_nett("10.0.0.0/8")', 1, 18, "did you mean in_net?"),
        ('client.ip in ["192.0.2.0/24"]', 1, 15, 'client.ip.in_net("192.0.2.0/24")'),
        ('client.ip == "192.0.2.1/33"', 1, 14, "it is one address"),
        ('author.domain == "Bank.Example"', 1, 18, "write 'bank.example'"),
        ('"bücher.example" in dkim.pass_domains', 1, 1, "write 'xn--bcher-kva.example'"),
        ('envelope.recipient == "Kid@home.example"', 1, 23, "write 'kid@home.example'"),
        ('in_net(client.ip, "192.0.2.0/24")', 1, 7, "client.ip.in_net("),
        ("score > 5 && frm_us", 1, 14, "did you mean from_us?"),
        ("score > 5 &&\n score > 1 && frm_us", 2, 15, "did you mean from_us?"),
        ('score > "x"', 1, 7, "types do not fit"),
        ("message.size > score", 1, 14, "types do not fit"),
        ('header(client.helo) == "a"', 1, 7, 'header("subject")'),
        ('header("a b") == "a"', 1, 7, 'header("subject")'),
        ('header() == "a"', 1, 7, 'header("subject")'),
        ("size(header) > 1", 1, 6, 'header("subject")'),
        ('header[client.helo] == "a"', 1, 1, 'header("subject")'),
        ('header("a") > 5', 1, 13, "types do not fit"),
        ('client.helo.matches("[a")', 1, 21, "no regular expression: missing ]"),
        ("client.helo.matches(client.name)", 1, 20, "the pattern of matches is written out"),
        ('headers("a").exists(x, headers("b").exists(y, x == y))', 1, 20, "do not stand within one another"),
        ('client.ip in list("x.txt")', 1, 18, "in_list("),
        ('client.ip.in_list("x.txt")', 1, 19, "lists are not read here"),
        ("client.ip.in_list(client.name)", 1, 18, "in_list names a file"),
        ("", 1, 1, ""),
        ("x" * 5000, 1, 1, "longer than"),
        ("(" * 4000, 1, 1, ""),
    ],
)
def test_faults_name_their_place(text: str, line: int, column: int, said: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text)

    assert said in caught.value.text
    if said:
        assert (line, column) == (caught.value.line, caught.value.column)


def test_a_field_that_the_mail_does_not_have_is_an_evaluation_error_where_it_matters() -> None:
    with pytest.raises(EvaluationError, match="the mail has no field subject"):
        compile_condition('header("subject") == "a"').holds({})

    assert compile_condition('header("subject") == "a" || from_us').holds({"from_us": True})
    assert not compile_condition('has_header("subject") && header("subject") == "a"').holds(
        {'has_header("subject")': False}
    )


def test_a_list_is_asked_and_its_faults_have_both_places() -> None:
    def find(file: str) -> ListFile:
        return ListFile({"good.txt": "192.0.2.0/24\n", "bad.txt": "a.example\n-\n"}[file])

    assert compile_condition('client.ip.in_list("good.txt")', find).holds({"client.ip": "192.0.2.7"})
    with pytest.raises(ConditionError, match=r"bad.txt:2: a label") as caught:
        compile_condition('from_us &&\n client.ip.in_list("bad.txt")', find)
    assert (caught.value.line, caught.value.column) == (2, 20)


def test_a_network_that_is_none_at_run_time_is_an_evaluation_error() -> None:
    condition = compile_condition("client.ip.in_net(client.helo)")

    with pytest.raises(EvaluationError):
        condition.holds({"client.ip": "192.0.2.1", "client.helo": "nonsense"})


@given(st.text(max_size=60) | st.text("dmarc.result=!&|()[]\"'fail 0123", max_size=40))
def test_whatever_is_written_is_compiled_or_refused(text: str) -> None:
    try:
        compile_condition(text)
    except ConditionError as error:
        assert error.line >= 1
        assert error.column >= 0


def test_every_fact_can_be_named() -> None:
    for fact in FACTS.values():
        comparison = {
            "bool": fact.name,
            "string": f'{fact.name} == ""',
            "int": f"{fact.name} > 1",
            "double": f"{fact.name} > 1.0",
        }.get(fact.type.value, f"size({fact.name}) > 1")
        if fact.words and "" not in fact.words:
            comparison = f'{fact.name} == "{fact.words[0]}"'

        assert (fact.name,) == compile_condition(comparison).facts
