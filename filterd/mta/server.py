"""The bundled MTA: mail in by SMTP, through the milters as Postfix does it, out into Maildirs.

A neighbour of the daemon, not a part of it: it meets filterd over the milter's socket alone.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from filterd.mail.endpoint import Endpoint
from filterd.mta.config import DefaultAction, MtaConfig
from filterd.mta.deliver import Maildirs
from filterd.mta.queue import Queue
from filterd.mta.queue_runner import QueueRunner
from filterd.mta.smtp_dialogue import SmtpDialogue


class BundledMta:
    """The server. `start` and `stop` belong to one event loop.

    Raises ValueError, at once, for a setting that cannot be.
    """

    def __init__(self, config: MtaConfig) -> None:
        DefaultAction(config.default_action)
        for socket in (*config.milters, *config.policy_services):
            Endpoint.parse(socket)
        self.config = config
        self.queue = Queue(config.queue_folder)
        self._runner = QueueRunner(self.queue, config, Maildirs(config.maildir, config.hostname))
        self._dialogues: set[SmtpDialogue] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None, "not started"
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Bring on its way what is in the queue, and listen. Raises OSError where that cannot be."""
        loop = asyncio.get_running_loop()
        self.config.maildir.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._runner.start()
        try:
            self._server = await loop.create_server(self._dialogue, self.config.host, self.config.port)
        except OSError:
            await self._runner.stop()
            raise

    async def stop(self) -> None:
        """Listen no more, and close what is open; a mail that was answered with 250 is on the disk."""
        if self._server is None:
            return
        self._server.close()
        ending = [each.end() for each in tuple(self._dialogues)]
        await asyncio.gather(*(each for each in ending if each is not None), return_exceptions=True)
        await self._server.wait_closed()
        await self._runner.stop()

    def _dialogue(self) -> SmtpDialogue:
        return SmtpDialogue(self.config, self._runner, self._dialogues)


@contextmanager
def running(config: MtaConfig) -> Iterator[BundledMta]:
    """Run it in a thread of its own for as long as the block lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="bundled-mta", daemon=True)
    thread.start()
    mta = BundledMta(config)
    try:
        asyncio.run_coroutine_threadsafe(mta.start(), loop).result()
        yield mta
    finally:
        asyncio.run_coroutine_threadsafe(mta.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
