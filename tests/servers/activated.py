"""`filterd run -p FILE` as systemd starts it with a socket unit: what listens at ADDRESS... is handed over (sd_listen_fds(3))."""

import os
import sys

from filterd.daemon.inherited import _FIRST
from filterd.daemon.listen import listen


def main(addresses: list[str], file: str) -> None:
    bound = [listen(each, None, 0o600) for each in addresses]
    # What is bound before stays clear of the places that the sockets are to have.
    copies = [os.dup(each.socket.fileno()) for each in bound]
    while min(copies) < _FIRST + len(copies):
        copies = [os.dup(each) for each in copies]
    for number, each in enumerate(copies):
        os.dup2(each, _FIRST + number)
    names = ":".join(f"socket-{number}" for number, _ in enumerate(bound))
    told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(bound)), "LISTEN_FDNAMES": names}
    program = "from filterd.cli.main import main; main()"
    os.execve(sys.executable, [sys.executable, "-c", program, "run", "-p", file], {**os.environ, **told})


if __name__ == "__main__":
    main(sys.argv[1:-1], sys.argv[-1])
