"""Requests survive the wire however it cuts them, and nothing that comes in raises anything but AccessPolicyError."""

from contextlib import suppress
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.wire.access_policy import (
    MAX_ATTRIBUTES,
    MAX_LINE,
    MAX_REQUEST,
    AccessPolicyError,
    Action,
    Answer,
    ProtocolState,
    Request,
    RequestReader,
    encode_answer,
    encode_request,
    read_answer,
)

#: The example of SMTPD_POLICY_README, with the versions of Postfix that brought the attributes.
EXAMPLE = {
    "2.1": b"""request=smtpd_access_policy
protocol_state=RCPT
protocol_name=SMTP
helo_name=some.domain.tld
queue_id=8045F2AB23
sender=foo@bar.tld
recipient=bar@foo.tld
recipient_count=0
client_address=1.2.3.4
client_name=another.domain.tld
reverse_client_name=another.domain.tld
instance=123.456.7
""",
    "2.2": b"""sasl_method=plain
sasl_username=you
sasl_sender=
size=12345
ccert_subject=solaris9.porcupine.org
ccert_issuer=Wietse+20Venema
ccert_fingerprint=C2:9D:F4:87:71:73:73:D9:18:E7:C2:F3:C1:DA:6E:04
""",
    "2.3": b"""encryption_protocol=TLSv1/SSLv3
encryption_cipher=DHE-RSA-AES256-SHA
encryption_keysize=256
etrn_domain=
""",
    "2.5": b"stress=\n",
    "2.9": b"ccert_pubkey_fingerprint=68:B3:29:DA:98:93:E3:40:99:C7:D8:AD:5C:B9:C9:40\n",
    "3.0": b"client_port=1234\n",
    "3.1": b"policy_context=submission\n",
    "3.2": b"server_address=10.3.2.1\nserver_port=54321\n",
    "3.8": b"compatibility_level=3.6\nmail_version=3.8.0\n",
    "3.12": b"tls_sni=mail.example.com\n",
}
PLAIN = EXAMPLE["2.1"] + b"\n"
RCPT = Request(
    ProtocolState.RCPT,
    protocol_name="SMTP",
    helo_name="some.domain.tld",
    queue_id="8045F2AB23",
    sender="foo@bar.tld",
    recipient="bar@foo.tld",
    client_address="1.2.3.4",
    client_name="another.domain.tld",
    reverse_client_name="another.domain.tld",
    instance="123.456.7",
)

_TEXT = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=30)
_NUMBER = st.integers(0, 10**18 - 1)
_REQUEST = st.builds(
    Request,
    st.sampled_from(ProtocolState),
    **{each.name: _NUMBER if each.type is int else _TEXT for each in fields(Request)[1:]},
)


def read(octets: bytes) -> list[Request]:
    return list(RequestReader().feed(octets))


@pytest.mark.parametrize("versions", range(1, len(EXAMPLE) + 1), ids=list(EXAMPLE))
def test_requests_of_every_postfix_are_read(versions: int) -> None:
    sent = [EXAMPLE[version] for version in list(EXAMPLE)[:versions]]
    (found,) = read(b"".join(sent) + b"\n")

    said = dict(line.split("=", 1) for line in b"".join(sent).decode().splitlines())
    del said["request"]
    assert said == {name: str(getattr(found, name)) for name in said}
    assert {each.name for each in fields(Request)} - set(said) == {
        each.name for each in fields(Request)[1:] if getattr(found, each.name) in ("", 0) and each.name not in said
    }


def test_the_first_version_has_what_it_says() -> None:
    assert read(PLAIN) == [RCPT]


@given(_REQUEST)
def test_what_is_written_reads_back(request: Request) -> None:
    assert read(encode_request(request)) == [request]


@given(st.lists(_REQUEST, max_size=4), st.data())
def test_every_cut_of_the_stream_gives_the_same_requests(requests: list[Request], data: st.DataObject) -> None:
    stream = b"".join(map(encode_request, requests))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = RequestReader()
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert requests == [request for piece in pieces for request in reader.feed(piece)]
    assert reader.empty


def test_octet_by_octet_is_no_different() -> None:
    reader = RequestReader()

    assert [request for octet in PLAIN * 3 for request in reader.feed(bytes([octet]))] == [RCPT] * 3


@given(st.lists(st.binary(max_size=300) | st.sampled_from([PLAIN, b"\n", b"a=b\n", b"\n\n"]), max_size=6))
def test_nothing_that_comes_in_raises_anything_else(pieces: list[bytes]) -> None:
    reader = RequestReader()
    with suppress(AccessPolicyError):
        for piece in pieces:
            list(reader.feed(piece))


HARMLESS = {
    "an attribute that nobody knows": (b"\n\n", b"\nfuture=1\nx y z=\n\n", RCPT),
    "an equals sign in a value": (b"helo_name=some.domain.tld", b"helo_name=a=b", replace(RCPT, helo_name="a=b")),
    "an empty value": (b"sender=foo@bar.tld", b"sender=", replace(RCPT, sender="")),
    "an attribute that is not sent": (b"helo_name=some.domain.tld\n", b"", replace(RCPT, helo_name="")),
    "an attribute twice: the last": (b"sender=foo@bar.tld", b"sender=x\nsender=foo@bar.tld", RCPT),
    "a number that is none": (b"recipient_count=0", b"recipient_count=unknown", RCPT),
    "a number that is empty": (b"recipient_count=0", b"recipient_count=", RCPT),
    "a number below zero": (b"recipient_count=0", b"recipient_count=-1", RCPT),
    "a number beyond all": (b"recipient_count=0", b"recipient_count=" + b"9" * 5000, RCPT),
    "octets that are no UTF-8": (b"foo@bar.tld", b"f\xff@bar.tld", replace(RCPT, sender="f\udcff@bar.tld")),
    "a carriage return": (b"foo@bar.tld", b"foo@bar.tld\r", replace(RCPT, sender="foo@bar.tld\r")),
    "the longest line": (b"helo_name=some.domain.tld", b"x=" + b"y" * (MAX_LINE - 2), replace(RCPT, helo_name="")),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_the_protocol_lets_a_client_send(case: str) -> None:
    old, new, expected = HARMLESS[case]

    assert read(PLAIN.replace(old, new, 1)) == [expected]


BROKEN = {
    "no attribute": b"\n",
    "nothing but line ends": b"\n\n\n",
    "no kind of request": PLAIN.replace(b"request=smtpd_access_policy\n", b""),
    "another kind of request": PLAIN.replace(b"smtpd_access_policy", b"junk"),
    "no state": PLAIN.replace(b"protocol_state=RCPT\n", b""),
    "an empty state": PLAIN.replace(b"=RCPT", b"="),
    "a state that nobody knows": PLAIN.replace(b"=RCPT", b"=TURN"),
    "a line without equals sign": PLAIN.replace(b"sender=", b"sender"),
    "a line without name": PLAIN.replace(b"sender=", b"="),
    "NUL in a value": PLAIN.replace(b"foo@", b"foo\0@"),
    "NUL in a name": PLAIN.replace(b"sender", b"sen\0der"),
    "an over-long line": PLAIN.replace(b"helo_name=", b"x=" + b"y" * MAX_LINE + b"\nhelo_name="),
    "too many attributes": b"".join(b"x%d=\n" % n for n in range(MAX_ATTRIBUTES)) + PLAIN,
    "the same one too often": b"x=\n" * MAX_ATTRIBUTES + PLAIN,
    "too much": b"x=" + b"y" * 4000 + b"\n" + (b"y=" + b"y" * 4000 + b"\n") * 17 + PLAIN,
    "too much that never ends": b"x" * (MAX_REQUEST + 1),
    "lines that never end": b"x=y\n" * (MAX_REQUEST // 4 + 1),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_the_protocol_is_told_after_what_came_before(case: str) -> None:
    found = RequestReader().feed(PLAIN + BROKEN[case] + PLAIN)

    assert next(found) == RCPT
    with pytest.raises(AccessPolicyError):
        list(found)


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        (Answer(Action.DUNNO), b"action=DUNNO\n\n"),
        (Answer(Action.HOLD, "rule"), b"action=HOLD rule\n\n"),
        (Answer(550, "5.7.1 not you"), b"action=550 5.7.1 not you\n\n"),
        (Answer(Action.PREPEND, "X-A: gr\u00fc\u00dfe"), "action=PREPEND X-A: gr\u00fc\u00dfe\n\n".encode()),
    ],
)
def test_answers_read_as_access_5_has_them(answer: Answer, written: bytes) -> None:
    assert encode_answer(answer) == written
    assert read_answer(written) == answer


@given(st.sampled_from(Action) | st.integers(400, 599), st.text(max_size=60))
def test_no_text_ends_an_answer_or_makes_another(action: Action | int, text: str) -> None:
    written = encode_answer(Answer(action, text))

    assert (written.count(b"\n"), written[-2:]) == (2, b"\n\n")
    assert written.decode().removesuffix("\n\n").isprintable() or not text.isprintable()
    assert b"\0" not in written


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\n\n",
        b"action=\n\n",
        b"action=DUNNO\n",
        b"action=DUNNO",
        b"result=DUNNO\n\n",
        b"action=DUNNO\n\naction=DUNNO\n\n",
        b"action=DUNNO\naction=OK\n\n",
        b"action=hash:/etc/passwd\n\n",
        b"action=550\n\n",
        b"action=250 fine\n\n",
        b"action=DUN\0NO\n\n",
        b"action=\xff\n\n",
    ],
)
def test_what_is_no_answer_is_told(octets: bytes) -> None:
    with pytest.raises(AccessPolicyError):
        read_answer(octets)


def test_words_may_be_in_any_case() -> None:
    assert read_answer(b"action=defer_if_permit  Service\ttemporarily unavailable \n\n") == Answer(
        Action.DEFER_IF_PERMIT, "Service temporarily unavailable"
    )


@pytest.mark.parametrize("value", ["a\nb", "a\0b"])
def test_what_cannot_be_written_is_told(value: str) -> None:
    with pytest.raises(AccessPolicyError):
        encode_request(replace(RCPT, sender=value))
