"""Kills the bundled MTA at each of its steps towards the disk, one after the other, while it clears a queue.

`recovering_mta.py STATE WORK`: STATE is a folder of mailboxes and a queue. For n = 1, 2, ... a copy of it, WORK/n, is
opened by an MTA that dies by SIGKILL right before its n-th step; then, every fourth, by one that dies before some other
step; then by one that lives until the queue is empty. Ends with the first n that is not reached. A file, so that each MTA is a fork of
a process that has all of it loaded and one thread.
"""

import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filterd.mta.config import MtaConfig
from filterd.mta.queue import Queue
from filterd.mta.server import running

_PATIENCE = 120.0


class _Steps:
    """Counts the steps of a process, and ends it right before one; 0 is never."""

    def __init__(self, dies_at: int) -> None:
        self._left = dies_at
        self._lock = threading.Lock()

    def watched(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def _step(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                self._left -= 1
                if self._left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **options)

        return _step


def _dies(maildir: Path, dies_at: int) -> bool:
    """Run an MTA until its queue is empty, or it dies."""
    child = os.fork()
    if child == 0:
        steps = _Steps(dies_at)
        os.fsync, os.rename, os.unlink = map(steps.watched, (os.fsync, os.rename, os.unlink))
        # What fails is given up at once.
        config = MtaConfig("mx.example.net", maildir, expire=0)
        end = time.monotonic() + _PATIENCE
        with running(config):
            while list(Queue(config.queue_folder).mails()):
                if time.monotonic() > end:
                    os._exit(1)
                time.sleep(0.01)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert status == 0, "mail is still in the queue"
    return False


def _main(state: Path, work: Path) -> None:
    chance = random.Random(11)
    died, number = True, 0
    while died:
        number += 1
        maildir = work / str(number)
        shutil.copytree(state, maildir, ignore=shutil.ignore_patterns("bell"))
        died = _dies(maildir, number)
        if number % 4 == 0:
            _dies(maildir, chance.randint(1, 20))
        _dies(maildir, 0)
    print(number - 1)


_main(Path(sys.argv[1]), Path(sys.argv[2]))
