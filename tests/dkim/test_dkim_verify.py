"""Each signature gets the result that the RFCs give it: start valid, change one thing."""

from base64 import b64encode
from dataclasses import replace

import pytest
from dkim_mail import DOMAIN, KEY_NAME, MAIL, NOW, KeyPair, ed25519_pair, rsa_der, rsa_pair, signed, split, verify, zone
from hypothesis import given
from hypothesis import strategies as st

from filterd.dkim.verify import DkimCode, DkimResult, Verification
from filterd.lookup import Answer, Outcome, Resolver, ZoneResolver
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason

RSA, ED25519 = rsa_pair(), ed25519_pair()
P = RSA.record.partition(b"p=")[2]
DNS = zone(RSA.record)
LENGTH = len(b"Hi.\r\n\r\nWe lost the game.\r\n")


def outcome(result: DkimResult) -> tuple[DkimCode, Reason | None]:
    return result.code, result.reason


def only(results: tuple[DkimResult, ...]) -> DkimResult:
    (result,) = results
    return result


def test_a_mail_without_signatures_has_no_result() -> None:
    assert verify(MAIL, DNS) == ()


def test_a_pass_says_who_signed() -> None:
    mail = signed(MAIL, RSA, i="joe@sub.example.org")

    assert only(verify(mail, DNS)) == DkimResult(
        DkimCode.PASS,
        Domain(DOMAIN),
        auid="joe@sub.example.org",
        selector="sel",
        algorithm="rsa-sha256",
        key_bits=2048,
        signature=mail.partition(b" b=")[2][:8].decode(),
    )


@pytest.mark.parametrize("pair", [RSA, ED25519, rsa_pair(1024)])
@pytest.mark.parametrize("form", ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"])
def test_what_passes(pair: KeyPair, form: str) -> None:
    result = only(verify(signed(MAIL, pair, c=form), zone(pair.record)))

    assert outcome(result) == (DkimCode.PASS, None)


@pytest.mark.parametrize(
    "changed",
    [
        {"q": "dns/txt"},
        {"x": str(NOW + 1)},
        {"t": None},
        {"t": str(NOW + 300)},
        {"t": str(NOW - 1000), "x": str(NOW - 300)},
        {"l": str(LENGTH)},
        {"i": "@a.b.example.org"},
        {"d": "EXAMPLE.org", "s": "SEL"},
        {"h": "From : to: from:cc:\r\n\tx-none : to"},
        {"z": "From:a@b", "unknown": "tag"},
    ],
)
def test_what_a_signature_may_say(changed: dict[str, str | None]) -> None:
    assert outcome(only(verify(signed(MAIL, RSA, **changed), DNS))) == (DkimCode.PASS, None)


@pytest.mark.parametrize(
    ("changed", "code", "reason"),
    [
        ({"v": "2"}, DkimCode.NEUTRAL, Reason.DKIM_VERSION),
        ({"a": "rsa-sha3"}, DkimCode.NEUTRAL, Reason.DKIM_ALGORITHM),
        ({"q": "http/x"}, DkimCode.NEUTRAL, Reason.DKIM_QUERY),
        ({"d": None}, DkimCode.NEUTRAL, Reason.DKIM_SYNTAX),
        ({"i": "example.org"}, DkimCode.NEUTRAL, Reason.DKIM_SYNTAX),
        ({"l": ""}, DkimCode.NEUTRAL, Reason.DKIM_SYNTAX),
        ({"t": "9" * 4301}, DkimCode.NEUTRAL, Reason.DKIM_SYNTAX),
        ({"x": "9" * 4301}, DkimCode.NEUTRAL, Reason.DKIM_SYNTAX),
        ({"x": str(NOW)}, DkimCode.NEUTRAL, Reason.DKIM_FUTURE),
        ({"bh": "YWJ"}, DkimCode.NEUTRAL, Reason.DKIM_SYNTAX),
        ({"a": "rsa-sha1", "bh": b64encode(bytes(20)).decode()}, DkimCode.PERMERROR, Reason.DKIM_SHA1),
        ({"h": "to:subject"}, DkimCode.PERMERROR, Reason.DKIM_FROM_UNSIGNED),
        ({"i": "@org"}, DkimCode.PERMERROR, Reason.DKIM_IDENTITY),
        ({"i": "@badexample.org"}, DkimCode.PERMERROR, Reason.DKIM_IDENTITY),
        ({"l": str(LENGTH + 1)}, DkimCode.PERMERROR, Reason.DKIM_LENGTH_TOO_LONG),
        ({"t": str(NOW - 1000), "x": str(NOW - 301)}, DkimCode.POLICY, Reason.DKIM_EXPIRED),
        ({"t": str(NOW + 301)}, DkimCode.POLICY, Reason.DKIM_FUTURE),
        ({"l": str(LENGTH - 1)}, DkimCode.POLICY, Reason.DKIM_LENGTH),
        ({"l": "0"}, DkimCode.POLICY, Reason.DKIM_LENGTH),
        ({"bh": b64encode(bytes(32)).decode()}, DkimCode.FAIL, Reason.DKIM_BODY_HASH),
        ({"a": "ed25519-sha256"}, DkimCode.PERMERROR, Reason.DKIM_KEY_TYPE),
        ({"s": "other"}, DkimCode.PERMERROR, Reason.DKIM_KEY_MISSING),
        ({"d": "sub.example.org"}, DkimCode.PERMERROR, Reason.DKIM_KEY_MISSING),
    ],
)
def test_what_does_not_pass_by_its_own_words(changed: dict[str, str | None], code: DkimCode, reason: Reason) -> None:
    result = only(verify(signed(MAIL, RSA, **changed), DNS))

    assert outcome(result) == (code, reason)
    assert result.detail


def test_two_of_a_field_pass_where_both_are_signed() -> None:
    twice = MAIL.replace(b"From: Joe", b"Subject: Was\r\nFrom: Joe")

    assert outcome(only(verify(signed(twice, RSA, h="from:subject:subject"), DNS))) == (DkimCode.PASS, None)


def test_an_unknown_canonicalization_is_neutral() -> None:
    mail = signed(MAIL, RSA).replace(b"c=relaxed/relaxed", b"c=nofws/nofws")

    assert outcome(only(verify(mail, DNS))) == (DkimCode.NEUTRAL, Reason.DKIM_CANONICALIZATION)


@pytest.mark.parametrize(
    ("old", "new", "code", "reason"),
    [
        (b"dinner", b"supper", DkimCode.FAIL, Reason.DKIM_SIGNATURE),
        (b"t=17", b"t=16", DkimCode.FAIL, Reason.DKIM_SIGNATURE),
        (b"To: Jane", b"X: Jane", DkimCode.FAIL, Reason.DKIM_SIGNATURE),
        (b"We lost", b"We won", DkimCode.FAIL, Reason.DKIM_BODY_HASH),
        (b"game.\t\r\n", b"game.\t\r\n\r\nBuy!\r\n", DkimCode.FAIL, Reason.DKIM_BODY_HASH),
        # What is not in h= may change, and so may white space in relaxed form.
        (b"192.0.2.1", b"192.0.2.2", DkimCode.PASS, None),
        (b"lost  the", b"lost \tthe", DkimCode.PASS, None),
        (b"Subject: Is", b"SUBJECT:  Is", DkimCode.PASS, None),
        # A second From field, above or below, or of what else readers are shown: RFC 6376 8.15.
        (b"From: Joe", b"From: Eve <eve@evil.example>\r\nFrom: Joe", DkimCode.POLICY, Reason.DKIM_FIELD_ADDED),
        (b"Date:", b"From: Eve <eve@evil.example>\r\nDate:", DkimCode.POLICY, Reason.DKIM_FIELD_ADDED),
        (b"From: Joe", b"sUBJECT : Was\r\nFrom: Joe", DkimCode.POLICY, Reason.DKIM_FIELD_ADDED),
        (b"From: Joe", b"To: all\r\nFrom: Joe", DkimCode.POLICY, Reason.DKIM_FIELD_ADDED),
        # A second one of what may stand there often, or is not signed at all.
        (b"From: Joe", b"Received: x\r\nCc: x\r\nCc: y\r\nFrom: Joe", DkimCode.PASS, None),
    ],
)
def test_what_becomes_of_a_mail_changed_on_its_way(
    old: bytes, new: bytes, code: DkimCode, reason: Reason | None
) -> None:
    mail = signed(MAIL, RSA)
    assert mail.count(old) == 1

    assert outcome(only(verify(mail.replace(old, new), DNS))) == (code, reason)


@pytest.mark.parametrize(
    "name",
    ["From", "Sender", "Reply-To", "To", "Cc", "Subject", "Date", "Content-Type", "Content-Transfer-Encoding"],
)
def test_what_readers_are_shown_cannot_be_added_beside_the_signed_one(name: str) -> None:
    """RFC 6376 8.15. A field of which h= covers one more than there are was sealed, and spoils the signature too."""
    field, other = f"{name}: a@example.org\r\n".encode(), f"{name}: b@evil.example\r\n".encode()
    mail = field + b"\r\ntext\r\n" if name == "From" else b"From: a@example.org\r\n" + field + b"\r\ntext\r\n"
    covering, sealing = ("from", "from:from") if name == "From" else (f"from:{name}", f"from:{name}:{name}")
    once, sealed = signed(mail, RSA, h=covering), signed(mail, RSA, h=sealing)

    assert only(verify(once, DNS)).code is DkimCode.PASS
    assert outcome(only(verify(other + once, DNS))) == (DkimCode.POLICY, Reason.DKIM_FIELD_ADDED)
    assert outcome(only(verify(other + sealed, DNS))) == (DkimCode.FAIL, Reason.DKIM_SIGNATURE)


def test_a_from_field_that_was_sealed_cannot_be_added() -> None:
    mail = signed(MAIL, RSA, h="from:from:to")

    assert only(verify(mail, DNS)).code is DkimCode.PASS
    assert only(verify(mail.replace(b"To:", b"From: x@y\r\nTo:"), DNS)).reason is Reason.DKIM_SIGNATURE


def test_text_appended_to_a_part_signed_body_is_policy_and_never_pass() -> None:
    mail = signed(MAIL, RSA, l=str(LENGTH))

    assert only(verify(mail, DNS)).code is DkimCode.PASS
    assert outcome(only(verify(mail + b"Buy!\r\n", DNS))) == (DkimCode.POLICY, Reason.DKIM_LENGTH)
    # And one that does not verify either is a fail.
    broken = mail.replace(b"dinner", b"supper") + b"Buy!\r\n"
    assert outcome(only(verify(broken, DNS))) == (DkimCode.FAIL, Reason.DKIM_SIGNATURE)


@pytest.mark.parametrize(
    "record",
    [
        b"p=" + P,
        b"v=DKIM1; h=sha1:sha256; p=" + P,
        b"s=*; p=" + P,
        b"s=tlsrpt:email; p=" + P,
        b"t=s; p=" + P,
        b"t=x:z; p=" + P,
    ],
)
def test_what_a_key_may_say(record: bytes) -> None:
    assert outcome(only(verify(signed(MAIL, RSA), zone(record)))) == (DkimCode.PASS, None)


@pytest.mark.parametrize(
    ("record", "code", "reason"),
    [
        (b"v=DKIM1; p=", DkimCode.PERMERROR, Reason.DKIM_KEY_REVOKED),
        (b"v=spf1 -all", DkimCode.PERMERROR, Reason.DKIM_KEY_SYNTAX),
        (b"p=garbage", DkimCode.PERMERROR, Reason.DKIM_KEY_SYNTAX),
        (b"", DkimCode.PERMERROR, Reason.DKIM_KEY_SYNTAX),
        ("p=ü".encode(), DkimCode.PERMERROR, Reason.DKIM_KEY_SYNTAX),
        (b"k=dsa; p=" + P, DkimCode.PERMERROR, Reason.DKIM_KEY_TYPE),
        (ED25519.record, DkimCode.PERMERROR, Reason.DKIM_KEY_TYPE),
        (b"h=sha1; p=" + P, DkimCode.PERMERROR, Reason.DKIM_KEY_HASH),
        (b"h=; p=" + P, DkimCode.PERMERROR, Reason.DKIM_KEY_HASH),
        (b"s=other; p=" + P, DkimCode.PERMERROR, Reason.DKIM_KEY_SERVICE),
        (b"s=tlsrpt; p=" + P, DkimCode.PERMERROR, Reason.DKIM_KEY_SERVICE),
        (b"p=" + b64encode(rsa_der((1 << 511) + 1)), DkimCode.POLICY, Reason.DKIM_KEY_WEAK),
        (b"p=" + b64encode(rsa_der((1 << 16383) + 1, (1 << 16382) + 1)), DkimCode.POLICY, Reason.DKIM_KEY_TOO_LARGE),
        (b"p=" + b64encode(rsa_der(1 << 2047)), DkimCode.FAIL, Reason.DKIM_SIGNATURE),
        (rsa_pair(1024).record, DkimCode.FAIL, Reason.DKIM_SIGNATURE),
    ],
)
def test_what_the_key_makes_of_it(record: bytes, code: DkimCode, reason: Reason) -> None:
    assert outcome(only(verify(signed(MAIL, RSA), zone(record)))) == (code, reason)


def test_a_key_for_the_domain_alone_is_not_for_its_subdomains() -> None:
    """RFC 6376 3.6.1, t=s."""
    mail = signed(MAIL, RSA, i="@sub.example.org")

    assert outcome(only(verify(mail, zone(b"t=y:s; p=" + P)))) == (DkimCode.PERMERROR, Reason.DKIM_IDENTITY)


@pytest.mark.parametrize(("old", "code"), [(b"", DkimCode.PASS), (b"dinner", DkimCode.FAIL), (b"lost", DkimCode.FAIL)])
def test_a_domain_that_is_testing_is_told_apart(old: bytes, code: DkimCode) -> None:
    mail = signed(MAIL, RSA).replace(old, b"") if old else signed(MAIL, RSA)
    result = only(verify(mail, zone(b"t=y; p=" + P)))

    assert (result.code, result.testing) == (code, True)


@pytest.mark.parametrize("records", [(b"v=spf1 -all", RSA.record), (ED25519.record, RSA.record, b"junk")])
def test_one_good_key_among_several_records_is_enough(records: tuple[bytes, ...]) -> None:
    """RFC 6376 3.6.2.2 leaves it undefined; all the records are the signer's."""
    assert only(verify(signed(MAIL, RSA), zone(*records))).code is DkimCode.PASS
    assert only(verify(signed(MAIL, RSA), zone(*reversed(records)))).code is DkimCode.PASS


def test_of_many_records_three_are_tried() -> None:
    others = [b"a=%d; " % i + rsa_pair(1024).record.removeprefix(b"v=DKIM1; ") for i in range(3)]

    assert only(verify(signed(MAIL, RSA), zone(*others, b"z=1; p=" + P))).code is DkimCode.FAIL


def failing(reason: Reason | None) -> Resolver:
    return ZoneResolver({(KEY_NAME, "TXT"): Answer(KEY_NAME, "TXT", Outcome.TEMPFAIL, reason=reason)})


@pytest.mark.parametrize("reason", [Reason.DNS_TIMEOUT, Reason.DNS_SERVFAIL, Reason.DNS_DEADLINE])
def test_a_key_that_cannot_be_fetched_is_temporary_and_says_why(reason: Reason) -> None:
    """To dkimpy a timeout is a plain False."""
    result = only(verify(signed(MAIL, RSA), failing(reason)))

    assert outcome(result) == (DkimCode.TEMPERROR, reason)
    assert result.sdid == Domain(DOMAIN)


def test_a_changed_body_is_certain_even_without_the_key() -> None:
    mail = signed(MAIL, RSA).replace(b"lost", b"won")

    assert outcome(only(verify(mail, failing(Reason.DNS_TIMEOUT)))) == (DkimCode.FAIL, Reason.DKIM_BODY_HASH)
    assert outcome(only(verify(mail, zone()))) == (DkimCode.FAIL, Reason.DKIM_BODY_HASH)


def test_results_stand_in_the_order_of_the_signatures() -> None:
    mail = signed(signed(signed(MAIL, RSA), RSA, v="2"), ED25519, s="ed")
    both = ZoneResolver(
        {
            (KEY_NAME, "TXT"): Answer(KEY_NAME, "TXT", Outcome.FOUND, (RSA.record,)),
            (f"ed._domainkey.{DOMAIN}", "TXT"): Answer("", "TXT", Outcome.FOUND, (ED25519.record,)),
        }
    )

    assert [(r.code, r.algorithm) for r in verify(mail, both)] == [
        (DkimCode.PASS, "ed25519-sha256"),
        (DkimCode.NEUTRAL, None),
        (DkimCode.PASS, "rsa-sha256"),
    ]


def test_a_signature_may_sign_another_but_not_itself() -> None:
    mail = signed(signed(MAIL, RSA), RSA, h="from:dkim-signature:dkim-signature")

    assert [result.code for result in verify(mail, DNS)] == [DkimCode.PASS, DkimCode.PASS]


def test_beyond_the_bound_signatures_are_too_many_and_cost_nothing() -> None:
    mail = signed(MAIL, RSA)
    field = mail[: len(mail) - len(MAIL)]
    asked: list[str] = []

    class Counting(ZoneResolver):
        def lookup(self, name: str, rdtype: str) -> Answer:
            asked.append(name)
            return DNS.lookup(name, rdtype)

    results = verify(field * 1000 + MAIL, Counting({}))

    assert [result.code for result in results] == [DkimCode.PASS] * 5 + [DkimCode.POLICY] * 15
    assert {result.reason for result in results[5:]} == {Reason.DKIM_TOO_MANY}
    assert asked == [KEY_NAME] * 5


def test_the_keys_to_fetch_are_known_from_the_header() -> None:
    mail = signed(signed(signed(MAIL, RSA), RSA, s="other"), RSA, v="2", s="unread")
    header, _ = split(signed(mail, RSA))

    assert Verification(header, NOW).key_names == (KEY_NAME, f"other._domainkey.{DOMAIN}")
    assert Verification(header, NOW, max_signatures=1).key_names == (KEY_NAME,)
    assert Verification(header, NOW, max_signatures=0).key_names == ()


@pytest.mark.parametrize(
    "b", ["", "AA==", b64encode(bytes(256)).decode(), b64encode(b"\xff" * 256).decode(), "A" * 1364]
)
@pytest.mark.parametrize("pair", [RSA, ED25519])
def test_signatures_of_any_length_are_only_wrong(b: str, pair: KeyPair) -> None:
    mail = signed(MAIL, pair)
    head, _, rest = mail.partition(b" b=")
    mail = head + b" b=" + b.encode() + b"\r\n" + rest.partition(b"\r\n")[2]
    result = only(verify(mail, zone(pair.record)))

    assert result.code is (DkimCode.FAIL if b else DkimCode.NEUTRAL)


def test_a_signature_of_folds_that_stalls_dkimpy() -> None:
    """3,000 folds after b= are 0.6 s to dkimpy; here 20,000 are read, or found too long, in one pass."""
    mail = signed(MAIL, RSA)

    assert only(verify(mail.replace(b" b=", b" b=" + b"\r\n " * 20_000), DNS)).code is DkimCode.PASS
    too_long = mail.replace(b" b=", b" b=" + b"\r\n " * 30_000)
    assert outcome(only(verify(too_long, DNS))) == (DkimCode.NEUTRAL, Reason.DKIM_SYNTAX)


def test_a_megabyte_of_spaces_passes_where_dkimpy_takes_half_an_hour() -> None:
    mail = signed(MAIL + b" " * (1 << 20) + b"x\r\n", RSA)

    assert only(verify(mail, DNS)).code is DkimCode.PASS
    assert only(verify(mail, DNS, chunk=1000)).code is DkimCode.PASS


def test_header_lines_that_dkimpy_refuses_to_read_do_not_matter() -> None:
    """dkimpy: IndexError for a continuation in front, MessageFormatError for garbage and 8-bit names."""
    header, body = split(signed(MAIL, RSA))
    odd = [
        replace(header.fields[0], name=name, value=value)
        for name, value in ((b"", b""), (b"\xff", b" x"), (b" ", b":"))
    ]
    verification = Verification(type(header).of([*odd, *header.fields]), NOW)
    verification.body(body)

    assert [result.code for result in verification.finish(DNS)] == [DkimCode.PASS]


TAGS = [
    "v=1",
    "a=rsa-sha256",
    "c=relaxed/relaxed",
    "d=example.org",
    "s=sel",
    "h=from:to",
    "bh=",
    "b=",
    "l=",
    "i=@example.org",
]


@given(
    value=st.binary(max_size=60)
    | st.lists(st.sampled_from([*TAGS, "x", ";", "\r\n "])).map(lambda t: ";".join(t).encode()),
    body=st.lists(st.binary(max_size=20)),
    record=st.binary(max_size=40),
)
def test_no_message_and_no_record_crashes(value: bytes, body: list[bytes], record: bytes) -> None:
    verification = Verification(split(b"DKIM-Signature:" + value + b"\r\n" + MAIL)[0], NOW)
    for chunk in body:
        verification.body(chunk)

    assert all(result.code is not DkimCode.PASS for result in verification.finish(zone(record)))


@given(data=st.data())
def test_any_changed_octet_of_what_is_signed_is_noticed(data: st.DataObject) -> None:
    """In simple form every octet counts, but those of b= and of what is not signed."""
    mail = signed(MAIL, ED25519, c="simple/simple", h="received:from:to:subject:date:message-id")
    start = mail.index(b"Received")
    position = data.draw(st.integers(start, len(mail.rstrip()) - 1))
    octet = data.draw(st.sampled_from(sorted({0x20, 0x41, 0x3A, 0xFF} - {mail[position]})))
    changed = mail[:position] + bytes([octet]) + mail[position + 1 :]

    assert all(result.code is not DkimCode.PASS for result in verify(changed, zone(ED25519.record)))
