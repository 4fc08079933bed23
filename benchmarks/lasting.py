"""Whether filterd grows: the memory of each of its processes after 10,000 mails, and after 100,000."""

from filters import Job, filterd
from mails import Kind
from measure import memory, processes, proportional, run
from stage import Stage

_FEW, _MANY = 10_000, 100_000
_MOST = 0.10
_MB = 1e6


def main(stage: Stage) -> None:
    """Memory of each process after 100,000 mails of 5 kB, beside that after 10,000."""
    kind = Kind(5_000)
    for job in Job:
        mail = stage.mails.signed(kind) if job is Job.VERIFY else stage.mails.unsigned(kind)
        with filterd(job, stage.setting(f"lasting-{job}")) as daemon:
            run(stage.asked.loadgen, daemon, [mail], _FEW)
            pids, few, few_shares = processes(daemon.pid), memory(daemon.pid), proportional(daemon.pid)
            run(stage.asked.loadgen, daemon, [mail], _MANY - _FEW)
            many, many_shares = memory(daemon.pid), proportional(daemon.pid)
            same = pids == processes(daemon.pid)
        print(f"memory of filterd ({job}) after {_FEW:,} and {_MANY:,} mails: RSS, and PSS, at most {_MOST:.0%} more")
        for pid, *sizes in zip(pids, few, many, few_shares, many_shares, strict=True):
            before, after, share_before, share_after = sizes
            name = "supervisor" if pid == pids[0] else f"worker {pid}"
            print(
                f"  {name:<20}{before / _MB:6.1f} to {after / _MB:6.1f} MB ({after / before - 1:+.1%})"
                f"   {share_before / _MB:6.1f} to {share_after / _MB:6.1f} MB ({share_after / share_before - 1:+.1%})"
            )
        kept = same and all(after <= before * (1 + _MOST) for before, after in zip(few, many, strict=True))
        print(f"  {'within' if kept else 'NOT within'} {_MOST:.0%}{'' if same else ', and workers were replaced'}")
