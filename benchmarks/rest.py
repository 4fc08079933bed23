"""What filterd takes before mail comes and beside it: to start, to reload, and in memory."""

import os
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filters import Filter, Job, filterd
from mails import Kind
from measure import forget_peaks, memory, processes, proportional, run
from stage import Stage

_HOME = Path(__file__).parents[1]
_TIMES = 7
_CONNECTIONS = 500
_RULES = 1000
_MB = 1e6
# Milter version 6, every action, every step that may be left out.
_OFFER = b"O" + struct.pack("!III", 6, 0x1FF, 0x1FFFFF)
_CONNECT = b"Cmx.example.org\x004\x30\x39192.0.2.1\x00"


def main(stage: Stage) -> None:
    """Start, reload of 1,000 rules, memory at rest, of a mail of 25 MB, of 500 idle connections."""
    _start(stage)
    _reload(stage)
    _memory(stage)


def _line(what: str, figure: str, limit: str) -> None:
    print(f"  {what:<44}{figure:<34}{limit}", flush=True)


def _start(stage: Stage) -> None:
    print(f"start, median of {_TIMES} (least to most)")
    environment = {**os.environ, "PYTHONPATH": str(_HOME)}
    command = [sys.executable, "-c", "from filterd.cli.main import main; main()", "--help"]
    _line("filterd --help", _seconds(lambda: _silently(command, environment)), "at most 150 ms")
    mail = stage.mails.signed(Kind(5_000))
    setting = stage.setting("start")

    def to_first_mail() -> float:
        began = time.perf_counter()
        with filterd(Job.VERIFY, setting) as daemon:
            run(stage.asked.loadgen, daemon, [mail], 1, connections=1)
            return time.perf_counter() - began

    _line("from `filterd run` to the first mail's verdict", _seconds(to_first_mail), "at most 1 s")


def _seconds(what: Callable[[], float]) -> str:
    times = sorted(what() for _ in range(_TIMES))
    return f"{_ms(statistics.median(times))} ({_ms(times[0])} to {_ms(times[-1])})"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def _silently(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)  # noqa: S603 # ours
    return time.perf_counter() - began


def _reload(stage: Stage) -> None:
    rules = "".join(
        f'  - {{ name: rule-{each}, then: tag, when: \'envelope.sender_domain == "d{each}.example" && '
        f'dmarc.result != "pass" && header("subject").matches("(?i)word{each}")\' }}\n'
        for each in range(_RULES)
    )
    setting = stage.setting("reload")
    mail = stage.mails.signed(Kind(5_000))
    with filterd(Job.VERIFY, setting, more=rules) as daemon:
        most = run(stage.asked.loadgen, daemon, [mail], stage.asked.count).per_second
        print(f"reload of {_RULES:,} rules, two workers, which take {most:,.0f} mails a second at most")
        for share in (0.5, 1.0):
            offered = int(most * share) if share < 1 else 0
            took, least = _reloaded_under_load(
                stage, daemon, setting.folder / "policy.yaml", mail, offered or most, offered
            )
            _line(
                f"at {share:.0%} of that", f"{_ms(took)}, slots of 0.5 s: least {least:.0%} of the usual", "1 s, 90 %"
            )


def _reloaded_under_load(
    stage: Stage, daemon: Filter, policy: Path, mail: Path, expected: float, offered: int
) -> tuple[float, float]:
    """The seconds of a reload, and the throughput of the worst half second from its begin as a share of the median."""
    seconds, begin, took = 10, 4.0, 0.0

    def reload() -> None:
        nonlocal took
        time.sleep(begin)
        policy.write_text(policy.read_text() + "# changed\n")
        command = [sys.executable, "-c", "from filterd.cli.main import main; main()", "reload", "-p", str(policy)]
        took = _silently(command, {**os.environ, "PYTHONPATH": str(_HOME)})

    thread = threading.Thread(target=reload)
    thread.start()
    rate = {"rate": offered} if offered else {}
    sample = run(stage.asked.loadgen, daemon, [mail], int(expected * seconds), slot=500, **rate)
    thread.join()
    # The last may be a part of one.
    slots = sample.slots[2:-1]
    after = sample.slots[int(begin * 2) : -1]
    return took, min(after) / statistics.median(slots)


def _memory(stage: Stage) -> None:
    print("memory of filterd, two workers; RSS has what they share once each, PSS divides it")
    with filterd(Job.VERIFY, stage.setting("rest")) as daemon:
        mail = stage.mails.signed(Kind(5_000))
        run(stage.asked.loadgen, daemon, [mail], 1)
        _print_rest("at rest, after a mail", daemon)
        run(stage.asked.loadgen, daemon, [mail], 1000)
        _print_rest("at rest, after 1,000 mails", daemon)
        before = memory(daemon.pid), sum(proportional(daemon.pid))
        with _idle(daemon, _CONNECTIONS):
            added = sum(memory(daemon.pid)) - sum(before[0]), sum(proportional(daemon.pid)) - before[1]
            figure = f"RSS +{added[0] / _MB:.1f} MB, PSS +{added[1] / _MB:.1f} MB"
            _line(f"{_CONNECTIONS} idle connections add", figure, "at most 32 MB")
    for job in Job:
        kind = Kind(25_000_000)
        mail = stage.mails.signed(kind) if job is Job.VERIFY else stage.mails.unsigned(kind)
        with filterd(job, stage.setting(f"large-{job}"), workers=1) as daemon:
            small = stage.mails.signed(Kind(5_000)) if job is Job.VERIFY else stage.mails.unsigned(Kind(5_000))
            run(stage.asked.loadgen, daemon, [small], 100)
            forget_peaks(daemon.pid)
            rest = memory(daemon.pid)
            run(stage.asked.loadgen, daemon, [mail], 1, connections=1)
            peak = memory(daemon.pid, "VmHWM")
            added = max(most - less for most, less in zip(peak, rest, strict=True))
            _line(f"a mail of 25 MB adds to a worker, {job}", f"{added / _MB:.1f} MB", "at most 32 MB")


def _print_rest(when: str, daemon: Filter) -> None:
    resident, shares = memory(daemon.pid), proportional(daemon.pid)
    figure = f"RSS {max(resident[1:]) / _MB:.1f} MB, PSS {max(shares[1:]) / _MB:.1f} MB"
    _line(f"a worker {when}", figure, "at most 60 MB")
    _line(f"all {len(processes(daemon.pid))} processes", f"PSS {sum(shares) / _MB:.1f} MB", "")


@contextmanager
def _idle(daemon: Filter, number: int) -> Iterator[None]:
    """So many connections of an MTA that has said who is there, and no more."""
    with ExitStack() as stack:
        for _ in range(number):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX))
            peer.connect(daemon.socket.removeprefix("unix:"))
            for packet in (_OFFER, _CONNECT):
                peer.sendall(struct.pack("!I", len(packet)) + packet)
            # The offer is answered, whatever is agreed on about the rest.
            peer.recv(1024)
        yield
