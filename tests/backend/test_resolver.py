"""The resolver against servers that fail in every way, and what its callers may rely on."""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.flags
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import pytest
from servers.fake_dns import FakeDns, framed, reply

import filterd.backend.resolver as resolver_module
from filterd.backend.dns_exchange import Server
from filterd.backend.resolver import DnsResolver
from filterd.lookup import Answer, Outcome
from filterd.mail.reason import Reason

LONG = 30.0  # seconds; no test waits for it
GOOD = "good.example"


def deadline() -> float:
    return time.monotonic() + LONG


class Started:
    """Makes resolvers, and closes them after the test."""

    def __init__(self) -> None:
        self.resolvers: list[DnsResolver] = []

    def __call__(self, *servers: Server, timeout: float = LONG) -> DnsResolver:
        self.resolvers.append(DnsResolver(servers, timeout))
        self.resolvers[-1].start()
        return self.resolvers[-1]


@pytest.fixture
def start() -> Iterator[Started]:
    started = Started()
    yield started
    for resolver in started.resolvers:
        resolver.close()


def good(query: bytes, *_: object) -> list[bytes]:
    name = query[12:].partition(b"\0")[0][1:].split(b"\x07")[0].decode()
    return [reply(query, f"{name}.example. 300 A 192.0.2.1")]


def unless_good(script: Callable[[bytes, bool], list[bytes]]) -> Callable[[bytes, bool], list[bytes]]:
    def answer(query: bytes, by_tcp: bool) -> list[bytes]:
        return good(query) if b"\x04good\x07example" in query else script(query, by_tcp)

    return answer


def other_id(message: bytes) -> bytes:
    return bytes([message[0] ^ 1]) + message[1:]


def truncated(by_tcp: Callable[[bytes], list[bytes]]) -> Callable[[bytes, bool], list[bytes]]:
    return lambda query, tcp: by_tcp(query) if tcp else [reply(query, flags=dns.flags.TC)]


def code(rcode: dns.rcode.Rcode) -> Callable[[bytes, bool], list[bytes]]:
    return lambda query, _: [reply(query, code=rcode)]


ANSWER = "bad.example. 300 A 192.0.2.7"

FAULTS: dict[str, tuple[Callable[[bytes, bool], list[bytes]], Reason]] = {
    "silence": (lambda query, _: [], Reason.DNS_TIMEOUT),
    "nothing": (lambda query, _: [b""], Reason.DNS_TIMEOUT),
    "garbage": (lambda query, _: [b"\xff" * 40], Reason.DNS_TIMEOUT),
    "wrong id": (lambda query, _: [other_id(reply(query, ANSWER))], Reason.DNS_TIMEOUT),
    "the query itself": (lambda query, _: [query], Reason.DNS_TIMEOUT),
    "garbage after the id": (lambda query, _: [query[:2] + b"\x80" + b"\xff" * 40], Reason.DNS_MALFORMED),
    "cut short": (lambda query, _: [reply(query, ANSWER)[:-20]], Reason.DNS_MALFORMED),
    "wrong question": (lambda query, _: [reply(query.replace(b"bad", b"bat"), ANSWER)], Reason.DNS_MALFORMED),
    "no question": (lambda query, _: [reply(query)[:4] + bytes(8)], Reason.DNS_MALFORMED),
    "an answer that denies": (lambda query, _: [reply(query, ANSWER, code=dns.rcode.NXDOMAIN)], Reason.DNS_MALFORMED),
    "a circle": (
        lambda query, _: [reply(query, "bad.example. 9 CNAME b.example.", "b.example. 9 CNAME bad.example.")],
        Reason.DNS_MALFORMED,
    ),
    "SERVFAIL": (code(dns.rcode.SERVFAIL), Reason.DNS_SERVFAIL),
    "REFUSED": (code(dns.rcode.REFUSED), Reason.DNS_SERVFAIL),
    "NOTIMP": (code(dns.rcode.NOTIMP), Reason.DNS_SERVFAIL),
    "FORMERR": (code(dns.rcode.FORMERR), Reason.DNS_SERVFAIL),
    "referral": (lambda query, _: [reply(query, "example. 300 NS ns.example.")], Reason.DNS_SERVFAIL),
    "endless chain": (
        lambda query, _: [reply(query, f"{asked_name(query)} 9 CNAME x.{asked_name(query)}")],
        Reason.DNS_SERVFAIL,
    ),
    "truncated, TCP closes": (truncated(lambda query: []), Reason.DNS_MALFORMED),
    "truncated, TCP half an answer": (
        truncated(lambda query: [framed(reply(query, ANSWER))[:-9]]),
        Reason.DNS_MALFORMED,
    ),
    "truncated, TCP garbage": (truncated(lambda query: [framed(b"\xff" * 40)]), Reason.DNS_MALFORMED),
    "truncated, TCP wrong id": (
        truncated(lambda query: [framed(other_id(reply(query, ANSWER)))]),
        Reason.DNS_MALFORMED,
    ),
    "truncated, TCP too much": (truncated(lambda query: [framed(reply(query) + bytes(40_000))]), Reason.DNS_MALFORMED),
}


def asked_name(query: bytes) -> str:
    return str(dns.name.from_wire(query, 12)[0])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_temporary_failure_with_its_reason_and_harms_no_other_question(fault: str, start: Started) -> None:
    script, reason = FAULTS[fault]
    with FakeDns(unless_good(script)) as server:
        view = start(server.address, timeout=1 if reason is Reason.DNS_TIMEOUT else LONG).view(deadline())
        expected = Answer("bad.example", "A", Outcome.TEMPFAIL, reason=reason)
        assert view.lookup("bad.example", "A") == expected
        assert view.lookup(GOOD, "A").values == ("192.0.2.1",)


def test_a_port_where_nobody_listens_is_a_failure_at_once(start: Started) -> None:
    with FakeDns(good) as server:
        pass
    answer = start(server.address).view(deadline()).lookup(GOOD, "A")
    assert (answer.outcome, answer.reason) == (Outcome.TEMPFAIL, Reason.DNS_TIMEOUT)


def test_a_forged_answer_does_not_keep_the_true_one_out(start: Started) -> None:
    with FakeDns(lambda query, _: [other_id(reply(query, ANSWER)), b"", query, *good(query)]) as server:
        assert start(server.address).view(deadline()).lookup(GOOD, "A").values == ("192.0.2.1",)


def test_a_truncated_answer_is_asked_for_by_tcp(start: Started) -> None:
    text = " ".join(['"' + "x" * 200 + '"'] * 20)
    with FakeDns(truncated(lambda query: [framed(reply(query, f"{GOOD}. 300 TXT {text}"))])) as server:
        assert start(server.address).view(deadline()).lookup(GOOD, "TXT").values == (b"x" * 4_000,)


@pytest.mark.parametrize("fault", ["silence", "garbage after the id", "SERVFAIL", "truncated, TCP closes"])
def test_the_next_server_is_asked(fault: str, start: Started) -> None:
    with FakeDns(FAULTS[fault][0]) as first, FakeDns(good) as second:
        view = start(first.address, second.address, timeout=4).view(deadline())
        assert view.lookup(GOOD, "A").values == ("192.0.2.1",)


def test_who_was_silent_is_asked_last_from_then_on(start: Started) -> None:
    with FakeDns(lambda query, _: []) as silent, FakeDns(good) as second:
        view = start(silent.address, second.address, timeout=4).view(deadline())
        view.lookup("good.example", "A")
        view.lookup("other.example", "A")
        assert silent.questions == ["good.example. A"]


def test_a_chain_that_leaves_the_servers_knowledge_is_followed(start: Started) -> None:
    def script(query: bytes, _: bool) -> list[bytes]:
        if asked_name(query) == "a.example.":
            return [reply(query, "a.example. 50 CNAME b.example.", "b.example. 70 CNAME c.example.")]
        return [reply(query, "c.example. 60 A 192.0.2.9")]

    with FakeDns(script) as server:
        expected = Answer("a.example", "A", Outcome.FOUND, ("192.0.2.9",), 50)
        assert start(server.address).view(deadline()).lookup("a.example", "A") == expected


SOA = "example. 600 SOA ns.example. h.example. 1 2 3 4 90"


@pytest.mark.parametrize(
    ("rcode", "records", "outcome", "ttl"),
    [
        (dns.rcode.NOERROR, [SOA], Outcome.NODATA, 90),
        (dns.rcode.NXDOMAIN, [SOA], Outcome.NXDOMAIN, 90),
        (dns.rcode.NOERROR, ["good.example. 20 CNAME b.example.", SOA], Outcome.NODATA, 20),
        (dns.rcode.NXDOMAIN, ["good.example. 20 CNAME b.example.", SOA], Outcome.NXDOMAIN, 20),
        (dns.rcode.NOERROR, ["good.example. 7 MX 10 m.example."], Outcome.NODATA, 300),
    ],
)
def test_denials_and_their_ttl(
    rcode: dns.rcode.Rcode, records: list[str], outcome: Outcome, ttl: int, start: Started
) -> None:
    with FakeDns(lambda query, _: [reply(query, *records, code=rcode)]) as server:
        expected = Answer(GOOD, "A", outcome, ttl=ttl)
        assert start(server.address).view(deadline()).lookup(GOOD, "A") == expected


@pytest.mark.parametrize(
    "name", ["", ".", "a..example", ".example", "x" * 64 + ".example", "a." * 127 + "ab", "ü.example"]
)
def test_what_cannot_be_asked_does_not_exist_and_is_not_asked(name: str, start: Started) -> None:
    with FakeDns(good) as server:
        view = start(server.address).view(deadline())
        view.prefetch(name, "TXT")
        answer = view.lookup(name, "TXT")
        assert (answer.outcome, answer.reason) == (Outcome.NXDOMAIN, Reason.DNS_BAD_NAME)
        assert server.questions == []


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("localhost", "localhost. A"),  # no search domain
        ("Good.Example.", "good.example. A"),
        ("a\\046b.example", "a\\\\046b.example. A"),
        ('a b"@.example', 'a\\032b\\"\\@.example. A'),
    ],
)
def test_a_name_is_asked_as_it_is(name: str, asked: str, start: Started) -> None:
    with FakeDns(lambda query, _: [reply(query)]) as server:
        start(server.address).view(deadline()).lookup(name, "A")
        assert server.questions == [asked]


def test_many_who_ask_the_same_are_one_question(start: Started) -> None:
    gate = threading.Event()

    def script(query: bytes, _: bool) -> list[bytes]:
        gate.wait(LONG)
        return good(query)

    with FakeDns(script) as server:
        resolver = start(server.address)
        found: list[Answer] = []
        threads = [
            threading.Thread(target=lambda: found.append(resolver.view(deadline()).lookup(GOOD, "A")))
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        server.wait_for(1)
        gate.set()
        for thread in threads:
            thread.join()
        assert [answer.values for answer in found] == [("192.0.2.1",)] * 20
        assert server.questions == ["good.example. A"]


def test_what_was_asked_is_kept_in_every_spelling(start: Started) -> None:
    with FakeDns(good) as server:
        resolver = start(server.address)
        first = resolver.view(deadline()).lookup(GOOD, "A")
        assert resolver.view(deadline()).lookup("GOOD.example.", "A") is first
        assert len(server.questions) == 1


def test_a_failure_is_kept_too(start: Started) -> None:
    with FakeDns(FAULTS["SERVFAIL"][0]) as server:
        view = start(server.address).view(deadline())
        view.lookup(GOOD, "A")
        view.lookup(GOOD, "A")
        assert len(server.questions) == 1


def test_prefetch_does_not_wait_and_asks_at_once(start: Started) -> None:
    gate = threading.Event()

    def script(query: bytes, _: bool) -> list[bytes]:
        gate.wait(LONG)
        return good(query)

    with FakeDns(script) as server:
        view = start(server.address).view(deadline())
        for letter in "abcde":
            view.prefetch(f"{letter}.example", "A")
        server.wait_for(5)  # while none has an answer
        gate.set()
        for letter in "abcde":
            assert view.lookup(f"{letter}.example", "A").outcome is Outcome.FOUND
        view.prefetch("a.example", "A")
        assert len(server.questions) == 5


def test_a_message_does_not_wait_past_its_deadline_and_the_next_has_the_answer(start: Started) -> None:
    gate = threading.Event()

    def script(query: bytes, _: bool) -> list[bytes]:
        gate.wait(LONG)
        return good(query)

    with FakeDns(script) as server:
        resolver = start(server.address)
        for late in (time.monotonic() + 0.05, time.monotonic(), time.monotonic() - LONG):
            expected = Answer(GOOD, "A", Outcome.TEMPFAIL, reason=Reason.DNS_DEADLINE)
            assert resolver.view(late).lookup(GOOD, "A") == expected
        gate.set()
        assert resolver.view(deadline()).lookup(GOOD, "A").outcome is Outcome.FOUND
        assert resolver.view(0).lookup(GOOD, "A").outcome is Outcome.FOUND  # what is known takes no time
        assert len(server.questions) == 1


def test_nothing_runs_before_start_and_after_close() -> None:
    before = threading.active_count()
    resolver = DnsResolver([("127.0.0.1", 9)], LONG)
    resolver.close()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError):
        resolver.view(deadline()).lookup(GOOD, "A")
    resolver.start()
    resolver.close()
    resolver.close()
    assert threading.active_count() == before


def test_close_lets_go_of_who_waits() -> None:
    with FakeDns(lambda query, _: []) as server:
        resolver = DnsResolver([server.address], LONG)
        resolver.start()
        found: list[Answer] = []
        waiting = threading.Thread(target=lambda: found.append(resolver.view(deadline()).lookup(GOOD, "A")))
        waiting.start()
        server.wait_for(1)
        resolver.close()
        waiting.join()
        assert [(answer.outcome, answer.reason) for answer in found] == [(Outcome.TEMPFAIL, Reason.DNS_TIMEOUT)]


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 127.0.0.7\nnameserver ::1\nsearch example.org\n", {("127.0.0.7", 53), ("::1", 53)}),
        ("search example.org\n", {("127.0.0.1", 53)}),
    ],
)
def test_without_servers_those_of_the_system_are_asked(
    text: str, servers: set[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[Server] = set()

    async def exchange(server: Server, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> None:
        asked.add(server)
        raise OSError

    (tmp_path / "resolv.conf").write_text(text)
    system = functools.partial(dns.resolver.Resolver, filename=str(tmp_path / "resolv.conf"))
    monkeypatch.setattr(dns.resolver, "Resolver", system)
    monkeypatch.setattr(resolver_module, "exchange", exchange)
    resolver = DnsResolver((), LONG)
    resolver.start()
    resolver.view(deadline()).lookup(GOOD, "A")
    resolver.close()
    assert asked == servers
