"""Workers that hang or leak are replaced, and what the processes may do is no more than they need."""

import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from servers.filterd_process import FilterdProcess, alive
from servers.milter_mta import MilterMta
from servers.milter_process import eventually

from filterd.wire.milter import Accept, Data, EndOfHeaders, EndOfMessage, HeaderField, Mail, Rcpt


def send(daemon: FilterdProcess) -> object:
    with MilterMta(daemon.address) as mta:
        mta.open(ip="127.0.0.1")
        return mta.send()


def test_a_worker_that_shows_no_sign_of_life_is_replaced(tmp_path: Path) -> None:
    with FilterdProcess(tmp_path, server="watchdog: 2s") as daemon:
        stopped = daemon.workers()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        eventually(lambda: not any(alive(pid) for pid in stopped))

        assert send(daemon) == Accept()
        assert "worker hangs, it is killed" in daemon.log()
        assert len(eventually(lambda: len(found := daemon.workers()) == 2 and found)) == 2


def test_a_worker_that_hangs_while_it_is_to_go_is_not_waited_for(tmp_path: Path) -> None:
    with FilterdProcess(tmp_path, server="watchdog: 2s") as daemon:
        stopped = daemon.workers()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        daemon.signal(signal.SIGHUP)
        eventually(lambda: "event=reloaded" in daemon.log())
        eventually(lambda: not any(alive(pid) for pid in stopped))

        assert send(daemon) == Accept()


def test_a_worker_that_grows_ends_its_mail_and_another_takes_its_place(tmp_path: Path) -> None:
    leaky = ("-m", "servers.leaky_master")
    with FilterdProcess(tmp_path, program=leaky, workers=1, server="max_memory: 200MiB") as daemon:
        (large,) = daemon.workers()
        mta = MilterMta(daemon.address)
        mta.open(ip="127.0.0.1")
        mta.say(Mail(b"<a@example.org>"), i="4Q1")
        mta.say(Rcpt(b"<b@example.net>"), i="4Q1")
        # Comes to an end under other workers, too, as soon as this one takes nothing any more.
        eventually(lambda: send(daemon) and "worker has grown too large" in daemon.log())
        for step in (Data(), HeaderField(b"From", b" a@example.org"), EndOfHeaders()):
            mta.say(step)
        assert mta.say(EndOfMessage()) == Accept()
        mta.quit()
        eventually(lambda: not alive(large))

        assert send(daemon) == Accept()
        assert "worker ended" not in daemon.log()


def test_workers_that_are_large_from_the_start_are_told_of_and_kept(tmp_path: Path) -> None:
    with FilterdProcess(tmp_path, server="max_memory: 1MiB") as daemon:
        workers = daemon.workers()
        eventually(lambda: daemon.log().count("workers begin with more memory") == 2)

        assert send(daemon) == Accept()
        assert daemon.workers() == workers


def facts(pid: int) -> dict[str, str]:
    """What the system says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_nothing_is_left_of_root(tmp_path: Path) -> None:
    with FilterdProcess(tmp_path, server="user: nobody") as daemon:
        for pid in (daemon.process.pid, *daemon.workers()):
            found = facts(pid)
            assert {found[f"Cap{each}"] for each in ("Inh", "Prm", "Eff", "Amb")} == {"0" * 16}
            assert (found["NoNewPrivs"], found["Umask"]) == ("1", "0077")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities")
def test_what_a_unit_has_lent_for_binding_is_given_back() -> None:
    """systemd.exec(5), AmbientCapabilities=; here they are kept by prctl(2), PR_SET_KEEPCAPS."""
    program = (
        "import ctypes, os\n"
        "from filterd.daemon.start import give_up_privileges\n"
        "def permitted():\n"
        "    return next(line.split()[1] for line in open('/proc/self/status') if line.startswith('CapPrm'))\n"
        "ctypes.CDLL(None).prctl(8, 1, 0, 0, 0)\n"
        f"os.setuid({pwd.getpwnam('nobody').pw_uid})\n"
        "before = int(permitted(), 16)\n"
        "give_up_privileges()\n"
        "print(before > 0, permitted())\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert found.stdout == f"True {'0' * 16}\n", found.stderr
