"""A process with one of our milter engines and a session of a test's making: `python -m servers.milter_child ...`, see `main`.

The session writes each of its calls to FOLDER/calls, one JSON list a line, and does what the words in them ask for.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filterd.daemon.listen import listen
from filterd.daemon.worker import open_door
from filterd.engine.changes import DeleteField, InsertField
from filterd.engine.finish import Finished
from filterd.engine.runtime import Runtime
from filterd.frontend.conversation import Bounds, Reception
from filterd.frontend.seats import seats
from filterd.lookup import ZoneResolver
from filterd.mail.header import Field
from filterd.mail.reply import Reply
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.load import load
from filterd.policy.verdict import Disposition, Verdict

_VERDICTS = {
    "reject": Verdict(Disposition.REJECT, Reply(550, "5.7.1", "no 100 %")),
    "defer": Verdict(Disposition.DEFER, Reply(450, "4.7.1", "later")),
    "discard": Verdict(Disposition.DISCARD),
    "hold": Verdict(Disposition.HOLD, rule="suspicious\r\nmail"),
    "accept": Verdict(Disposition.ACCEPT),
}


class ScriptedSession:
    """Does what it is told by the words that it sees."""

    def __init__(self, calls: int, name: str) -> None:
        self._calls = calls
        self._name = name
        self._words = ""
        self._size = 0

    def connect(self, client: Client, daemon: str | None) -> Verdict:
        ip = str(client.ip) if client.ip else None
        return self._call("connect", ip, client.name, client.port, daemon)

    def helo(self, name: str, tls: str | None) -> Verdict:
        return self._call("helo", name, tls)

    def mail(self, sender: ReversePath, user: str | None, queue_id: str | None) -> Verdict:
        mailbox = str(sender.mailbox) if sender.mailbox else None
        return self._call("mail", sender.text, mailbox, user, queue_id)

    def rcpt(self, recipient: ForwardPath, queue_id: str | None) -> Verdict:
        return self._call("rcpt", recipient.text, queue_id)

    def refused(self, recipient: ForwardPath, queue_id: str | None) -> None:
        self._note("refused", recipient.text, queue_id)

    def data(self, queue_id: str | None, accepted: int | None = None) -> Verdict:
        return self._call("data", queue_id)

    def end_of_headers(self, fields: Sequence[Field], queue_id: str | None) -> Verdict:
        shown = [[field.name.decode("latin-1"), field.value.decode("latin-1")] for field in fields[:20]]
        return self._call("end_of_headers", len(fields), shown, queue_id)

    def body(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if b"raise" in chunk:
            raise ValueError("told to")
        if b"slow" in chunk:
            time.sleep(0.001)

    def end_of_message(self, queue_id: str | None, lacks: object = frozenset()) -> Finished:
        verdict = self._call("end_of_message", self._size, queue_id)
        self._size = 0
        changes = (DeleteField("Authentication-Results", 2), InsertField(0, "X-Test", "one\n\ttwo"))
        return Finished(verdict, changes if "edit" in self._words else ())

    def abort(self) -> None:
        self._size = 0
        self._call("abort")

    def close(self) -> None:
        self._call("close")

    def _call(self, event: str, *arguments: Any) -> Verdict:
        os.write(self._calls, json.dumps([self._name, event, *arguments]).encode() + b"\n")
        self._words = words = " ".join(str(argument) for argument in arguments)
        if f"raise-{event}" in words:
            raise ValueError("told to")
        if f"exit-{event}" in words:
            raise SystemExit(3)
        if f"hang-{event}" in words:
            time.sleep(1.5)
        return next((verdict for word, verdict in _VERDICTS.items() if f"{word}-{event}" in words), Verdict())


def main(folder: str, engine: str, stages: str, on_error: str) -> None:
    rules = "".join(
        f"  - {{ name: at-{stage}, when: 'false', then: reject, at: {stage} }}\n"
        for stage in stages.split(",")
        if stage
    )
    text = f"version: 1\nserver: {{ engine: {engine}, on_error: {on_error} }}\ndmarc: {{ on_multiple_authors: skip }}\n"
    policy = load(text + (f"rules:\n{rules}" if rules else ""), "p.yaml")
    runtime = Runtime(policy, "mx.example.org", lambda _: ZoneResolver({}), lambda _: None)
    calls = os.open(Path(folder, "calls"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    names = iter(range(1_000_000))
    reception = Reception(
        runtime,
        lambda where, error, _: print("fault", where, type(error).__name__, error, file=sys.stderr, flush=True),
        Bounds(command=1.0, content=1.0),
        lambda *_: ScriptedSession(calls, str(next(names))),
    )
    (seat,) = seats(1)
    door = open_door(policy, listen(f"unix:{folder}/milter", None, 0o600), seat, reception)
    threading.Thread(target=door.run, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
    patience = time.monotonic() + 10
    while (reception.live or door.connections()) and time.monotonic() < patience:
        time.sleep(0.01)
    print("live", reception.live, "open", door.connections(), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
