"""Perl's Mail::DKIM, for many mails in one run of tests/interop/mail_dkim.pl. It asks a name server for keys."""

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

_SCRIPT = Path(__file__).parents[1] / "interop" / "mail_dkim.pl"


class PerlDkim:
    """Mail::DKIM, which finds keys at `nameserver`, an address and a port."""

    def __init__(self, nameserver: tuple[str, int]) -> None:
        host, port = nameserver
        self._command = ["perl", str(_SCRIPT), host, str(port)]

    def verdicts(self, mails: Iterable[bytes]) -> list[list[str]]:
        """What became of each mail's signatures, from the top: "pass", or "fail (why)", "invalid (why)"."""
        return [answer.decode().splitlines() for answer in self._run([(b"verify", mail) for mail in mails])]

    def signatures(
        self, mails: Sequence[tuple[bytes, str]], pem: bytes, selector: str, length: int | None = None
    ) -> list[bytes]:
        """The signature fields, with CRLF, of mails that are given with their c=; `length` is l=."""
        limit = "" if length is None else str(length)
        jobs = [(f"sign={form}:{selector}:{limit}".encode(), mail) for mail, form in mails]
        return [answer + b"\r\n" for answer in self._run([(b"key", pem), *jobs])]

    def _run(self, jobs: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
        asked = b"".join(b"%s %d\n%s" % (job, len(octets), octets) for job, octets in jobs)
        done = subprocess.run(self._command, input=asked, capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.decode(errors="replace"))
        answers, rest = [], done.stdout
        while rest:
            line, _, rest = rest.partition(b"\n")
            size = int(line)
            answers.append(rest[:size])
            rest = rest[size:]
        return answers
