"""Postfix's side of the policy delegation protocol, as a test plays it: one connection, one question at a time."""

import socket
from dataclasses import replace
from typing import Any, Self

from filterd.wire.access_policy import ProtocolState, Request, encode_request

_PATIENCE = 60.0
#: A client of ours, so that nothing asks DNS.
QUESTION = Request(
    ProtocolState.RCPT,
    protocol_name="ESMTP",
    helo_name="client.example",
    sender="a@example.org",
    recipient="b@example.net",
    client_address="127.0.0.1",
    client_name="localhost",
    client_port=40000,
    instance="1.2.3.0",
)


class PolicyClient:
    """A connection to `unix:PATH` or `inet:PORT@HOST`."""

    def __init__(self, address: str) -> None:
        kind, _, rest = address.partition(":")
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(_PATIENCE)
            self.socket.connect(rest)
        else:
            port, _, host = rest.partition("@")
            self.socket = socket.create_connection((host, int(port)), _PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, **changes: Any) -> str | None:
        """The action that is answered to `QUESTION` with these changes; None where the connection ends instead."""
        try:
            self.send(encode_request(replace(QUESTION, **changes)))
        except (BrokenPipeError, ConnectionResetError):
            return None
        return self.answer()

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def answer(self) -> str | None:
        """The next answer; None at the end of the connection."""
        answer = b""
        while not answer.endswith(b"\n\n"):
            try:
                octets = self.socket.recv(1)
            except ConnectionResetError:
                octets = b""
            if not octets:
                assert not answer
                return None
            answer += octets
        return answer.decode().removeprefix("action=").removesuffix("\n\n")
