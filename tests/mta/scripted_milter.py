"""scripted_milter.py SOCKET SCRIPT LOG: a milter by libmilter that does what a script says, and writes down what it saw.

SCRIPT is JSON: for each callback a list of steps, the last of which is the answer. A step is the name of an answer, or
a list: the name of an edit or of `setreply`, `die`, `sleep`, and its arguments. `flags`: `noreply` (callbacks),
`nocallback`, `leading_space`, `macros` ({M_CONNECT: names parted by spaces}). `per_message`: steps for end of message, one list a message.
LOG gets one JSON list a callback.
"""

import json
import os
import sys
import time
from typing import Any

import Milter

SOCKET, SCRIPT, LOG = sys.argv[1:4]
with open(SCRIPT) as file:
    script = json.load(file)
flags = script.get("flags", {})
log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
MACROS = ["i", "j", "_", "v", "{daemon_name}", "{daemon_addr}", "{auth_type}", "{auth_authen}", "{mail_addr}",
          "{mail_host}", "{mail_mailer}", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}", "{client_addr}",
          "{client_port}", "{client_name}", "{client_ptr}", "{daemon_port}", "{tls_version}", "{cipher}", "{cipher_bits}"]  # fmt: skip


class Scripted(Milter.Base):
    def negotiate(self, options: list[int]) -> int:
        # pymilter's own setsymlist hands bytes to a function that wants text.
        for stage, names in flags.get("macros", {}).items():
            self._ctx.setsymlist(getattr(Milter, stage), names)
        return int(super().negotiate(options))

    def _did(self, event: str, *arguments: Any) -> int:
        macros = {name: value for name in MACROS if (value := self.getsymval(name)) is not None}
        os.write(log, json.dumps([event, *arguments, macros]).encode() + b"\n")
        steps = script.get(event, ["CONTINUE"])
        if event == "eom" and "per_message" in script:
            steps = script["per_message"].pop(0)
        if event == "envrcpt" and isinstance(steps, dict):
            steps = steps.get(arguments[0], ["CONTINUE"])
        for step in steps[:-1]:
            self._step(*step)
        return int(getattr(Milter, steps[-1]))

    def _step(self, name: str, *arguments: Any) -> None:
        match name:
            case "die":
                os._exit(1)
            case "sleep":
                time.sleep(arguments[0])
            case "replacebody":
                self.replacebody(arguments[0].encode("utf-8", "surrogateescape"))
            case _:
                getattr(self, name)(*arguments)

    def connect(self, name: str, family: int, address: Any) -> int:
        return self._did("connect", name, list(address) if isinstance(address, tuple) else address)

    def hello(self, name: str) -> int:
        return self._did("hello", name)

    def envfrom(self, sender: str, *parameters: str) -> int:
        return self._did("envfrom", sender, list(parameters))

    def envrcpt(self, recipient: str, *parameters: str) -> int:
        return self._did("envrcpt", recipient, list(parameters))

    def data(self) -> int:
        return self._did("data")

    def header(self, name: str, value: str) -> int:
        return self._did("header", name, value)

    def eoh(self) -> int:
        return self._did("eoh")

    def body(self, chunk: bytes) -> int:
        return self._did("body", len(chunk), chunk[:100].decode("latin-1"))

    def eom(self) -> int:
        return self._did("eom")

    def unknown(self, line: str) -> int:
        return self._did("unknown", line)

    def abort(self) -> int:
        return self._did("abort")

    def close(self) -> int:
        os.write(log, b'["close", {}]\n')
        return int(Milter.CONTINUE)


for each in flags.get("noreply", []):
    setattr(Scripted, each, Milter.noreply(getattr(Scripted, each)))
for each in flags.get("nocallback", []):
    setattr(Scripted, each, Milter.nocallback(getattr(Scripted, each)))
if flags.get("rejected_recipients"):
    Scripted = Milter.rejected_recipients(Scripted)  # type: ignore[misc]
if flags.get("leading_space"):
    Scripted = Milter.header_leading_space(Scripted)  # type: ignore[misc]
os.umask(0)  # Postfix connects as a user of its own
Milter.factory = Scripted
Milter.set_flags(flags.get("actions", 0x1FF))
Milter.runmilter("scripted", SOCKET, 60)
