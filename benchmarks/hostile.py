"""What hostile mail costs: CPU time of `filterd run` for a mail of a megabyte, compared with an honest one of its size.

    .venv/bin/python benchmarks/hostile.py [--engine native] [NAME...]

Prints a line a mail; exit status 1 where one costs more than 20 times the honest one. Mails come by the bundled MTA,
whose own work is not counted; all runs on loopback, in a temporary folder.
"""

import smtplib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from servers.filterd_process import FilterdProcess
from spoofing import hostile_mails as hostile
from spoofing.cast import HOST, VICTIM_IP, zone
from spoofing.stage import shipped

from filterd.demo.nameserver import Nameserver
from filterd.mta.config import MtaConfig
from filterd.mta.server import running

SIZE, LIMIT = 1_000_000, 20.0
_SECONDS = 1.0  # of CPU time that are measured, at least
_TICKS = 100  # a second, in /proc

Cost = Callable[[bytes], tuple[float, str]]


def mails() -> Iterator[tuple[str, bytes]]:
    """The mails by name, the honest one first."""
    yield "honest", hostile.honest(SIZE)
    for name, make in hostile.HEADERS.items():
        yield name, hostile.with_header(make, SIZE, SIZE - 1_000)
    for number in (1_000, 10_000, 50_000):
        yield f"{number} tiny fields", hostile.with_header(hostile.HEADERS["tiny fields"], SIZE, 5 * number)
    for name in ("long fields", "long fields, folded"):
        yield f"five signatures of {name}", hostile.with_signatures(hostile.HEADERS[name], SIZE, SIZE // 2)
    yield "a chain of fifty sets", hostile.chain_of_fifty(SIZE)
    yield "all at once", hostile.all_at_once(SIZE)
    for name, unit in hostile.BODIES.items():
        for canonicalization in ("simple", "relaxed"):
            message = hostile.with_body(unit, SIZE, f"{canonicalization}/{canonicalization}")
            yield f"body of {name}, {canonicalization}", message


def main(wanted: list[str]) -> int:
    engine = wanted.pop(1) if wanted[:1] == ["--engine"] else "native"
    wanted = [word for word in wanted if word != "--engine"]
    worst = base = 0.0
    with TemporaryDirectory(prefix="filterd-bench-") as folder, stage(Path(folder), engine) as cost:
        cost(hostile.honest(1_000))  # what is done once is done
        for name, message in mails():
            if not base or not wanted or any(word in name for word in wanted):
                spent, reply = cost(message)
                base = base or spent
                worst = max(worst, spent / base)
                mark = " <--" if spent > LIMIT * base else ""
                print(f"{spent * 1000:8.1f} ms {spent / base:7.2f} x  {name:46} {reply}{mark}", flush=True)
    print(f"worst: {worst:.2f} x")
    return worst > LIMIT


@contextmanager
def stage(folder: Path, engine: str) -> Iterator[Cost]:
    """filterd by the shipped policy; what is yielded sends a mail again and again, and tells the seconds of one."""
    with Nameserver(zone()) as nameserver:
        host, port = nameserver.address
        about = f'identity: {{ authserv_id: {HOST} }}\ndns: {{ servers: ["{host}:{port}"] }}\n'
        FilterdProcess.engine = engine
        with (
            FilterdProcess(folder, about + shipped()) as filterd,
            running(MtaConfig(HOST, folder / "mail", (filterd.address,))) as mta,
        ):
            yield lambda message: _cost(message, mta.port, filterd.workers(), folder)


def _cost(message: bytes, port: int, workers: list[int], folder: Path) -> tuple[float, str]:
    sent, begun = 0, _cpu(workers)
    while sent < 2 or (_cpu(workers) - begun < _SECONDS and sent < 250):
        with smtplib.SMTP("127.0.0.1", port, timeout=300) as client:
            client.ehlo("bench")
            client.docmd("XCLIENT", f"NAME=[UNAVAILABLE] ADDR={VICTIM_IP}")
            client.ehlo("mail.bank.example")
            client.mail("service@bank.example")
            client.rcpt("anna@home.example")
            code, text = client.data(message)
        sent += 1
    for file in (folder / "mail").glob("*/new/*"):
        file.unlink()
    return (_cpu(workers) - begun) / sent, f"{code} {text[:30].decode(errors='replace')}"


def _cpu(workers: list[int]) -> float:
    """The seconds of CPU time that processes have used."""
    ticks = 0
    for pid in workers:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
