"""A process of `milter_child`, and what its session was told."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

ALL_STAGES = "connect,helo,mail,rcpt,data,end_of_headers"
_TESTS = Path(__file__).parents[1]
_PATIENCE = 30.0


def eventually(condition: Callable[[], Any]) -> Any:
    """Wait until it is true; returns what it gave. A test that waits for ever fails after half a minute."""
    end = time.monotonic() + _PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
    return found


def python_environment() -> dict[str, str]:
    """The environment in which a child finds the test modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(_TESTS), os.environ.get("PYTHONPATH", "")])}


class MilterProcess:
    """One of our milter engines with a scripted session, for a `with`. `engine` is the policy's server.engine."""

    engine = "native"

    def __init__(self, folder: Path, stages: str = ALL_STAGES, on_error: str = "defer") -> None:
        self.address = f"unix:{folder}/milter"
        self._calls = folder / "calls"
        self._errors = folder / "errors"
        self._command = [sys.executable, "-m", "servers.milter_child", str(folder), self.engine, stages, on_error]

    def __enter__(self) -> Self:
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=python_environment(),
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", self.errors()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def calls(self, event: str | None = None) -> list[list[Any]]:
        """What the sessions were told: event and arguments, in order; of one event, its arguments alone."""
        told = [json.loads(line)[1:] for line in self._calls.read_text().splitlines()]
        return told if event is None else [arguments for name, *arguments in told if name == event]

    def errors(self) -> str:
        """What was reported."""
        return self._errors.read_text()

    def end(self) -> str:
        """Let it end; returns how many conversations and connections were left."""
        left, _ = self._process.communicate("", timeout=_PATIENCE)
        return left.strip()
