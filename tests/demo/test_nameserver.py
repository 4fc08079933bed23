"""The demo's name server, by its wire: UDP and TCP, truncation, and what is no query."""

import socket
import struct

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from filterd.backend.zone import ZoneFileError, zone_resolver
from filterd.demo.nameserver import Nameserver, respond

STRING = '"' + "x" * 200 + '" '
ZONE = f"""\
small.example. TXT hello
medium.example. TXT {STRING * 4}
large.example. TXT {STRING * 20}
; fails: slow.example
"""


def ask(server: Nameserver, name: str, by_tcp: bool = False, edns: bool = True) -> dns.message.Message:
    host, port = server.address
    query = dns.message.make_query(name, "TXT", use_edns=0 if edns else -1, payload=4_096)
    return (dns.query.tcp if by_tcp else dns.query.udp)(query, host, 30, port)


@pytest.mark.parametrize("by_tcp", [False, True])
@pytest.mark.parametrize(
    ("name", "code", "answers"),
    [
        ("small.example", dns.rcode.NOERROR, 1),
        ("example", dns.rcode.NOERROR, 0),
        ("none.example", dns.rcode.NXDOMAIN, 0),
        ("slow.example", dns.rcode.SERVFAIL, 0),
    ],
)
def test_codes(name: str, code: dns.rcode.Rcode, answers: int, by_tcp: bool) -> None:
    with Nameserver(ZONE) as server:
        response = ask(server, name, by_tcp)
        assert (response.rcode(), len(response.answer)) == (code, answers)
        assert response.flags & dns.flags.RA


@pytest.mark.parametrize(
    ("name", "edns", "cut"),
    [
        ("small", True, False),
        ("medium", True, False),
        ("large", True, True),
        ("small", False, False),
        ("medium", False, True),
    ],
)
def test_what_does_not_fit_a_datagram_is_cut_and_whole_by_tcp(name: str, edns: bool, cut: bool) -> None:
    with Nameserver(ZONE) as server:
        response = ask(server, f"{name}.example", edns=edns)
        assert bool(response.flags & dns.flags.TC) is cut
        assert len(response.answer) == (0 if cut else 1)
        assert len(ask(server, f"{name}.example", by_tcp=True, edns=edns).answer) == 1


@pytest.mark.parametrize(
    "query", [b"", b"\0", b"\xff" * 30, dns.message.make_response(dns.message.make_query("a", "A")).to_wire()]
)
def test_what_is_no_query_gets_no_answer(query: bytes) -> None:
    assert respond(zone_resolver(ZONE), query, by_tcp=False) is None
    with Nameserver(ZONE) as server, socket.create_connection(server.address, timeout=30) as tcp:
        tcp.sendall(struct.pack("!H", len(query)) + query)
        tcp.shutdown(socket.SHUT_WR)
        assert tcp.recv(1) == b""
        assert len(ask(server, "small.example").answer) == 1


def test_one_connection_carries_many_questions() -> None:
    with Nameserver(ZONE) as server, socket.create_connection(server.address, timeout=30) as tcp:
        for name in ("small.example", "large.example", "none.example"):
            response = dns.query.tcp(dns.message.make_query(name, "TXT"), "", 30, sock=tcp)
            assert bool(response.answer) is (name != "none.example")


def test_a_text_that_is_no_zone_is_an_error() -> None:
    with pytest.raises(ZoneFileError):
        Nameserver("x. A 1.2.3\n")
