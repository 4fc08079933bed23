"""Postfix's hold queue, by Postfix's own tools: what is on hold, and its way out. Knows no other queue."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# A login shell of others than root often lacks it, and postqueue is for them, too.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
# What a tool may take, in seconds: a queue may be large.
_PATIENCE = 60.0


class PostfixQueueError(Exception):
    """A tool of Postfix's is missing, or would not; the message says why."""


@dataclass(frozen=True, slots=True)
class Held:
    """A mail on hold, as its envelope has it. `arrived` is in seconds since 1970, `size` in octets."""

    queue_id: str
    arrived: float
    size: int
    sender: str
    recipients: tuple[str, ...]


class HoldQueue:
    """The hold queue of the Postfix configured in `config`, or of the machine's. All raise PostfixQueueError."""

    def __init__(self, config: Path | None = None) -> None:
        self._config = ["-c", str(config)] if config is not None else []

    def mails(self) -> list[Held]:
        """All that is on hold, oldest first."""
        try:
            found = [_held(line) for line in map(json.loads, self._run("postqueue", "-j").splitlines())]
        except (ValueError, KeyError, TypeError) as error:
            raise PostfixQueueError(f"what postqueue says cannot be read: {error}") from None
        return sorted((each for each in found if each is not None), key=lambda each: (each.arrived, each.queue_id))

    def content(self, queue_id: str) -> bytes:
        """Header and body of a mail, with LF."""
        self._known([queue_id])
        return self._run("postcat", "-hbq", queue_id)

    def release(self, queue_ids: Sequence[str]) -> None:
        """Let mails go on to their recipients, at once."""
        self._known(queue_ids)
        for each in queue_ids:
            self._run("postsuper", "-H", each)
            self._run("postqueue", "-i", each)

    def delete(self, queue_ids: Sequence[str]) -> None:
        """Remove mails for good; nobody is told."""
        self._known(queue_ids)
        for each in queue_ids:
            # Whoever released it meanwhile wants it delivered.
            self._run("postsuper", "-d", each, "hold")

    def _known(self, queue_ids: Sequence[str]) -> None:
        """postsuper says nothing of an id that it does not find, and takes ALL for all."""
        held = {each.queue_id for each in self.mails()}
        unknown = [each for each in queue_ids if each not in held]
        if unknown:
            raise PostfixQueueError(f"not on hold: {', '.join(unknown)}")

    def _run(self, tool: str, *arguments: str) -> bytes:
        try:
            done = subprocess.run(  # noqa: S603 # no shell, and queue ids are those that Postfix gave
                [tool, *self._config, *arguments],
                env={**os.environ, "PATH": _PATH},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
            )
        except FileNotFoundError:
            raise PostfixQueueError(f"there is no {tool} on this machine: is Postfix installed?") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PostfixQueueError(f"{tool}: {error}") from None
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"{tool} failed"]
            root = "" if os.geteuid() == 0 else "; try as root"
            raise PostfixQueueError(said[-1] + root)
        return done.stdout


def _held(entry: dict[str, object]) -> Held | None:
    if entry["queue_name"] != "hold":
        return None
    recipients = entry["recipients"]
    if not isinstance(recipients, list):
        raise TypeError("recipients are a list")
    return Held(
        str(entry["queue_id"]),
        float(str(entry["arrival_time"])),
        int(str(entry["message_size"])),
        str(entry["sender"]),
        tuple(str(each["address"]) for each in recipients),
    )
