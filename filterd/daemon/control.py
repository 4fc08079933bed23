"""The control socket: who is at the machine asks the master in one line of JSON, and is answered in one.

`{"command": "status"}` and the like. The master waits for nobody: a client that is slow to ask or to take its answer is
left alone, and then left. What a command means is the master's to know.
"""

import json
import socket
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import PurePath
from typing import Any

from filterd.daemon.listen import Listener
from filterd.policy.schema import Server

#: Where the control socket is if nobody says otherwise, and the milter's socket has no path.
DEFAULT = "unix:/run/filterd/control.sock"

_MAX_CLIENTS = 16
_MAX_REQUEST = 4096
_MAX_ANSWER = 16 * 1024 * 1024
# How long, in seconds, a client may take to ask, and to take its answer.
_PATIENCE = 10.0


class ControlError(Exception):
    """Nobody answers at the control socket; the message says why."""


def control_address(server: Server) -> str:
    """Where a daemon is controlled: as the policy says, else beside the socket that MTAs come to."""
    sockets = (*server.milter, *server.policy_service)
    beside = next((each for each in sockets if each.startswith("unix:")), None)
    return server.control or (f"unix:{PurePath(beside[5:]).with_name('control.sock')}" if beside else DEFAULT)


@dataclass(eq=False, slots=True)
class Client:
    """One who asks. `until` is when it is left, on time.monotonic()."""

    socket: socket.socket
    until: float
    stays: bool = False
    asked: bool = False
    inbox: bytes = b""
    outbox: bytes = b""


#: Takes a client and its request; answers at once or later.
Handle = Callable[[Client, Mapping[str, Any]], None]


@dataclass(slots=True)
class Control:
    """The clients of one process. `listener` is None where only adopted sockets ask."""

    listener: Listener | None
    _clients: set[Client] = field(default_factory=set)

    def adopt(self, one: socket.socket) -> None:
        """Take a connected socket for a client that may stay and ask again."""
        one.setblocking(False)
        self._clients.add(Client(one, inf, stays=True))

    def readers(self) -> list[int]:
        """The descriptors of those whose words are waited for."""
        room = len(self._clients) < _MAX_CLIENTS
        # Who waits for an answer is listened to as well: it may go.
        coming = [self.listener.socket.fileno()] if self.listener and room else []
        return [*coming, *(client.socket.fileno() for client in self._clients)]

    def writers(self) -> list[int]:
        """The descriptors of those who are to take more of an answer."""
        return [client.socket.fileno() for client in self._clients if client.outbox]

    def until(self) -> float:
        """When somebody is to be left at the latest, on time.monotonic()."""
        return min((client.until for client in self._clients), default=inf)

    def serve(self, ready: Collection[int], handle: Handle) -> None:
        """Go on with those who are ready, and leave who took too long."""
        if self.listener is not None and self.listener.socket.fileno() in ready:
            self._accept(self.listener.socket)
        now = time.monotonic()
        for client in list(self._clients):
            if client.socket.fileno() in ready:
                self._hear(client, handle)
                self._send(client)
            if now > client.until:
                self._leave(client)

    def answer(self, client: Client, answer: Mapping[str, Any]) -> None:
        """Answer a request. Nothing happens where the client has gone."""
        if client not in self._clients:
            return
        client.asked = False
        client.outbox += json.dumps(answer).encode() + b"\n"
        client.until = inf if client.stays else time.monotonic() + _PATIENCE
        self._send(client)

    def close(self) -> None:
        """Close what is open, in a child that has no part in it or at the end. The socket's file stays."""
        for client in list(self._clients):
            self._leave(client)
        if self.listener is not None:
            self.listener.socket.close()
            self.listener = None

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            accepted, _ = listener.accept()
            accepted.setblocking(False)
            self._clients.add(Client(accepted, time.monotonic() + _PATIENCE))

    def _hear(self, client: Client, handle: Handle) -> None:
        try:
            octets = client.socket.recv(_MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        client.inbox += octets
        if not octets or len(client.inbox) > _MAX_REQUEST or client.asked:
            self._leave(client)
            return
        line, ended, rest = client.inbox.partition(b"\n")
        if not ended:
            return
        client.inbox, client.asked, client.until = rest, True, inf
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if isinstance(request, dict):
            handle(client, request)
        else:
            self.answer(client, {"error": "a request is one line, a JSON object"})

    def _send(self, client: Client) -> None:
        if not client.outbox:
            return
        try:
            sent = client.socket.send(client.outbox)
        except BlockingIOError:
            return
        except OSError:
            self._leave(client)
            return
        client.outbox = client.outbox[sent:]
        if not client.outbox and not client.stays:
            self._leave(client)

    def _leave(self, client: Client) -> None:
        self._clients.discard(client)
        client.socket.close()


def ask(address: str, command: str, patience: float = 30.0) -> dict[str, Any]:
    """What the daemon at `unix:PATH` answers to a command; `patience` is in seconds. Raises ControlError."""
    path = address.removeprefix("unix:")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(patience)
        try:
            asking.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            raise ControlError(f"no filterd is running at {path}") from None
        except OSError as error:
            raise ControlError(f"{path}: {error.strerror or error}") from None
        octets = b""
        try:
            asking.sendall(json.dumps({"command": command}).encode() + b"\n")
            while not octets.endswith(b"\n") and len(octets) <= _MAX_ANSWER:
                more = asking.recv(65536)
                if not more:
                    raise ControlError(f"the filterd at {path} has gone without an answer")
                octets += more
        except TimeoutError:
            raise ControlError(f"the filterd at {path} has not answered within {patience:.0f} s") from None
        except OSError as error:
            raise ControlError(f"{path}: {error.strerror or error}") from None
    try:
        answer = json.loads(octets)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ControlError(f"{path}: what answers there is no filterd")
    if "error" in answer:
        raise ControlError(f"{path}: {answer['error']}")
    return answer
