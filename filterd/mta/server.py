"""The bundled MTA: mail in by SMTP, through the milters as Postfix does it, out into Maildirs.

A neighbour of the daemon, not a part of it: it meets filterd over the milter's socket alone.
"""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import Protocol

from filterd.mail.endpoint import Endpoint
from filterd.mta.auth import Gate
from filterd.mta.client_identity import ClientIdentity, TlsIdentity
from filterd.mta.config import DefaultAction, Listener, MtaConfig, Service
from filterd.mta.connection import READ_AT_ONCE, Connection
from filterd.mta.deliver import Maildirs
from filterd.mta.outgoing import Outgoing, ResolverUntil
from filterd.mta.pop3 import Pop3Dialogue
from filterd.mta.queue import Queue
from filterd.mta.queue_runner import QueueRunner
from filterd.mta.session import SmtpSession
from filterd.mta.smtp_dialogue import SmtpDialogue

_GRACE = 30.0  # seconds for the commands that are under way, when it stops


class Dialogue(Protocol):
    """One connection, by whatever protocol."""

    async def run(self) -> None:
        """Talk until it is over. Raises EOFError or OSError where the client ends it."""

    async def refuse(self, problem: str) -> None:
        """Turn the client away."""

    def end(self) -> bool:
        """End with the command that is under way; False where there is none."""


class BundledMta:
    """The server. `start` and `stop` belong to one event loop. Without `resolver` mail leaves by named routes only.

    Raises ValueError, at once, for a setting that cannot be.
    """

    def __init__(self, config: MtaConfig, resolver: ResolverUntil | None = None) -> None:
        DefaultAction(config.default_action)
        for each in (*config.milters, *config.policy_services):
            Endpoint.parse(each if isinstance(each, str) else each.socket)
        for listener in config.listeners:
            if (missing := listener.service.lacks(config.tls is not None, config.auth_without_tls)) is not None:
                raise ValueError(missing)
        self.config = config
        self.queue = Queue(config.queue_folder)
        self._maildirs = Maildirs(config.maildir, config.hostname)
        outgoing = Outgoing(config, self._maildirs, resolver, self._is_own)
        self._runner = QueueRunner(self.queue, config, outgoing)
        self._gate = Gate(config.users, config.auth_failure_limit, config.auth_failure_span)
        self._in_use: set[str] = set()
        self._runs = False
        self._servers: list[asyncio.Server] = []
        self._open: dict[asyncio.Task[None], tuple[str, Dialogue]] = {}

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Where it listens, each with its port."""
        assert self._servers, "not started"
        ports = (int(server.sockets[0].getsockname()[1]) for server in self._servers)
        return tuple(replace(each, port=port) for each, port in zip(self.config.listeners, ports, strict=True))

    @property
    def port(self) -> int:
        """The port that it listens on first."""
        return self.listeners[0].port

    async def start(self) -> None:
        """Bring on its way what is in the queue, and listen. Raises OSError where that cannot be."""
        self.config.maildir.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._runner.start()
        self._runs = True
        try:
            for listener in self.config.listeners:
                self._servers.append(await self._listen(listener))
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Listen no more, and end what is open; a mail that was answered with 250 is on the disk."""
        if not self._runs:
            return
        self._runs = False
        for server in self._servers:
            server.close()
        for task, (_, dialogue) in self._open.items():
            if not dialogue.end():
                task.cancel()
        if self._open:
            _, late = await asyncio.wait(self._open, timeout=_GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._runner.stop()

    def _is_own(self, address: str, port: int) -> bool:
        """Whether we listen there."""
        for host, own_port in (each.getsockname()[:2] for server in self._servers for each in server.sockets):
            if own_port == port and (
                address == host or (ip_address(host).is_unspecified and _is_of_this_machine(address))
            ):
                return True
        return False

    async def _listen(self, listener: Listener) -> asyncio.Server:
        async def _come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(listener.service, Connection(reader, writer, self.config.smtp_timeout))

        encrypted = listener.service.within_tls
        try:
            return await asyncio.start_server(
                _come,
                listener.host,
                listener.port,
                limit=READ_AT_ONCE,
                ssl=self.config.tls if encrypted else None,
                ssl_handshake_timeout=self.config.smtp_timeout if encrypted else None,
            )
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {listener}: {error.strerror}") from None

    async def _serve(self, service: Service, connection: Connection) -> None:
        """One connection, whatever becomes of it."""
        address, _ = connection.name("peername")
        dialogue = self._dialogue(service, connection)
        task = asyncio.current_task()
        assert task is not None
        try:
            if (problem := self._too_many(address)) is not None:
                await dialogue.refuse(problem)
                return
            self._open[task] = address, dialogue
            await dialogue.run()
        except (EOFError, OSError):
            pass  # the client has gone
        finally:
            await connection.close()
            self._open.pop(task, None)

    def _dialogue(self, service: Service, connection: Connection) -> Dialogue:
        if service in (Service.IMAP, Service.IMAPS):
            # pymap need not be there for those who do without.
            from filterd.mta.imap import ImapDialogue

            return ImapDialogue(self.config, connection, self._maildirs, self._gate)
        if service in (Service.POP3, Service.POP3S):
            return Pop3Dialogue(self.config, connection, self._maildirs, self._gate, self._in_use)
        tls = None if connection.tls is None else TlsIdentity.of(connection.tls)
        client = replace(ClientIdentity.of_peer(*connection.name("peername")), tls=tls)
        session = SmtpSession(self.config, self._runner, client, connection.name("sockname"))
        return SmtpDialogue(self.config, service, connection, session, self._gate)

    def _too_many(self, address: str) -> str | None:
        """What is wrong with a connection that is one too many."""
        if len(self._open) >= self.config.connection_limit:
            return "too many connections"
        if Counter(other for other, _ in self._open.values())[address] >= self.config.client_connection_limit:
            return f"too many connections from {address}"
        return None


def _is_of_this_machine(address: str) -> bool:
    """Whether the IP address is one of ours: only those can be bound to."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


@contextmanager
def running(config: MtaConfig, resolver: ResolverUntil | None = None) -> Iterator[BundledMta]:
    """Run it in a thread of its own for as long as the block lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="bundled-mta", daemon=True)
    thread.start()
    mta = BundledMta(config, resolver)
    try:
        asyncio.run_coroutine_threadsafe(mta.start(), loop).result()
        yield mta
    finally:
        asyncio.run_coroutine_threadsafe(mta.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
