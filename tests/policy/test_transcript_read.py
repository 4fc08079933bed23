"""`from_mapping` is the exact inverse of `to_mapping`, through JSON too, and refuses all else by name."""

import json
import math
from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filterd.lookup import Answer
from filterd.mail.domain import Domain
from filterd.mail.header import Field, Header
from filterd.mail.transaction import Client, Transaction
from filterd.policy.results import Results
from filterd.policy.transcript import Transcript
from filterd.policy.transcript_read import TranscriptError, from_mapping
from filterd.policy.verdict import Step, Summand, Verdict
from filterd.spam import SpamResult

texts = st.text(max_size=20)
domains = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]{2,5}){0,2}", fullmatch=True).map(Domain.parse)
octets = st.binary(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
facts = st.one_of(st.booleans(), st.integers(-(2**70), 2**70), numbers, texts, st.lists(texts, max_size=3), st.none())

st.register_type_strategy(Domain, domains)
st.register_type_strategy(Header, st.lists(st.builds(Field, octets, octets), max_size=3).map(Header.of))
st.register_type_strategy(
    Answer,
    st.one_of(
        st.builds(Answer, rdtype=st.just("TXT"), values=st.lists(octets, max_size=3).map(tuple)),
        st.builds(Answer, rdtype=st.sampled_from(["A", "MX"]), values=st.lists(texts, max_size=3).map(tuple)),
    ),
)
st.register_type_strategy(Step, st.builds(Step, facts=st.lists(st.tuples(texts, facts), max_size=3).map(tuple)))
st.register_type_strategy(Summand, st.builds(Summand, texts, numbers))
st.register_type_strategy(SpamResult, st.builds(SpamResult, score=numbers, threshold=numbers))
mappings = st.dictionaries(texts, numbers, max_size=3)
transcripts = st.builds(Transcript, at=numbers, times=mappings)


@settings(max_examples=150)
@given(transcripts)
def test_a_transcript_is_read_as_it_was_written(transcript: Transcript) -> None:
    data = transcript.to_mapping()

    assert transcript == from_mapping(data)
    assert transcript == from_mapping(json.loads(json.dumps(data)))


PLAIN = Transcript(Transaction("c.1", Client(None)), 1.5, "digest", "mx", None, None, None, Results(), (), Verdict())

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=10,
)


@given(st.one_of(json_values, st.dictionaries(st.sampled_from([f.name for f in fields(Transcript)]), json_values)))
def test_whatever_it_is_nothing_else_is_raised(data: Any) -> None:
    for each in (data, {**PLAIN.to_mapping(), **data} if isinstance(data, dict) else data):
        with suppress(TranscriptError):
            from_mapping(each)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "version: 2 is not known here; this filterd reads 1"),
        ({"version": True}, "version: True is not known here; this filterd reads 1"),
        ({"at": "now"}, "at: here stands a number, not 'now'"),
        ({"at": math.nan}, "at: here stands a number, not nan"),
        ({"size": 1.5}, "size: here stands a whole number, not 1.5"),
        ({"size": 10**5000}, None),
        ({"from_us": 1}, "from_us: here stands true or false, not 1"),
        ({"colour": "red"}, "there is no key 'colour' here"),
        ({"authserv_id": None}, "authserv_id: here stands a text, not None"),
        ({"transaction": {"id": "c"}}, "transaction: the key client is missing"),
        ({"transaction": {"id": "c", "client": {"ip": "1.2"}}}, "transaction.client.ip: '1.2' is not an IP address"),
        ({"results": {"dkim": [{"code": "pas"}]}}, "results.dkim[0].code: 'pas' is none of pass, fail"),
        ({"results": {"dkim": {}}}, "results.dkim: here stands a list, not dict"),
        ({"judgements": [{"stage": "end"}]}, "judgements[0].stage: 'end' is none of connect, helo"),
        ({"verdict": {"edits": [{"edit": "Burn"}]}}, "verdict.edits[0]: here stands an edit: one of AddField"),
        ({"verdict": {"override": "A.example"}}, "verdict.override: 'A.example' is not a domain in lower case"),
        ({"verdict": {"steps": [{"rule": "r", "outcome": "fired", "facts": [["a"]]}]}}, "facts[0]: here stands a list"),
        (
            {"answers": [{"name": "a", "rdtype": "TXT", "outcome": "found", "values": ["\u0100"]}]},
            "answers[0].values[0]: here stand octets",
        ),
        ({"times": {"a\n": "x"}}, "times.'a\\n': here stands a number, not 'x'"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], says: str | None) -> None:
    data = {**PLAIN.to_mapping(), **change}
    if says is None:
        assert from_mapping(data).size == change["size"]
        return
    with pytest.raises(TranscriptError) as caught:
        from_mapping(data)
    assert says in str(caught.value)


def test_what_a_later_filterd_adds_is_absent_in_an_older_record() -> None:
    data = PLAIN.to_mapping()
    del data["times"], data["signed"]

    assert from_mapping(data) == PLAIN
