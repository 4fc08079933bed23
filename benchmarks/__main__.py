"""What a mail costs: filterd beside OpenDKIM, OpenDMARC and dkimpy-milter, which do the same work by turns.

    make bench                            # or with COUNT=200 ROUNDS=3, for less time
    .venv/bin/python benchmarks [--count N] [--rounds N] [--only WORD]

Every round gives each filter the same mails over a unix socket by four connections, one after the other, so that what
else the machine does meets all of them. CPU is user and system time of all processes of a filter, a mail; waits are
from a mail's end to the filter's answer; RSS is what the largest process held at most. Ratios are of CPU time, with
the quartiles of the rounds. Mails are 5 kB, 100 kB and 1 MB, with one RSA-2048 signature if not said otherwise.
Needs root, as OpenDKIM asks name servers at port 53 only; all runs on loopback, in a temporary folder.
"""

import argparse
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import filters
from filters import Filter, Job, Setting
from mails import DOMAIN, Kind, Mails
from measure import Sample, memory, run
from nameserver import name_server
from report import HEAD, ratios, row

KINDS = {
    Job.VERIFY: [
        Kind(5_000), Kind(100_000), Kind(1_000_000), Kind(5_000, signatures=5), Kind(5_000, form="simple"),
        Kind(100_000, form="simple"),
    ],
    Job.SIGN: [Kind(5_000), Kind(100_000), Kind(1_000_000)],
}  # fmt: skip


def compared(job: Job, setting: Setting) -> list[AbstractContextManager[Filter]]:
    """Who does this job, ourselves first."""
    runs = [filters.filterd(job, setting), filters.opendkim(job, setting), filters.dkimpy_milter(job, setting)]
    return [*runs, filters.opendmarc(setting)] if job is Job.VERIFY else runs


def rounds(loadgen: Path, running: Sequence[Filter], mail: Path, count: int, times: int) -> dict[str, list[Sample]]:
    """The samples of each filter; what a first round warms up is not among them."""
    found: dict[str, list[Sample]] = defaultdict(list)
    for number in range(times + 1):
        for each in running:
            sample = run(loadgen, each, mail, count if number else max(20, count // 10))
            if number:
                found[each.name].append(sample)
    return found


def show(job: Job, kind: Kind, found: dict[str, list[Sample]], running: Sequence[Filter]) -> None:
    print(f"{job}, {kind}\n{HEAD}")
    for each in running:
        print(row(each.name, found[each.name], memory(each.pid, "VmHWM")[0]))
    ours = found["filterd"]
    if job is Job.VERIFY:
        print(f"  filterd / (OpenDKIM + OpenDMARC)  {ratios(ours, found['OpenDKIM'], found['OpenDMARC'])}")
    else:
        print(f"  filterd / OpenDKIM                {ratios(ours, found['OpenDKIM'])}")
    print(f"  filterd / dkimpy-milter           {ratios(ours, found['dkimpy-milter'])}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="5 kB mails a round; of larger ones fewer (1000)")
    parser.add_argument("--rounds", type=int, default=5, help="how often all are measured (5)")
    parser.add_argument("--only", default="", help="measure only what has this in its title: sign, '1 MB'")
    parser.add_argument("--loadgen", type=Path, default=Path("build/loadgen"), help="(build/loadgen)")
    asked = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("only root can measure: OpenDKIM asks name servers at port 53 only")
    with TemporaryDirectory(prefix="filterd-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        mails = Mails(folder)
        nameserver = stack.enter_context(name_server(folder, {DOMAIN: mails.zone()}))
        for job, kinds in KINDS.items():
            wanted = [kind for kind in kinds if asked.only in f"{job}, {kind}"]
            with ExitStack() as together:
                (folder / job).mkdir()
                places = compared(job, Setting(folder / job, nameserver, mails.key)) if wanted else []
                running = [together.enter_context(each) for each in places]
                for kind in wanted:
                    mail = mails.signed(kind) if job is Job.VERIFY else mails.unsigned(kind)
                    count = max(20, asked.count * 5_000 // max(5_000, kind.size // 4) // kind.signatures)
                    show(job, kind, rounds(asked.loadgen, running, mail, count, asked.rounds), running)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}\n{error.stderr or ''}")
