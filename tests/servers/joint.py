"""A Postfix and a policy beside each other, and the commands of filterd that join them."""

import subprocess
import sys
from pathlib import Path

from servers.debian import as_root
from servers.filterd_process import COMMAND
from servers.milter_process import python_environment
from servers.postfix import Postfix


class Joint:
    """A Postfix, and a policy that lets filterd listen in its queue directory."""

    def __init__(self, postfix: Postfix) -> None:
        self.postfix = postfix
        self.main, self.master = postfix.config / "main.cf", postfix.config / "master.cf"
        self.policy = postfix.directory / "policy.yaml"
        self.policy.touch()
        self.listens("milters/milter.sock")

    def listens(self, milter: str, policy_service: str = "", more: str = "") -> None:
        """Say where filterd listens: below the queue directory, if the path is not absolute."""
        queue = self.postfix.queue_directory
        milters, services = ([f"unix:{queue / each}"] if each else [] for each in (milter, policy_service))
        text = f"version: 1\nserver: {{ milter: {milters}, policy_service: {services} }}\n{more}\n"
        self.policy.write_text(text)

    def add(self, main: str = "", master: str = "") -> None:
        """Further lines of the files."""
        for file, text in ((self.main, main), (self.master, master)):
            file.write_text(f"{file.read_text()}{text}\n")

    def files(self) -> tuple[bytes, bytes]:
        return self.main.read_bytes(), self.master.read_bytes()

    def command(self, *words: str | Path) -> list[str]:
        """The words that run `filterd …` as root, for this Postfix."""
        environment = {**self.postfix.environment, **python_environment()}
        kept = [
            f"{name}={environment[name]}" for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH") if name in environment
        ]
        here = ("-c", self.postfix.config, "-p", self.policy)
        return as_root(["env", *kept, sys.executable, *COMMAND, *words, *here])

    def run(self, *words: str | Path, answer: str = "") -> tuple[int, str]:
        """Its exit status, and all that it says."""
        done = subprocess.run(
            self.command(*words), input=answer, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return done.returncode, done.stdout
