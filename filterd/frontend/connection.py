"""The socket of one MTA: what comes is heard, what is answered is sent, and nothing that goes wrong costs another.

Knows neither the protocol (`Talk`) nor on which thread it is served (`native_listener`).
"""

import socket
import time
from contextlib import suppress
from typing import Protocol

from filterd.backend.waiting import about_to_wait
from filterd.frontend.conversation import Reception
from filterd.frontend.strand import Abandoned

# How long, in seconds, an MTA may take to take an answer.
_PATIENCE = 30.0
# How much is read at once, in octets: a mail that is not large, or a chunk of one that is.
_PIECE = 65536
# How long, in seconds, what is not looked at may pile up.
_LAZY = 0.002


class Talk(Protocol):
    """One side of a protocol: octets in, octets out."""

    @property
    def over(self) -> bool:
        """Whether nothing more is to be heard."""

    @property
    def bored(self) -> bool:
        """Whether what comes next is mostly not even looked at."""

    def hear(self, octets: bytes) -> bytes: ...
    def overdue(self, seconds: float) -> bool: ...
    def give_up(self) -> bytes | None: ...
    def close(self) -> None: ...


class Connection:
    """One MTA. `heard_at` is on time.monotonic()."""

    __slots__ = ("_reception", "_talk", "heard_at", "socket")

    def __init__(self, accepted: socket.socket, reception: Reception, talk: Talk) -> None:
        self.socket = accepted
        self.heard_at = time.monotonic()
        self._reception = reception
        self._talk = talk

    def serve(self) -> bool | None:
        """Take what has come, and answer it; returns whether more may come, None where that is another's by now."""
        self.heard_at = time.monotonic()
        try:
            octets = self.socket.recv(_PIECE, socket.MSG_DONTWAIT)
            answer = self._talk.hear(octets)
            while self._talk.bored and octets and not answer:
                # Sendmail writes each field by itself: reading each by itself would be what costs most.
                about_to_wait()
                time.sleep(_LAZY)
                octets = self.socket.recv(_PIECE, socket.MSG_DONTWAIT)
                answer = self._talk.hear(octets)
            if answer:
                self._send(answer)
        except BlockingIOError:
            return True
        except OSError:
            return False  # the MTA has gone
        except Abandoned:
            return None
        except BaseException as error:  # noqa: BLE001 - it costs this connection and no other
            self._reception.fault("connection", error)
            return False
        return bool(octets) and not self._talk.over

    def overdue(self, now: float) -> bool:
        """Whether the engine has been at work for too long."""
        return self._talk.overdue(now - self.heard_at)

    def give_up(self) -> bool | None:
        """Answer without the engine; returns whether more may come, None where the engine just came back."""
        try:
            answer = self._talk.give_up()
            if answer is None:
                return None
            return self.socket.send(answer, socket.MSG_DONTWAIT) == len(answer) and not self._talk.over
        except OSError:
            return False  # the MTA has gone, or takes nothing
        except BaseException as error:  # noqa: BLE001 - it costs this connection and no other
            self._reception.fault("connection", error)
            return False

    def hang_up(self) -> None:
        """Make whoever has the turn see the end."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def end_at_rest(self) -> None:
        """Take nothing more than what has come: that is answered, and then there is an end."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """The connection has ended."""
        try:
            self._talk.close()
        except BaseException as error:  # noqa: BLE001 - as above
            self._reception.fault("close", error)
        self.socket.close()

    def _send(self, answer: bytes) -> None:
        try:
            sent = self.socket.send(answer, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        if sent < len(answer):
            about_to_wait()
            self.socket.settimeout(_PATIENCE)
            self.socket.sendall(answer[sent:])
            self.socket.settimeout(None)
