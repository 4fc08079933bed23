"""One question put to one name server: by UDP with EDNS, by TCP where the answer does not fit (RFC 1035 4.2, RFC 7766).

Knows nothing of retries, caches or what an answer means.
"""

import asyncio
import secrets
import socket
import struct

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype

_HEADER = struct.Struct("!HHHHHH")
_TYPE_CLASS = struct.Struct("!HH")
_LENGTH = struct.Struct("!H")
_PAYLOAD = 1_232  # octets by UDP; more may be lost in fragments (RFC 9715 3)
# An OPT record: root, type 41, what we can receive, no flags, no options (RFC 6891 6.1.2).
_OPT = struct.pack("!BHHIH", 0, dns.rdatatype.OPT, _PAYLOAD, 0, 0)
_MAX_RESPONSE = 32_768  # octets by TCP: what more could say costs too much to read
_DATAGRAM = 65_535

Server = tuple[str, int]  #: IP address and port


class MalformedResponseError(Exception):
    """The server's answer to this very question cannot be read."""


async def exchange(server: Server, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> dns.message.QueryMessage:
    """The server's response, whatever its code. The caller bounds the time.

    Raises OSError where the server cannot be reached, MalformedResponseError.
    """
    # RFC 5452 9.2: the id and, by a new socket for each query, the source port cannot be guessed.
    query_id = secrets.randbits(16)
    query = _HEADER.pack(query_id, dns.flags.RD, 1, 0, 0, 1) + name.to_digestable() + _TYPE_CLASS.pack(rdtype, 1) + _OPT
    wire = await _by_udp(server, query, query_id)
    if _flags(wire) & dns.flags.TC:
        wire = await _by_tcp(server, query)
    return read_response(wire, query_id, name, rdtype)


def read_response(
    wire: bytes, query_id: int, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
) -> dns.message.QueryMessage:
    """The response to this very question; raises MalformedResponseError."""
    try:
        response = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError) as error:
        raise MalformedResponseError from error
    asked = [(each.name, each.rdtype, each.rdclass) for each in response.question]
    if (
        not isinstance(response, dns.message.QueryMessage)
        or not _answers(wire, query_id)
        or asked != [(name, rdtype, dns.rdataclass.IN)]
    ):
        raise MalformedResponseError
    return response


async def _by_udp(server: Server, query: bytes, query_id: int) -> bytes:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        # A connected socket hears this server only, and hears of it when nobody listens there.
        udp.connect(server)
        udp.send(query)
        while True:
            wire = await loop.sock_recv(udp, _DATAGRAM)
            if _answers(wire, query_id):
                return wire


async def _by_tcp(server: Server, query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(_LENGTH.pack(len(query)) + query)
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > _MAX_RESPONSE:
            raise MalformedResponseError
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        raise MalformedResponseError from None
    finally:
        writer.close()


def _answers(wire: bytes, query_id: int) -> bool:
    """Whether this is a response to our query, and not somebody's guess (RFC 5452 9.1)."""
    if len(wire) < _HEADER.size:
        return False
    found, flags, *_ = _HEADER.unpack_from(wire)
    return bool(found == query_id and flags & dns.flags.QR)


def _flags(wire: bytes) -> int:
    return int(_HEADER.unpack_from(wire)[1])
