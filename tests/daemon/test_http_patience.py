"""A client's patience is none of the master's business."""

import asyncio
import json
import socket
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from filterd.daemon import http


def test_a_client_whose_time_is_over_does_not_leave_its_answer_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    # As if each request had come whole, at the last moment.
    monkeypatch.setattr(http, "_PATIENCE", 0.0)
    ours, masters = socket.socketpair()
    ours.setblocking(False)
    masters.setblocking(False)

    async def asked(served: Any, path: str) -> tuple[bytes, str]:
        reader, writer = asyncio.StreamReader(), MagicMock(drain=AsyncMock(), wait_closed=AsyncMock())
        reader.feed_data(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        client = asyncio.create_task(served._client(reader, writer))
        loop = asyncio.get_running_loop()
        command = json.loads(await loop.sock_recv(masters, 4096))["command"]
        await loop.sock_sendall(masters, json.dumps({"text": f"{command}!"}).encode() + b"\n")
        await client
        return writer.write.call_args[0][0].rpartition(b"\r\n")[2], command

    async def talk() -> list[tuple[bytes, str]]:
        served = http._Http(MagicMock(), ours)
        served._gone = asyncio.Event()
        served._reader, served._writer = await asyncio.open_connection(sock=ours)
        found = [await asked(served, "/metrics"), await asked(served, "/healthz")]
        served._writer.close()
        return found

    try:
        assert asyncio.run(talk()) == [(b"metrics!", "metrics"), (b"status!", "status")]
    finally:
        masters.close()
