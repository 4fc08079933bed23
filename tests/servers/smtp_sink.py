"""A server at the other end of an SMTP or LMTP conversation, in a thread of the test, which says what it is told to."""

import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import closing, suppress

_OK = {
    "": "220 sink.example",
    "EHLO": "250-sink.example\n250-SIZE\n250 8BITMIME",
    "DATA": "354 go on",
    "QUIT": "221 bye",
}


class SmtpSink:
    """Listens on loopback. `says` has the reply to a line that begins so, the longest beginning counts; "" is the
    greeting, "." the end of data; lines of a reply are parted by LF, and "close" ends the connection. `tls` is for
    STARTTLS. `heard` are all lines of all conversations; `contents` the messages, dots doubled."""

    def __init__(self, says: Mapping[str, str], tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> None:
        self._says = {**_OK, "STARTTLS": "220 go on", **says}
        self._tls = tls
        self.heard: list[str] = []
        self.contents: list[bytes] = []
        self._listener = socket.create_server((address, 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._converse, args=[connection], daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with closing(connection), suppress(OSError, EOFError):
            self._talk(connection, "")

    def _talk(self, connection: socket.socket, first: str | None) -> None:
        if first is not None:
            self._say(connection, first)
        file = connection.makefile("rb")
        while line := file.readline():
            heard = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            heard = heard[:4].upper() + heard[4:]
            self.heard.append(heard)
            said = self._say(connection, heard)
            if said.startswith("354"):
                content = b""
                while (line := file.readline()) != b".\r\n":
                    if not line:
                        return
                    content += line
                self.contents.append(content)
                self._say(connection, ".")
            elif heard == "STARTTLS" and said.startswith("220") and self._tls is not None:
                with self._tls.wrap_socket(connection, server_side=True) as encrypted:
                    self._talk(encrypted, None)
                return

    def _say(self, connection: socket.socket, heard: str) -> str:
        beginnings = [each for each in self._says if each and heard.startswith(each)] or ([""] if not heard else [])
        said = self._says[max(beginnings, key=len)] if beginnings else "250 2.0.0 Ok"
        if said == "close":
            raise EOFError
        connection.sendall(said.replace("\n", "\r\n").encode() + b"\r\n")
        return said
