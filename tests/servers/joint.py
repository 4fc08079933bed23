"""A Postfix and a policy beside each other, and the commands of filterd that join them."""

import os
import subprocess
import sys
from pathlib import Path

from servers.debian import as_root, run_as_root
from servers.filterd_process import COMMAND
from servers.milter_process import python_environment
from servers.postfix import Postfix

from filterd.postfix.config import Config
from filterd.postfix.postconf import read


def config(folder: Path, main: str = "", master: str = "") -> Config:
    """What Postfix reads in a folder's files with further lines."""
    for name, text in (("main.cf", main), ("master.cf", master)):
        with (folder / name).open("a") as file:
            file.write(f"{text}\n")
    # Postfix reads a file that changed within the last second again, until it is older.
    os.utime(folder / "main.cf", (0, 0))
    return read(folder)


class Joint:
    """A Postfix, and a policy that lets filterd listen in its queue directory."""

    def __init__(self, postfix: Postfix) -> None:
        self.postfix = postfix
        self.main, self.master = postfix.config / "main.cf", postfix.config / "master.cf"
        self.policy = postfix.directory / "policy.yaml"
        self.programs = postfix.directory / "bin"
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
        self.settle()

    def files(self) -> tuple[bytes, bytes]:
        return self.main.read_bytes(), self.master.read_bytes()

    def command(self, *words: str | Path) -> list[str]:
        """The words that run `filterd …` as root, for this Postfix."""
        environment = {**self.postfix.environment, "PYTHONPATH": python_environment()["PYTHONPATH"]}
        environment["PATH"] = f"{self.programs}:{environment['PATH']}"
        kept = [f"{name}={environment[name]}" for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")]
        here = ("-c", self.postfix.config, "-p", self.policy)
        return as_root(["env", *kept, sys.executable, *COMMAND, *words, *here])

    def run(self, *words: str | Path, answer: str = "") -> tuple[int, str]:
        """Its exit status, and all that it says."""
        done = subprocess.run(
            self.command(*words), input=answer, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        self.settle()
        return done.returncode, done.stdout

    def postfix_says(self, script: str) -> None:
        """Have a shell's lines stand for postfix(1), which takes seconds to check what has just changed."""
        self.programs.mkdir()
        program = self.programs / "postfix"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def settle(self) -> None:
        """Postfix reads a file that changed within the last second again, until it is older."""
        if self.main.exists():
            run_as_root("touch", "-d", "@0", self.main)
