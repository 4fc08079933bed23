"""A name server that does what no real one does: it says whatever a test makes it say, by UDP and TCP."""

import errno
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

_LENGTH = struct.Struct("!H")

#: What is sent for a query, message by message; by TCP with its length in front, so that a test can send a wrong one.
Script = Callable[[bytes, bool], Sequence[bytes]]


class FakeDns:
    """Serves while its `with` lasts, each query in a thread. `questions` are those that came, as "NAME TYPE"."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.questions: list[str] = []
        self.arrived = threading.Condition()

    def __enter__(self) -> "FakeDns":
        self._udp, self._tcp = _bind()
        self.address = "127.0.0.1", int(self._udp.getsockname()[1])
        self._threads = [threading.Thread(target=work) for work in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.address)
        self._tcp.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def wait_for(self, count: int) -> None:
        """Return when so many questions have come."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.questions) >= count, timeout=30)

    def _serve_udp(self) -> None:
        while True:
            query, client = self._udp.recvfrom(65_535)
            if not query:
                return
            self._note(query)
            threading.Thread(target=self._reply_udp, args=(query, client), daemon=True).start()

    def _reply_udp(self, query: bytes, client: object) -> None:
        with suppress(OSError):  # closed by now
            for message in self._script(query, False):
                self._udp.sendto(message, client)  # type: ignore[arg-type]

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as incoming:
                query = incoming.read(*_LENGTH.unpack(incoming.read(2)))
                for message in self._script(query, True):
                    connection.sendall(message)

    def _note(self, query: bytes) -> None:
        question = dns.message.from_wire(query).question[0]
        with self.arrived:
            self.questions.append(f"{question.name} {question.rdtype.name}")
            self.arrived.notify_all()


def reply(query: bytes, *records: str, code: dns.rcode.Rcode = dns.rcode.NOERROR, flags: int = 0) -> bytes:
    """A well-formed response; each of `records` is "NAME TTL TYPE DATA", NS and SOA go to the authority section."""
    response = dns.message.make_response(dns.message.from_wire(query), recursion_available=True)
    response.set_rcode(code)
    response.flags |= flags
    for record in records:
        name, ttl, rdtype, data = record.split(" ", 3)
        section = response.authority if rdtype in ("NS", "SOA") else response.answer
        section.append(dns.rrset.from_text(name, int(ttl), "IN", rdtype, data))
    return response.to_wire(max_size=65_535)


def framed(message: bytes) -> bytes:
    """A message as TCP has it."""
    return _LENGTH.pack(len(message)) + message


def _bind() -> tuple[socket.socket, socket.socket]:
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        udp.bind(("127.0.0.1", 0))
        try:
            tcp.bind(udp.getsockname())
        except OSError as error:
            udp.close()
            tcp.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            tcp.listen()
            return udp, tcp
