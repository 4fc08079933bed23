"""Brings what is in the queue on its way: each mail when it is due, by one thread at a time.

What came of a try is written into the queue, and when the next one is due. What fails for good, or waits for too long,
goes back to its sender as a bounce. A failure is on the disk before its bounce is, and the bounce is tried only once
the disk says that its mail has bounced: so there is one bounce, whenever the machine stops.
"""

import asyncio
import heapq
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from filterd.mta.bounce import bounce_of, can_bounce
from filterd.mta.config import MtaConfig
from filterd.mta.outgoing import Outgoing
from filterd.mta.queue import Queue, QueueBusyError
from filterd.mta.queued_mail import Fate, QueuedMail

_log = logging.getLogger("filterd.mta")
_AT_ONCE = 20  # mails
_PATIENCE = 1.0  # seconds to wait for somebody else who works at a mail
_LONGEST_NAP = 60.0  # seconds; clocks are set while we sleep


class QueueRunner:
    """Runs one queue. Its methods belong to one event loop."""

    def __init__(self, queue: Queue, config: MtaConfig, outgoing: Outgoing) -> None:
        self._queue = queue
        self._config = config
        self._outgoing = outgoing
        # When each mail is due; what the heap says otherwise is out of date.
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._busy: dict[str, asyncio.Future[float | None]] = {}
        self._news = asyncio.Event()
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Begin with what is in the queue already. Raises OSError, QueueBusyError where another process runs it."""
        self._loop = asyncio.get_running_loop()
        self._bell = await asyncio.to_thread(self._queue.open)
        self._threads = ThreadPoolExecutor(_AT_ONCE, "queue")
        self._loop.add_reader(self._bell, self._rung)
        self._tasks = [self._loop.create_task(self._watch()), self._loop.create_task(self._run())]

    async def stop(self) -> None:
        """Stop; what is under way is ended first."""
        self._loop.remove_reader(self._bell)
        os.close(self._bell)
        for task in self._tasks:
            task.cancel()
        self._outgoing.stop()
        await asyncio.gather(*self._tasks, *self._busy.values(), return_exceptions=True)
        self._threads.shutdown()
        self._queue.close()

    async def take(self, mail: QueuedMail, content: bytes) -> None:
        """Accept a mail: when this returns it is on the disk, and if nothing is in the way in the mailboxes.

        Raises OSError.
        """
        # fsync takes its time; other sessions need not wait for it.
        due = await asyncio.to_thread(self._accept, mail, content)
        self._schedule(mail.queue_id, due)

    def _accept(self, mail: QueuedMail, content: bytes) -> float | None:
        self._queue.accept(mail, content)
        if not self._outgoing.is_local(mail):
            return _due(mail)
        try:
            return self._try(mail.queue_id)
        except OSError as error:
            # It is accepted all the same.
            _log.error("queue: %s: %s", mail.queue_id, error)
            return time.time() + self._config.retry_first

    def _try(self, queue_id: str) -> float | None:
        """Try to bring a mail on its way. Gives when it is due again, None where it is not."""
        try:
            return self._deliver(queue_id)
        except QueueBusyError:
            return time.time() + _PATIENCE

    def _deliver(self, queue_id: str) -> float | None:
        with self._queue.locked(queue_id, _PATIENCE) as mail:
            if mail is None:
                return None
            if not mail.failed:
                if mail.hold is not None or mail.due > time.time():
                    return _due(mail)
                if self._is_too_early(mail):
                    return time.time() + _PATIENCE
                mail = self._attempt(mail)
            bounce = self._bounce(mail) if mail.failed else None
            mail = mail.after(replace(each, fate=Fate.BOUNCED) for each in mail.failed)
            if mail.waiting:
                self._queue.update(mail)
            else:
                self._queue.remove(queue_id)
            if bounce is not None:
                self._loop.call_soon_threadsafe(self._schedule, bounce.queue_id, bounce.due)
            return _due(mail)

    def _is_too_early(self, mail: QueuedMail) -> bool:
        """Whether the mail is a bounce that a crash may still make us write again."""
        cause = None if mail.cause is None else self._queue.get(mail.cause)
        return cause is not None and bool(cause.failed)

    def _attempt(self, mail: QueuedMail) -> QueuedMail:
        """Try all that wait. Failures are on the disk when it returns."""
        mail = replace(mail, attempts=mail.attempts + 1)
        for outcomes in self._outgoing.deliver(mail, self._queue.content(mail.queue_id)):
            mail = mail.after(outcomes)
            if mail.waiting and any(each.host and each.fate is Fate.DELIVERED for each in outcomes):
                # What another server has taken would be sent again after a crash.
                self._queue.update(mail)
        now = time.time()
        # As Postfix: the longer it waits already, the longer it waits again.
        delay = min(max(now - mail.arrived, self._config.retry_first), self._config.retry_most)
        mail = replace(mail, due=now + delay)
        if now - mail.arrived >= self._config.expire:
            mail = mail.after(replace(each, fate=Fate.FAILED) for each in mail.waiting)
        if mail.failed:
            self._queue.update(mail)
        return mail

    def _bounce(self, mail: QueuedMail) -> QueuedMail | None:
        """Queue the bounce for what has failed. It is there already where we crashed behind this line before."""
        for each in mail.failed:
            _log.warning("queue: %s: %s: given up: %s %s", mail.queue_id, each.address, each.status, each.reply)
        if not can_bounce(mail):
            _log.warning("queue: %s: nobody is told of it: it has no sender", mail.queue_id)
            return None
        bounce, content = bounce_of(mail, self._queue.content(mail.queue_id), self._config.hostname)
        return self._queue.get(bounce.queue_id) or self._queue.accept(bounce, content)

    def _schedule(self, queue_id: str, due: float | None) -> None:
        if due is None:
            self._due.pop(queue_id, None)
        else:
            self._due[queue_id] = due
            heapq.heappush(self._heap, (due, queue_id))
            self._news.set()

    async def _run(self) -> None:
        while True:
            while self._heap and len(self._busy) < _AT_ONCE and self._heap[0][0] <= time.time():
                due, queue_id = heapq.heappop(self._heap)
                if self._due.get(queue_id) == due and queue_id not in self._busy:
                    self._begin(queue_id)
            wait = self._heap[0][0] - time.time() if self._heap and len(self._busy) < _AT_ONCE else _LONGEST_NAP
            with suppress(TimeoutError):
                # Not wait_for: before Python 3.12 it forgets that it is cancelled, where the news come at once.
                async with asyncio.timeout(min(wait, _LONGEST_NAP)):
                    await self._news.wait()
            self._news.clear()

    def _begin(self, queue_id: str) -> None:
        work = self._loop.run_in_executor(self._threads, self._try, queue_id)
        self._busy[queue_id] = work
        work.add_done_callback(lambda done: self._ended(queue_id, done))

    def _ended(self, queue_id: str, done: "asyncio.Future[float | None]") -> None:
        del self._busy[queue_id]
        self._news.set()
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._schedule(queue_id, done.result())
        else:
            # A fault of the disk, or of ours: neither may lose the mail, or stop the others.
            _log.error("queue: %s", queue_id, exc_info=error)
            self._schedule(queue_id, time.time() + self._config.retry_first)

    def _rung(self) -> None:
        os.read(self._bell, 4096)
        self._changed.set()

    async def _watch(self) -> None:
        """Look at all that is in the queue, now and whenever another process has changed it."""
        while True:
            for mail in await asyncio.to_thread(lambda: list(self._queue.mails())):
                if mail.queue_id in self._busy:
                    # What it ends with may be older than what was changed.
                    await asyncio.wait([self._busy[mail.queue_id]])
                self._schedule(mail.queue_id, _due(mail))
            await self._changed.wait()
            self._changed.clear()


def _due(mail: QueuedMail) -> float | None:
    """When there is something to do for a mail; None where there is not, as long as nobody changes it."""
    if mail.failed:
        return 0.0
    return mail.due if mail.waiting and mail.hold is None else None
