"""A name server that is far away: passes questions on to another one, and keeps each answer for a while."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_ADDRESS = "127.53.0.55"


@dataclass(frozen=True, slots=True)
class FarAway:
    """One that runs. `questions` has what was asked: when, by the monotonic clock in seconds, and which name."""

    address: str
    questions: list[tuple[float, str]] = field(default_factory=list)

    def rounds(self, round_trip: float) -> int:
        """How many questions had to wait for the answer to another one, plus one: round trips, one after the other."""
        rounds, until = 0, float("-inf")
        for asked, _ in self.questions:
            if asked >= until:
                rounds, until = rounds + 1, asked + round_trip
        return rounds


@contextmanager
def far_away(upstream: str, round_trip: float, address: str = _ADDRESS, port: int = 53) -> Iterator[FarAway]:
    """A server whose answers, those of `upstream`, come after `round_trip` seconds. By UDP alone."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        door = _open(loop, upstream, round_trip, address, port)
        yield asyncio.run_coroutine_threadsafe(door, loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _open(loop: asyncio.AbstractEventLoop, upstream: str, round_trip: float, address: str, port: int) -> FarAway:
    server = FarAway(address)
    await loop.create_datagram_endpoint(
        lambda: _Door(loop, server, upstream, port, round_trip), local_addr=(address, port)
    )
    return server


class _Door(asyncio.DatagramProtocol):
    def __init__(
        self, loop: asyncio.AbstractEventLoop, server: FarAway, upstream: str, port: int, round_trip: float
    ) -> None:
        self._loop = loop
        self._server = server
        self._upstream = upstream, port
        self._round_trip = round_trip

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, who: tuple[str, int]) -> None:
        now = time.monotonic()
        self._server.questions.append((now, _name(data)))
        self._loop.create_task(self._answer(data, who, now + self._round_trip))

    async def _answer(self, question: bytes, who: tuple[str, int], when: float) -> None:
        answered: asyncio.Future[bytes] = self._loop.create_future()
        transport, _ = await self._loop.create_datagram_endpoint(lambda: _Asked(answered), remote_addr=self._upstream)
        transport.sendto(question)
        answer = await answered
        transport.close()
        await asyncio.sleep(when - time.monotonic())
        self._transport.sendto(answer, who)


class _Asked(asyncio.DatagramProtocol):
    def __init__(self, answered: asyncio.Future[bytes]) -> None:
        self._answered = answered

    def datagram_received(self, data: bytes, who: tuple[str, int]) -> None:
        if not self._answered.done():
            self._answered.set_result(data)


def _name(question: bytes) -> str:
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    return ".".join(labels).lower()
