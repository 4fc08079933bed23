"""Whoever is about to wait for the world says so, so that its thread's other work can go on elsewhere meanwhile.

Knows neither what is waited for nor what is done about it. Each thread has a hook of its own; most have none.
"""

import threading
from collections.abc import Callable


class _Thread(threading.local):
    hook: Callable[[], None] | None = None


_THREAD = _Thread()


def tell_of_waits(hook: Callable[[], None]) -> None:
    """From now on call `hook` on this thread, each time that it is about to wait; it must not raise."""
    _THREAD.hook = hook


def about_to_wait() -> None:
    """To be called by a backend that is about to block its caller, for longer than it takes to switch threads."""
    if _THREAD.hook is not None:
        _THREAD.hook()
