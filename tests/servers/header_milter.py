"""header_milter.py SOCKET: a milter that says in a header what it saw, for tests of the harness, without filterd."""

import os
import sys

import Milter


class HeaderMilter(Milter.Base):
    def connect(self, name: str, family: str, address: tuple[str, int] | None) -> int:
        self.client = address[0] if address else "unknown"
        return Milter.CONTINUE

    def envfrom(self, *arguments: str) -> int:
        self.user = self.getsymval("{auth_authen}")
        self.held = False
        return Milter.CONTINUE

    def header(self, name: str, value: str) -> int:
        self.held = self.held or (name, value) == ("Subject", "hold me")
        return Milter.CONTINUE

    def eom(self) -> int:
        self.addheader("X-Saw", f"client={self.client} user={self.user}", 0)
        if self.held:
            self.quarantine("it asks for it")
        return Milter.ACCEPT


if __name__ == "__main__":
    os.umask(0)  # Postfix connects as a user of its own
    Milter.factory = HeaderMilter
    Milter.set_flags(Milter.ADDHDRS | Milter.QUARANTINE)
    Milter.runmilter("header-milter", f"unix:{sys.argv[1]}")
