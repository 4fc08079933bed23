"""A milter that does what a row of the table of scenarios says, in a thread of the test.

It speaks by `filterd.wire`, so that it can also say what libmilter would not let a filter say.
"""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from filterd.wire.milter import (
    Abort,
    Accept,
    Action,
    AddHeader,
    AddRecipient,
    AddRecipientWithParameters,
    BodyChunk,
    ChangeHeader,
    ChangeSender,
    Connect,
    Continue,
    Data,
    DeleteRecipient,
    Discard,
    EndOfHeaders,
    EndOfMessage,
    HeaderField,
    Helo,
    InsertHeader,
    Macros,
    Mail,
    Negotiate,
    Packet,
    Progress,
    Protocol,
    Quarantine,
    Quit,
    Rcpt,
    Reject,
    ReplaceBody,
    ReplyCode,
    Shutdown,
    Skip,
    Tempfail,
    UnknownCommand,
)
from filterd.wire.milter_codec import encode
from filterd.wire.milter_decoder import Decoder
from filterd.wire.milter_state import VERSIONS, is_answered

_PATIENCE = 60.0

#: The words of the table for what an MTA says.
STAGES: Mapping[type[Packet], str] = {
    Connect: "connect",
    Helo: "helo",
    Mail: "mail",
    Rcpt: "rcpt",
    Data: "data",
    HeaderField: "header",
    EndOfHeaders: "eoh",
    BodyChunk: "body",
    EndOfMessage: "eom",
    UnknownCommand: "unknown",
    Abort: "abort",
}
_ANSWERS: Mapping[str, Packet] = {
    "continue": Continue(),
    "accept": Accept(),
    "reject": Reject(),
    "tempfail": Tempfail(),
    "discard": Discard(),
    "skip": Skip(),
    "shutdown": Shutdown(),
    "progress": Progress(),
}


class _DiedError(Exception):
    """The script says that the milter ends here."""


def octets(text: str) -> bytes:
    """The table's text as it goes over the wire: a character is an octet."""
    return text.encode("latin-1")


class TableMilter:
    """Listens at a Unix socket. Each connection follows the script that is set when it comes."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o666)  # Postfix connects as a user of its own
        self._listener.listen()
        self._script: Mapping[str, Any] = {}
        self._told: list[str] = []
        self._open = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, daemon=True).start()

    def play(self, script: Mapping[str, Any]) -> None:
        """From now on, this script."""
        with self._changed:
            self._script, self._told = script, []

    def told(self) -> list[str]:
        """What it was told since, as the words of the stages, once every connection has ended."""
        with self._changed:
            ended = self._changed.wait_for(lambda: self._open == 0, _PATIENCE)
            assert ended, "a connection to the milter is still open"
            return self._told

    def close(self) -> None:
        """Listen no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with self._changed:
                    self._open += 1
                    conversation = _Conversation(connection, self._script, self._told)
                threading.Thread(target=self._converse, args=[conversation], daemon=True).start()

    def _converse(self, conversation: "_Conversation") -> None:
        try:
            conversation.run()
        finally:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()


class _Conversation:
    """One connection of an MTA."""

    def __init__(self, connection: socket.socket, script: Mapping[str, Any], told: list[str]) -> None:
        self._socket = connection
        self._script = script
        self._told = told
        self._messages = iter(script.get("messages", ()))
        self._message: Mapping[str, Any] = {}
        self._protocol = Protocol(0)

    def run(self) -> None:
        # An MTA may hang up when it likes.
        with closing(self._socket), suppress(_DiedError, ConnectionError, socket.timeout):
            self._socket.settimeout(_PATIENCE)
            for packet in self._packets():
                if isinstance(packet, Quit):
                    return
                if isinstance(packet, Negotiate):
                    self._negotiate(packet)
                elif not isinstance(packet, Macros):
                    self._hear(packet)

    def _packets(self) -> Iterator[Packet]:
        decoder = Decoder()
        while received := self._socket.recv(65536):
            yield from decoder.feed(received)

    def _negotiate(self, offer: Negotiate) -> None:
        if "negotiate" in self._script:
            self._take(self._script["negotiate"])
        version = self._script.get("version", offer.version)
        wanted = Protocol(0)
        for word in self._script.get("protocol", ()):
            wanted |= Protocol[word]
        self._protocol = wanted & offer.protocol & VERSIONS[version]
        self._say(Negotiate(version, Action(0x3F) if version == 2 else offer.actions & 0x1FF, self._protocol))

    def _hear(self, packet: Packet) -> None:
        stage = STAGES[type(packet)]
        self._told.append(stage)
        if stage == "mail":
            self._message = next(self._messages, {})
        said = {**self._script, **self._message}.get(stage, "continue")
        if isinstance(said, Mapping) and "reply" not in said and isinstance(packet, Rcpt | HeaderField | Helo | Mail):
            said = said.get(_subject(packet), "continue")
        steps = said if isinstance(said, list) else [said]
        for step in steps[:-1]:
            self._take(step)
        # The last step answers; an edit alone is answered with "continue".
        if self._take(steps[-1]) and is_answered(type(packet), self._protocol):
            self._say(Continue())

    def _take(self, step: Any) -> bool:
        """Take a step of the script; whether the command still waits for its answer."""
        if step == "hang":
            # The MTA hangs up first.
            while self._socket.recv(65536):
                pass
        if step in ("die", "hang"):
            raise _DiedError
        if isinstance(step, str):
            if step != "continue":
                self._say(_ANSWERS[step])
            return step in ("continue", "progress")
        ((word, value),) = step.items()
        if word == "reply":
            self._say(ReplyCode(b"\r\n".join(octets(value).splitlines())))
            return False
        for edit in edits(word, value):
            self._say(edit)
        return True

    def _say(self, packet: Packet) -> None:
        self._socket.sendall(encode(packet))


def edits(word: str, value: Any) -> Iterator[Packet]:
    """The packets of one edit of the table."""
    match word, value:
        case "add", [name, text]:
            yield AddHeader(octets(name), octets(text))
        case "insert", [index, name, text]:
            yield InsertHeader(index, octets(name), octets(text))
        case "change", [index, name, text]:
            yield ChangeHeader(index, octets(name), octets(text))
        case "delete", [index, name]:
            yield ChangeHeader(index, octets(name), b"")
        case "replace_body", text:
            content = octets(text).replace(b"\n", b"\r\n")
            yield from (ReplaceBody(content[start : start + 65535]) for start in range(0, len(content) or 1, 65535))
        case "add_recipient", [address, parameters]:
            yield AddRecipientWithParameters(octets(address), octets(parameters))
        case "add_recipient", address:
            yield AddRecipient(octets(address))
        case "delete_recipient", address:
            yield DeleteRecipient(octets(address))
        case "sender", [address, parameters]:
            yield ChangeSender(octets(address), octets(parameters))
        case "sender", address:
            yield ChangeSender(octets(address))
        case "quarantine", reason:
            yield Quarantine(octets(reason))
        case _:
            raise ValueError(f"{word}: {value}")


def _subject(packet: Rcpt | HeaderField | Helo | Mail) -> str:
    """What a script tells packets of one kind apart by."""
    match packet:
        case Rcpt(recipient, _):
            return recipient.decode("latin-1").strip("<>")
        case Mail(sender, _):
            return sender.decode("latin-1").strip("<>")
        case Helo(name):
            return name.decode("latin-1")
        case HeaderField(name, _):
            return name.decode("latin-1")
