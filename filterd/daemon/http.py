"""What Prometheus and load balancers ask by HTTP: /metrics, /healthz, /readyz.

A process of its own, so that nothing that comes over the network meets the master or a worker. It reads a request's
first line, asks the master over a socket of theirs, and closes. Whoever is slow, long or one too many is left.
"""

import asyncio
import json
import signal
import socket
import time
from typing import Any

from filterd.daemon.signals import ALL

_MAX_REQUEST = 8192
_MAX_CLIENTS = 32
# How long, in seconds, a client may take to ask, and to take its answer; and the master to answer.
_PATIENCE = 10.0
_MASTER_PATIENCE = 5.0
# The longest answer of the master's, in octets.
_MAX_ANSWER = 16 * 1024 * 1024
# For how long, in seconds, an answer is given again: no client costs the master more than that.
_FRESH = 0.5

_TEXT = "text/plain; version=0.0.4; charset=utf-8"  # what Prometheus calls its format
_PATHS = {"/metrics": "metrics", "/healthz": "status", "/readyz": "status"}


def serve(listener: socket.socket, master: socket.socket, alive: int) -> None:
    """Serve until the master has gone: `alive` is the end of a pipe that becomes readable then. For a process that does
    nothing else."""
    signal.set_wakeup_fd(-1)
    for each in ALL:
        # At a terminal the signals of the master's come here as well; it is the master who ends this process.
        signal.signal(each, signal.SIG_DFL if each in (signal.SIGTERM, signal.SIGCHLD) else signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)
    asyncio.run(_Http(listener, master).run(alive))


class _Http:
    def __init__(self, listener: socket.socket, master: socket.socket) -> None:
        self._listener = listener
        self._socket = master
        self._clients = 0
        self._asking = asyncio.Lock()
        self._known: dict[str, tuple[float, dict[str, Any]]] = {}

    async def run(self, alive: int) -> None:
        self._gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(alive, self._gone.set)
        self._reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=_MAX_ANSWER)
        server = await asyncio.start_server(self._client, sock=self._listener, limit=_MAX_REQUEST)
        async with server:
            await self._gone.wait()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= _MAX_CLIENTS:
                async with asyncio.timeout(_PATIENCE):
                    request = await reader.readuntil(b"\r\n\r\n")
                # The client's patience must not end a question to the master: its answer would be the next one's.
                answer = await self._answer(request)
                async with asyncio.timeout(_PATIENCE):
                    writer.write(answer)
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._clients -= 1
            writer.transport.abort()

    async def _answer(self, request: bytes) -> bytes:
        words = request.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _response("400 Bad Request", "this is no HTTP request\n")
        method, path = words[0], words[1].partition("?")[0]
        if path not in _PATHS:
            return _response("404 Not Found", "here are /metrics, /healthz and /readyz\n")
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", "GET or HEAD\n", allow="GET, HEAD")
        found = await self._ask(_PATHS[path])
        if found is None:
            status, text = "503 Service Unavailable", "the master does not answer\n"
        elif path == "/readyz" and not found.get("ready"):
            status, text = "503 Service Unavailable", "not ready\n"
        else:
            status, text = "200 OK", str(found.get("text", "ok\n"))
        return _response(status, text, body=method == "GET")

    async def _ask(self, command: str) -> dict[str, Any] | None:
        async with self._asking:
            at, known = self._known.get(command, (0.0, None))
            if known is not None and time.monotonic() - at < _FRESH:
                return known
            try:
                async with asyncio.timeout(_MASTER_PATIENCE):
                    self._writer.write(json.dumps({"command": command}).encode() + b"\n")
                    found = json.loads(await self._reader.readuntil(b"\n"))
            except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                # An answer that comes late would be taken for the next one's. The master starts another process.
                self._gone.set()
                return None
            if isinstance(found, dict):
                self._known[command] = time.monotonic(), found
                return found
            return None


def _response(status: str, text: str, *, body: bool = True, allow: str = "") -> bytes:
    octets = text.encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {_TEXT}", f"Content-Length: {len(octets)}", "Connection: close"]
    if allow:
        lines.append(f"Allow: {allow}")
    return "\r\n".join([*lines, "", ""]).encode() + (octets if body else b"")
