"""Which ARC fields make a chain in form (RFC 8617 4, 5.2 steps 1 to 3)."""

from collections.abc import Callable

import pytest
from arc_mail import AUTHSERV_ID, DOMAINS, chain_of, replaced, sealed_by_hand, without
from dkim_mail import MAIL, NOW, split
from hypothesis import given
from hypothesis import strategies as st

from filterd.arc.sets import (
    MAX_OCTETS,
    MAX_SETS,
    ArcError,
    ChainStatus,
    collect,
    parse_message_signature,
    read_results,
)
from filterd.authres.result import AuthenticationResults
from filterd.dkim.signature import SignatureError
from filterd.mail.domain import Domain
from filterd.mail.header import Field, Header
from filterd.mail.reason import Reason

NAMES = (b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results")
TWO_HOPS = chain_of(2)


def fault_of(mail: bytes) -> tuple[Reason, int]:
    with pytest.raises(ArcError) as caught:
        collect(split(mail)[0])
    return caught.value.reason, caught.value.instance


def test_a_mail_without_arc_fields_has_no_sets() -> None:
    assert collect(split(MAIL)[0]) == ()


def test_sets_come_oldest_first_with_what_they_claim() -> None:
    sets = collect(split(TWO_HOPS)[0])
    assert [each.instance for each in sets] == [1, 2]
    assert [each.seal.chain for each in sets] == [ChainStatus.NONE, ChainStatus.PASS]
    assert [Domain.parse(domain) for domain in DOMAINS[:2]] == [each.seal.sdid for each in sets]
    for each in sets:
        fields = (each.seal_field, each.message_signature_field, each.results_field)
        assert tuple(field.name for field in fields) == NAMES


def test_sets_are_told_by_their_number_and_not_by_their_place() -> None:
    header, _ = split(TWO_HOPS)
    assert collect(header) == collect(Header.of(reversed(header.fields)))


def field_of(mail: bytes, name: bytes, instance: int) -> Field:
    """The field of that set, in a mail whose newest set stands highest."""
    return list(reversed(split(mail)[0].all(name.decode())))[instance - 1]


@pytest.mark.parametrize("instance", [1, 2])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda field: (), id="missing"),
        pytest.param(lambda field: (field, field), id="double"),
        pytest.param(lambda field: (Field(field.name, field.value.replace(b"i=", b"i=1", 1)),), id="renumbered"),
    ],
)
def test_each_set_has_each_field_once(name: bytes, instance: int, change: Callable[[Field], tuple[Field, ...]]) -> None:
    field = field_of(TWO_HOPS, name, instance)
    assert Reason.ARC_STRUCTURE is fault_of(replaced(TWO_HOPS, field, *change(field)))[0]


@pytest.mark.parametrize("missing", NAMES)
@pytest.mark.parametrize("double", NAMES)
def test_one_field_twice_does_not_stand_for_another(missing: bytes, double: bytes) -> None:
    twice = field_of(TWO_HOPS, double, 2)
    mail = replaced(TWO_HOPS, twice, twice, Field(double, twice.value))
    assert fault_of(without(mail, field_of(TWO_HOPS, missing, 1))) == (Reason.ARC_STRUCTURE, 2)


def test_a_chain_has_no_gaps_and_begins_with_one() -> None:
    first = [field_of(TWO_HOPS, name, 1) for name in NAMES]
    assert fault_of(without(TWO_HOPS, *first)) == (Reason.ARC_STRUCTURE, 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "instance", [b"", b"i=;", b"i=0;", b"i=00;", b"i=51;", b"i=001;", b"i=-1;", b"i=+1;", b"i=1.0;", b"i=one;", b"I=1;"]
)
def test_a_field_without_a_number_from_1_to_50_makes_no_chain(name: bytes, instance: bytes) -> None:
    mail = chain_of(1)
    field = field_of(mail, name, 1)
    changed = Field(name, field.value.replace(b"i=1;", instance, 1))
    assert Reason.ARC_SYNTAX is fault_of(replaced(mail, field, changed))[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("instance", [b"i=1 ;", b"i = 1 ;", b"\r\n\ti=\r\n 1\r\n ;", b"i=01;"])
def test_a_number_may_have_space_around_it(name: bytes, instance: bytes) -> None:
    """dkimpy crashes at `i=1 ;`."""
    mail = chain_of(1)
    field = field_of(mail, name, 1)
    changed = Field(name, field.value.replace(b"i=1;", instance, 1))
    assert collect(split(replaced(mail, field, changed))[0])[0].instance == 1


@pytest.mark.parametrize("name", NAMES[:2])
def test_in_a_tag_list_the_number_stands_anywhere(name: bytes) -> None:
    mail = chain_of(1)
    field = field_of(mail, name, 1)
    changed = Field(name, field.value.replace(b"i=1;", b"", 1) + b"; i=1")
    assert collect(split(replaced(mail, field, changed))[0])[0].instance == 1


def test_the_most_recent_failure_counts_before_the_form() -> None:
    """What is broken in form was sealed as failed once, and is not to be sealed again (RFC 8617 5.1, 5.2 step 2)."""
    mail = without(TWO_HOPS, field_of(TWO_HOPS, NAMES[1], 1))
    assert fault_of(mail) == (Reason.ARC_STRUCTURE, 2)
    assert fault_of(sealed_by_hand(mail, 3, "fail")) == (Reason.ARC_FAILED, 3)


@pytest.mark.parametrize(
    ("cv", "reason"),
    [
        ("pass", Reason.ARC_CV),
        ("fail", Reason.ARC_FAILED),
        ("FAIL", Reason.ARC_FAILED),
        ("unknown", Reason.ARC_CV),
        ("", Reason.ARC_CV),
        (None, Reason.ARC_CV),
    ],
)
def test_the_first_seal_says_that_there_was_no_chain(cv: str | None, reason: Reason) -> None:
    assert (reason, 1) == fault_of(sealed_by_hand(MAIL, 1, in_seal={"cv": cv}))


@pytest.mark.parametrize(
    ("cv", "reason"), [("none", Reason.ARC_CV), ("fail", Reason.ARC_FAILED), (None, Reason.ARC_CV)]
)
def test_further_seals_say_that_the_chain_held(cv: str | None, reason: Reason) -> None:
    assert (reason, 2) == fault_of(sealed_by_hand(chain_of(1), 2, in_seal={"cv": cv}))


def test_nobody_goes_on_behind_a_failure() -> None:
    assert fault_of(sealed_by_hand(sealed_by_hand(MAIL, 1, "fail"), 2, "pass")) == (Reason.ARC_CV, 2)


@pytest.mark.parametrize("cv", ["none", "None", "NONE"])
def test_the_status_is_written_in_any_case(cv: str) -> None:
    assert ChainStatus.NONE is collect(split(sealed_by_hand(MAIL, 1, cv))[0])[0].seal.chain


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"h": "from"}, Reason.ARC_SYNTAX),
        ({"h": ""}, Reason.ARC_SYNTAX),
        ({"a": None}, Reason.ARC_SYNTAX),
        ({"a": "rsa-sha512"}, Reason.ARC_SYNTAX),
        ({"a": "rsa-sha1"}, Reason.DKIM_SHA1),
        ({"d": None}, Reason.ARC_SYNTAX),
        ({"d": "com"}, Reason.ARC_SYNTAX),
        ({"d": "a..example"}, Reason.ARC_SYNTAX),
        ({"s": None}, Reason.ARC_SYNTAX),
        ({"s": "a b"}, Reason.ARC_SYNTAX),
        ({"s": "x." * 110 + "x"}, None),
        ({"s": "x." * 126 + "x"}, Reason.ARC_SYNTAX),
        ({"t": None}, None),
        ({"t": str(NOW + 10**6)}, None),
        ({"unknown": "tag"}, None),
    ],
)
def test_what_a_seal_may_say(changed: dict[str, str | None], reason: Reason | None) -> None:
    """RFC 8617 4.1.3; tags that are not known are ignored (RFC 6376 3.2)."""
    mail = sealed_by_hand(MAIL, 1, in_seal=changed)
    if reason is None:
        assert len(collect(split(mail)[0])) == 1
    else:
        assert (reason, 1) == fault_of(mail)


def fields_of_set(number: int) -> list[Field]:
    cv = b"pass" if number > 1 else b"none"
    return [
        Field(b"ARC-Seal", b" i=%d; a=rsa-sha256; d=a.example; s=s; cv=%b; b=eA==" % (number, cv)),
        Field(b"ARC-Message-Signature", b" i=%d; what=else" % number),
        Field(b"ARC-Authentication-Results", b" i=%d; what else" % number),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_fifty_sets_are_collected_and_more_are_not_looked_at(name: bytes) -> None:
    fields = [field for number in range(1, MAX_SETS + 1) for field in fields_of_set(number)]
    assert len(collect(Header.of(fields))) == MAX_SETS
    with pytest.raises(ArcError) as caught:
        collect(Header.of([*fields, Field(name, b"")]))
    assert (caught.value.reason, caught.value.instance) == (Reason.ARC_TOO_MANY, MAX_SETS)


def test_octets_are_bounded_before_anything_is_read() -> None:
    mail = chain_of(1)
    field = field_of(mail, NAMES[2], 1)
    size = sum(len(each.value) for each in split(mail)[0] if each.key.startswith(b"arc-"))
    full = Field(field.name, field.value + b" " * (MAX_OCTETS - size))
    assert len(collect(split(replaced(mail, field, full))[0])) == 1
    assert fault_of(replaced(mail, field, Field(field.name, full.value + b" "))) == (Reason.ARC_TOO_LARGE, MAX_SETS)


@pytest.mark.parametrize(
    "value",
    [
        b" i=1; mx.list.example; none",
        b"i=1;mx.list.example;none",
        b" (of (us)) i (number) = (is) 1 () ; mx.list.example (a server) 1; none",
    ],
)
def test_results_are_read_behind_the_number(value: bytes) -> None:
    assert AuthenticationResults(AUTHSERV_ID, ()) == read_results(Field(b"ARC-Authentication-Results", value))


def test_a_number_behind_many_comments_is_not_looked_for() -> None:
    for comments, read in ((400, True), (600, False)):
        field = Field(b"ARC-Authentication-Results", b"()" * comments + b"i=1; mx.list.example; none")
        assert (read_results(field) is not None) is read


@pytest.mark.parametrize("value", [b"", b" i=1", b" i=1;", b" i=1; a b c", b" i=1; x; \xff", b" (i=1; x; none"])
def test_results_that_cannot_be_read_are_none(value: bytes) -> None:
    assert read_results(Field(b"ARC-Authentication-Results", value)) is None


SIGNATURE = b"i=2; a=rsa-sha256; c=relaxed/simple; d=list.example; s=sel; h=From : To; bh=" + b"A" * 43 + b"=; b=eA=="


def test_a_message_signature_is_a_dkim_signature_without_auid_and_version() -> None:
    signature = parse_message_signature(SIGNATURE + b"; v=7")
    assert signature.signed_names == ("from", "to")
    assert (str(signature.auid), signature.key_name) == ("@list.example", "sel._domainkey.list.example")


@pytest.mark.parametrize("name", ["ARC-Seal", "arc-seal"])
def test_a_message_signature_does_not_sign_seals(name: str) -> None:
    with pytest.raises(SignatureError):
        parse_message_signature(SIGNATURE.replace(b"To", name.encode()))


def test_a_message_signature_that_signs_results_is_taken() -> None:
    """RFC 8617 4.1.2 forbids it, the protocol's own test suite does it."""
    value = SIGNATURE.replace(b"To", b"ARC-Authentication-Results")
    assert "arc-authentication-results" in parse_message_signature(value).signed_names


TAGS = st.sampled_from([b"i", b"a", b"b", b"bh", b"cv", b"d", b"h", b"s", b"t", b"x"])
WORDS = st.sampled_from(
    [
        b"1",
        b"2",
        b"0",
        b"51",
        b"none",
        b"pass",
        b"fail",
        b"rsa-sha256",
        b"a.example",
        b"eA==",
        b"from",
        b"(",
        b")",
        b"\xff",
    ]
)
LISTS = st.lists(st.tuples(TAGS, WORDS)).map(lambda tags: b"; ".join(b"=".join(tag) for tag in tags))


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.one_of(LISTS, st.binary(max_size=80))), max_size=12))
def test_no_fields_raise_anything_but_the_own_error(fields: list[tuple[bytes, bytes]]) -> None:
    try:
        sets = collect(Header.of(Field(name, value) for name, value in fields))
    except ArcError as error:
        assert 0 <= error.instance <= MAX_SETS
    else:
        assert list(range(1, len(sets) + 1)) == [each.instance for each in sets]
    for name, value in fields:
        read_results(Field(name, value))


@given(st.one_of(LISTS, st.binary(max_size=80)))
def test_no_message_signature_raises_anything_but_its_error(value: bytes) -> None:
    try:
        parse_message_signature(value)
    except SignatureError as error:
        assert error.reason
