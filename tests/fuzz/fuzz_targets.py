"""What reads octets of strangers, and what must hold whatever they are.

A target takes octets and returns; it raises where a promise is broken. `test_fuzz_corpus` gives each the octets that
stand in `corpus`, `explore` those that a fuzzer thinks of.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from ipaddress import ip_address

import dns.name
import dns.rdatatype
from arc_mail import ZONE as SEALERS
from arc_mail import chain_of
from dkim_mail import MAIL, NOW, ed25519_pair, signed, verify, zone

from filterd.arc.verify import ArcCode, ArcVerification
from filterd.authres.format import format_value
from filterd.authres.parse import parse as parse_results
from filterd.authres.result import AuthResultsError
from filterd.backend.dns_exchange import MalformedResponseError, read_response
from filterd.backend.records import value_of
from filterd.backend.zone import ZoneFileError, zone_resolver
from filterd.dkim.key_record import KeyRecordError, parse_key_record
from filterd.dkim.signature import SignatureError, parse_signature
from filterd.dkim.tag_list import TagListError
from filterd.dkim.verify import DkimCode, DkimResult, Verification
from filterd.dmarc.record import parse as parse_dmarc
from filterd.lookup import Answer, Outcome, Resolver
from filterd.mail.address import AddressError, Mailbox, parse_mailbox_list, parse_path
from filterd.mail.domain import Domain, DomainError
from filterd.mail.encoded_word import shown
from filterd.mail.message import author_of
from filterd.mail.message import split as split_stored
from filterd.mail.received import handover
from filterd.policy.conditions import ConditionError, EvaluationError, compile_condition
from filterd.policy.errors import PolicyErrors
from filterd.policy.load import load
from filterd.policy.transcript_read import TranscriptError, from_mapping
from filterd.spf.check import check_mail_from
from filterd.wire.access_policy import AccessPolicyError, RequestReader, encode_request, read_answer
from filterd.wire.milter_codec import ProtocolError, encode
from filterd.wire.milter_decoder import Decoder

CLIENT = ip_address("192.0.2.1")
SENDER = Mailbox("joe", Domain("example.org"))
AUTHOR = Domain("example.org")


def milter_packets(data: bytes) -> None:
    """Both sides of the milter protocol: what is read can be written, and every cut of the stream reads the same."""
    whole, cut = Decoder(), Decoder()
    packets = list(_packets(whole, data))
    middle = len(data) // 2
    assert packets == [*_packets(cut, data[:middle]), *_packets(cut, data[middle:])]
    for packet in packets:
        assert [packet] == list(Decoder().feed(encode(packet)))


def _packets(decoder: Decoder, data: bytes) -> Iterator[object]:
    with suppress(ProtocolError):
        yield from decoder.feed(data)


def policy_requests(data: bytes) -> None:
    """Requests to the policy service, and its answers: what is read can be written, and means the same."""
    with suppress(AccessPolicyError):
        for request in RequestReader().feed(data):
            assert [request] == list(RequestReader().feed(encode_request(request)))
    with suppress(AccessPolicyError):
        read_answer(data)


def stored_message(data: bytes) -> None:
    """A message's header: it is parted without loss, and a From field has one author domain or none."""
    header, body = split_stored(data)
    again, rest = split_stored(b"".join(field.raw for field in header) + b"\r\n" + body)
    assert (header, body) == (again, rest)
    author = author_of(header)
    assert (author.domain is None) == (author.reason is not None)
    for field in header:
        shown(field.value)
        handover(field)


def author(data: bytes) -> None:
    """The value of a From field: whoever is found in it is found again in what is written of it."""
    with suppress(AddressError):
        for each in parse_mailbox_list(data):
            assert (each,) == parse_mailbox_list(str(each).encode())


def path(data: bytes) -> None:
    """What stands behind MAIL FROM and RCPT TO."""
    with suppress(AddressError):
        mailbox = parse_path(data.decode("utf-8", "surrogateescape"))
        assert mailbox is None or mailbox == parse_path(f"<{mailbox}>")
    with suppress(DomainError):
        domain = Domain.parse(data)
        assert domain == Domain.parse(str(domain))


def dkim_signature(data: bytes) -> None:
    """A DKIM-Signature field, alone and above an honest mail: it never passes, as nobody has the key."""
    with suppress(SignatureError, TagListError):
        parse_signature(data)
    value = data.replace(b"\r", b"").replace(b"\n", b"")
    for result in _verified(b"DKIM-Signature:" + value + b"\r\n" + MAIL):
        assert result.code is not DkimCode.PASS


@cache
def _key_zone() -> Resolver:
    return zone(ed25519_pair().record)


def _verified(mail: bytes) -> tuple[DkimResult, ...]:
    header, body = split_stored(mail)
    verification = Verification(header, NOW)
    verification.body(body)
    return verification.finish(_key_zone())


@cache
def _signed() -> bytes:
    return signed(MAIL, ed25519_pair(), h="from:from:to:to:subject:subject:date")


def signed_message(data: bytes) -> None:
    """What a stranger puts above a signed mail: where the signature still passes, its author is who signed it."""
    mail = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") + _signed()
    header, _ = split_stored(mail)
    if any(result.code is DkimCode.PASS for result in _verified(mail)):
        assert author_of(header).domain in (AUTHOR, None)


def dkim_key(data: bytes) -> None:
    """A key record, alone and as what DNS has for an honest mail's signature."""
    with suppress(KeyRecordError, TagListError):
        parse_key_record(data)
    results = verify(_signed(), zone(data))
    public = ed25519_pair().record.partition(b"p=")[2]
    assert public in b"".join(data.split()) or all(each.code is not DkimCode.PASS for each in results)


def arc_fields(data: bytes) -> None:
    """Fields above a sealed mail: a chain that still holds is the one that was sealed."""
    mail = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") + _chain()
    header, body = split_stored(mail)
    verification = ArcVerification(header, NOW)
    verification.body(body)
    result = verification.finish(SEALERS)
    assert result.code is not ArcCode.PASS or result.instance == 2


@cache
def _chain() -> bytes:
    return chain_of(2)


def dmarc_record(data: bytes) -> None:
    """A DMARC record, by both readings."""
    parse_dmarc(data)
    parse_dmarc(data, rfc7489=True)


def spf_record(data: bytes) -> None:
    """An SPF record: its check ends, says why where it says neither yes nor no, and says it in printable words."""
    result = check_mail_from(CLIENT, SENDER, "mail.example.net", _Everywhere(b"v=spf1 " + data))
    assert (result.reason is None) == (result.code in ("pass", "fail", "softfail", "neutral"))
    for said in (result.mechanism, result.explanation, result.detail):
        assert said is None or (said.isascii() and said.isprintable())


class _Everywhere:
    """DNS that says of every name the same, and counts how often it is asked."""

    def __init__(self, text: bytes) -> None:
        self._values = {"TXT": (text,), "A": ("192.0.2.2",), "AAAA": ("2001:db8::1",), "MX": ("10 mx.example.org",)}
        self._asked = 0

    def lookup(self, name: str, rdtype: str) -> Answer:
        self._asked += 1
        # RFC 7208 4.6.4: ten terms that ask, of which an mx or a ptr asks for ten names more.
        assert self._asked < 250
        values = self._values.get(rdtype, ())
        return Answer(name, rdtype, Outcome.FOUND if values else Outcome.NODATA, values)

    def prefetch(self, name: str, rdtype: str) -> None:
        pass


def authentication_results(data: bytes) -> None:
    """An Authentication-Results field: what is read, and can be written, reads the same."""
    with suppress(AuthResultsError):
        results = parse_results(data)
        written = format_value(results)
        assert format_value(parse_results(written.encode())) == written


def policy_file(data: bytes) -> None:
    """A policy: it loads, or has faults with their places."""
    with suppress(PolicyErrors, UnicodeDecodeError):
        load(data.decode(), "p.yaml")


def condition(data: bytes) -> None:
    """A rule's condition: it is compiled and can be asked, or has a place where it is wrong."""
    with suppress(ConditionError, EvaluationError, UnicodeDecodeError):
        compiled = compile_condition(data.decode())
        if not compiled.facts:
            compiled.holds({})


def dns_answer(data: bytes) -> None:
    """A name server's answer: only ours is taken, and what it holds can be read."""
    name = dns.name.from_text("example.org.")
    with suppress(MalformedResponseError):
        response = read_response(data, 0x1234, name, dns.rdatatype.TXT)
        for rrset in response.answer:
            for rdata in rrset:
                value_of(rdata)


def zone_file(data: bytes) -> None:
    """A zone of a policy's test: it is read, or has a line where it is wrong."""
    with suppress(ZoneFileError, UnicodeDecodeError):
        zone_resolver(data.decode()).lookup("example.org", "TXT")


def decision(data: bytes) -> None:
    """A decision as it is kept on the disk."""
    with suppress(TranscriptError, ValueError, RecursionError):
        from_mapping(json.loads(data))


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (
        milter_packets, policy_requests, stored_message, author, path, dkim_signature, signed_message, dkim_key,
        arc_fields, dmarc_record, spf_record, authentication_results, policy_file, condition, dns_answer, zone_file,
        decision,
    )
}  # fmt: skip
