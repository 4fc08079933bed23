"""`filterd run` as Postfix meets it: its socket where Postfix reaches it, its decisions in a log that a program reads."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from servers.filterd_process import COMMAND, FilterdProcess
from servers.milter_process import eventually

_RUN = (*COMMAND, "run", "--log-format", "json", "--policy")


class Filterd(FilterdProcess):
    """The daemon, for a `with`; it listens at the socket "milter" of the folder.

    `policy` is what stands behind `version` and `server`. `access` is the policy's server.socket: whom the socket lets
    in, by default anybody, as Postfix runs as a user of its own. `server` is what else stands in that section.
    """

    ready_line = '"event": "ready"'

    def __init__(
        self, folder: Path, policy: str = "", *, access: str = 'mode: "0666"', server: str = "", workers: int = 2
    ) -> None:
        super().__init__(folder, policy, server=f"socket: {{ {access} }}, {server}", workers=workers, program=_RUN)

    def events(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log that tell of such an event, oldest first."""
        lines = [json.loads(line) for line in self.log().splitlines()]
        return [line for line in lines if line["event"] == event]

    def wait_for(self, event: str, times: int = 1) -> list[dict[str, Any]]:
        """The same, once there are so many."""
        found: list[dict[str, Any]] = eventually(lambda: len(lines := self.events(event)) >= times and lines)
        return found

    def decision(self, number: int = 0) -> dict[str, Any]:
        """How the n-th mail (from 0) was judged, once that is logged."""
        return self.wait_for("judged", number + 1)[number]


#: Runs the daemon for a `with`, by the lines of policy that a test has to add.
Judging = Callable[..., AbstractContextManager[Filterd]]
