"""A name server for one machine: answers from a master file, on loopback, by UDP and TCP.

Says it recurses, so that whoever expects a resolver is content. What the file does not have does not exist.
"""

import errno
import socketserver
import struct
import threading
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.rcode

from filterd.backend.zone import ZoneFile, zone_resolver
from filterd.lookup import Outcome

_HOST = "127.0.0.1"
_LENGTH = struct.Struct("!H")
_MAX_UDP = 1_232  # octets of a datagram; longer answers are cut, and asked for by TCP
_MIN_UDP = 512  # without EDNS (RFC 1035 4.2.1)
_MAX_TCP = 65_535
_TCP_TIMEOUT = 10  # seconds

_CODES = {
    Outcome.FOUND: dns.rcode.NOERROR,
    Outcome.NODATA: dns.rcode.NOERROR,
    Outcome.NXDOMAIN: dns.rcode.NXDOMAIN,
    Outcome.TEMPFAIL: dns.rcode.SERVFAIL,
}


class Nameserver:
    """Answers while its `with` lasts; `address` is the host and port where."""

    def __init__(self, zone_text: str) -> None:
        """`zone_text` is what `zone_resolver` reads; raises ZoneFileError."""
        self._zone = zone_resolver(zone_text)
        self._stack = ExitStack()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._tcp.server_address[:2]
        return str(host), int(port)

    def __enter__(self) -> "Nameserver":
        self._tcp, udp = _bind(self._zone)
        for server in (udp, self._tcp):
            self._stack.callback(server.server_close)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            self._stack.callback(thread.join)
            self._stack.callback(server.shutdown)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def respond(zone: ZoneFile, query: bytes, by_tcp: bool) -> bytes | None:
    """The answer to a query; None for what is none."""
    try:
        asked = dns.message.from_wire(query)
        if asked.flags & dns.flags.QR or len(asked.question) != 1:
            return None
        response = dns.message.make_response(asked, recursion_available=True)
    except dns.exception.DNSException:
        return None
    question = asked.question[0]
    outcome, chain = zone.find(question.name.canonicalize(), question.rdtype)
    response.flags |= dns.flags.AA
    response.set_rcode(_CODES[outcome])
    response.answer = chain
    size = _MAX_TCP if by_tcp else min(_MAX_UDP, max(_MIN_UDP, asked.payload))
    return response.to_wire(max_size=size, prefer_truncation=True)


def _bind(zone: ZoneFile) -> tuple["_TcpServer", "_UdpServer"]:
    while True:
        tcp = _TcpServer(zone)
        try:
            return tcp, _UdpServer(zone, tcp.server_address)
        except OSError as error:
            tcp.server_close()
            # The port that was free for TCP is somebody's for UDP.
            if error.errno != errno.EADDRINUSE:
                raise


class _UdpServer(socketserver.UDPServer):
    def __init__(self, zone: ZoneFile, address: Any) -> None:
        super().__init__(address, _UdpHandler)
        self.zone = zone


class _UdpHandler(socketserver.BaseRequestHandler):
    server: _UdpServer

    def handle(self) -> None:
        query, reply_to = self.request
        response = respond(self.server.zone, query, by_tcp=False)
        if response is not None:
            reply_to.sendto(response, self.client_address)


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, zone: ZoneFile) -> None:
        super().__init__((_HOST, 0), _TcpHandler)
        self.zone = zone


class _TcpHandler(socketserver.StreamRequestHandler):
    server: _TcpServer
    timeout = _TCP_TIMEOUT

    def handle(self) -> None:
        with suppress(OSError):  # the client is gone, or silent
            while len(length := self.rfile.read(_LENGTH.size)) == _LENGTH.size:
                response = respond(self.server.zone, self.rfile.read(*_LENGTH.unpack(length)), by_tcp=True)
                if response is None:
                    return
                self.wfile.write(_LENGTH.pack(len(response)) + response)
