"""Somebody at spamd's place, who says what a test makes him say, and remembers what he was asked."""

import socket
import threading
from contextlib import suppress
from typing import Self

OK = b"SPAMD/1.1 0 EX_OK\r\n"
PONG = b"SPAMD/1.5 0 PONG\r\n\r\n"
_FIELD = b"X-Spam-Status: No, score=0.1 required=5.0 tests=NONE_SUCH\r\n\r\n"
HAM = OK + b"Content-length: %d\r\nSpam: False ; 0.1 / 5.0\r\n\r\n" % len(_FIELD) + _FIELD


class FakeSpamd:
    """Serves while its `with` lasts, each request in a thread. `asked` are the first words of the requests that came.

    `answers` has what is said to each; who asks something that is not there waits until it is.
    """

    def __init__(self, **answers: bytes) -> None:
        self.asked: list[str] = []
        self._answers = answers
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"inet:{self._listener.getsockname()[1]}@127.0.0.1"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def say(self, **answers: bytes) -> None:
        """From now on, answer so; to those who wait, too."""
        with self._changed:
            self._answers = answers
            self._changed.notify_all()

    def wait_for(self, word: str) -> None:
        """Return when this was asked."""
        with self._changed:
            assert self._changed.wait_for(lambda: word in self.asked, timeout=30)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._reply, args=(connection,), daemon=True).start()

    def _reply(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):  # who asked may have gone
            request = b""
            while part := connection.recv(65_536):
                request += part
            word = request.split(b" ", 1)[0].decode("ascii", "replace")
            with self._changed:
                self.asked.append(word)
                self._changed.notify_all()
                self._changed.wait_for(lambda: word in self._answers)
                answer = self._answers[word]
            connection.sendall(answer)
