"""Hostile mail costs no more than in proportion to its size, and no more than so much of anything that is dear.

Counted are Python's calls, the same on every machine. How much time they take is told by benchmarks/hostile.py.
"""

import sys
from ipaddress import ip_address
from types import FrameType
from typing import Any

import pytest
from spoofing import hostile_mails as hostile
from spoofing.cast import ATTACKER_KEY, HOST, VICTIM_IP, zone
from spoofing.dkim_tricks import by, signed
from spoofing.stage import shipped

from filterd.backend.zone import ZoneFile, zone_resolver
from filterd.dkim.key_record import KeyRecord
from filterd.engine.finish import Finished
from filterd.engine.runtime import Runtime
from filterd.engine.session import MailSession
from filterd.lookup import Answer
from filterd.mail.address import parse_path
from filterd.mail.header import Field
from filterd.mail.message import split
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.load import load

SIZE = 1_000_000
_CHUNK = 65_535
_SENDER, _RECIPIENT = "service@bank.example", "anna@home.example"


class CountingZone:
    """A resolver that counts its questions."""

    def __init__(self, zone: ZoneFile) -> None:
        self._zone = zone
        self.questions: set[tuple[str, str]] = set()

    def lookup(self, name: str, rdtype: str) -> Answer:
        self.questions.add((name, rdtype))
        return self._zone.lookup(name, rdtype)

    def prefetch(self, name: str, rdtype: str) -> None:
        self.questions.add((name, rdtype))


ZONE = CountingZone(zone_resolver(zone()))
POLICY = load(f"version: 1\nidentity: {{ authserv_id: {HOST} }}\n{shipped()}", "policy.yaml")
RUNTIME = Runtime(POLICY, HOST, lambda _: ZONE, lambda _: None)


def judge(fields: tuple[Field, ...], body: bytes) -> Finished:
    """Judge a mail of the bank's as the front-end has it done."""
    session = MailSession(RUNTIME, "c")
    session.connect(Client(ip_address(VICTIM_IP)), None)
    session.helo("mail.bank.example", None)
    session.mail(ReversePath(_SENDER, parse_path(_SENDER)), None, None)
    session.rcpt(ForwardPath(_RECIPIENT, parse_path(_RECIPIENT)), "Q")
    session.data("Q")
    session.end_of_headers(fields, "Q")
    for start in range(0, len(body), _CHUNK):
        session.body(body[start : start + _CHUNK])
    return session.end_of_message("Q")


def calls(message: bytes) -> int:
    """How many calls judging takes, of Python's functions and C's, when everything that is cached is."""
    header, body = split(message)
    judge(header.fields, body)
    count = 0

    def counting(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        judge(header.fields, body)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("name", hostile.HEADERS)
def test_a_header_costs_in_proportion_and_no_more_than_what_is_read(name: str) -> None:
    """Four times the octets, four times the calls at most; and then each field costs some, all else nothing more."""
    make = hostile.HEADERS[name]
    small, large, whole = (hostile.with_header(make, SIZE, of_header) for of_header in (4_000, 16_000, 250_000))

    assert calls(large) < 4.5 * calls(small)
    assert calls(whole) < 200_000 + 10 * len(split(whole)[0])


@pytest.mark.parametrize("name", hostile.BODIES)
@pytest.mark.parametrize("canonicalization", ["simple/simple", "relaxed/relaxed"])
def test_a_body_costs_some_calls_a_chunk_whatever_is_in_it(name: str, canonicalization: str) -> None:
    message = hostile.with_body(hostile.BODIES[name], SIZE, canonicalization)

    assert calls(message) < 10_000


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The signatures whose arithmetic was done."""
    done: list[bytes] = []
    verifies = KeyRecord.verifies

    def noted(record: KeyRecord, signature: bytes, digest: bytes) -> bool:
        done.append(signature)
        return verifies(record, signature, digest)

    monkeypatch.setattr(KeyRecord, "verifies", noted)
    return done


def judged(message: bytes) -> Finished:
    header, body = split(message)
    return judge(header.fields, body)


def test_five_signatures_are_verified_and_asked_for(verifications: list[bytes]) -> None:
    message = b"From: <service@bank.example>\r\n\r\ntext\r\n"
    for number in range(30):
        message = signed(message, by(ATTACKER_KEY), d="any.evil.example", s=f"s{number}", h="from")
    ZONE.questions.clear()

    judged(message)

    assert len(verifications) == 5
    assert len([name for name, _ in ZONE.questions if "_domainkey" in name]) == 5


def test_a_chain_of_fifty_sets_is_verified_once_and_some_of_its_older_signatures(verifications: list[bytes]) -> None:
    judged(hostile.chain_of_fifty(1_000))

    assert len(verifications) <= 50 + 1 + 10


def test_questions_do_not_grow_with_the_length_of_names() -> None:
    """RFC 9989 4.10: eight for the author, and eight for each of those who may be of the same organization."""
    longest = ".".join(["a"] * 110) + ".bank.example"
    message = f"From: <x@{longest}>\r\n\r\ntext\r\n".encode()
    for number in range(5):
        message = signed(message, d=f"{'b.' * number}bank.example", h="from")
    ZONE.questions.clear()

    judged(message)

    assert len([name for name, _ in ZONE.questions if name.startswith("_dmarc.")]) <= 8 * 7
    assert len(ZONE.questions) <= 8 * 7 + 5 + 3


@pytest.mark.parametrize("name", ["forged results", "foreign results", "marks of ours"])
def test_the_mta_is_not_made_to_delete_thousands_of_fields(name: str) -> None:
    for size in (4_000, 16_000, 64_000, SIZE):
        assert len(judged(hostile.with_header(hostile.HEADERS[name], SIZE, size)).changes) <= 501


def test_all_at_once() -> None:
    message = hostile.all_at_once(SIZE)

    assert calls(message) < 300_000
