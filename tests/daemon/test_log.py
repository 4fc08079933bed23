"""One event is one line, whatever remote text is in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from filterd.daemon import log

HOSTILE = 'a\r\nevent=forged\x1b[2J\u202e\udce9 "q" \\ \x00 \x85'


@pytest.fixture(params=[log.LogFormat.LOGFMT, log.LogFormat.JSON])
def form(request: pytest.FixtureRequest) -> log.LogFormat:
    log.configure(request.param)
    return log.LogFormat(request.param)


def test_remote_text_stays_in_its_line(form: log.LogFormat, capfd: pytest.CaptureFixture[str]) -> None:
    log.decision({"from": HOSTILE, "size": 3, "queue_id": None})
    written = capfd.readouterr().err

    assert written.endswith("\n")
    assert written[:-1].isprintable()


def test_json_has_the_facts(capfd: pytest.CaptureFixture[str]) -> None:
    log.configure(log.LogFormat.JSON)
    log.decision({"from": "a@b", "size": 3, "ms": 1.5})
    line = json.loads(capfd.readouterr().err)

    assert {**line, "time": ""} == {
        "event": "judged",
        "level": "info",
        "time": "",
        "from": "a@b",
        "size": 3,
        "ms": 1.5,
    }


def test_logfmt_begins_with_when_and_what(capfd: pytest.CaptureFixture[str]) -> None:
    log.configure(log.LogFormat.LOGFMT)
    log.warning("it happened", why="so it is")
    time, rest = capfd.readouterr().err.split(" ", 1)

    assert time.startswith("time=")
    assert rest == 'level=warning event="it happened" why="so it is"\n'


def test_long_text_is_cut(form: log.LogFormat, capfd: pytest.CaptureFixture[str]) -> None:
    log.info("x", text="y" * 1_000_000, last="z")
    written = capfd.readouterr().err

    assert len(written) < 10_000
    assert "z" in written


def test_a_fault_has_its_traceback_and_no_password(form: log.LogFormat, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("cannot reach redis://filterd:s3cret@db.example/0")
    except ValueError as error:
        log.fault("state", error)
    written = capfd.readouterr().err

    assert written.count("\n") == 1
    assert "test_log.py" in written
    assert "redis://filterd:***@db.example/0" in written
    assert "s3cret" not in written


def test_lines_of_several_processes_do_not_mix() -> None:
    program = (
        "import os\n"
        "from filterd.daemon import log\n"
        "log.configure(log.LogFormat.LOGFMT)\n"
        "children = [os.fork() for _ in range(2)]\n"
        "for number in range(500): log.info('line', text='x' * 500, end='yes')\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    lines = found.stderr.decode().splitlines()

    assert len(lines) == 4 * 500
    assert all(line.startswith("time=") and line.endswith(" end=yes") for line in lines)


def test_a_log_that_nobody_reads_costs_no_mail() -> None:
    program = (
        "import os\n"
        "from filterd.daemon import log\n"
        "log.configure(log.LogFormat.LOGFMT)\n"
        "os.close(2)\n"
        "log.info('line')\n"
    )
    found = subprocess.run([sys.executable, "-c", program], env=dict(os.environ), check=False, timeout=60)

    assert found.returncode == 0


def test_below_its_level_nothing_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    log.configure(log.LogFormat.LOGFMT, log.LogLevel.WARNING)
    log.debug("one")
    log.info("two")
    log.decision({"verdict": "accept"})
    log.warning("three")
    log.error("four")

    assert [line.partition("event=")[2].strip() for line in capfd.readouterr().err.splitlines()] == ["three", "four"]


def test_what_is_away_is_told_once_until_it_is_back(capfd: pytest.CaptureFixture[str]) -> None:
    log.configure(log.LogFormat.LOGFMT)
    for _ in range(2):
        log.away("part", "away")
    for _ in range(2):
        log.back("part", "back")
    log.away("part", "away")

    assert [line.partition("event=")[2].strip() for line in capfd.readouterr().err.splitlines()] == [
        "away",
        "back",
        "away",
    ]


def test_everything_is_told_until_it_is_toggled_again(capfd: pytest.CaptureFixture[str]) -> None:
    log.configure(log.LogFormat.LOGFMT)
    log.debug("hidden")
    log.toggle_debugging()
    log.debug("shown")
    log.toggle_debugging()
    log.debug("hidden again")

    told = capfd.readouterr().err
    assert "shown" in told
    assert "hidden" not in told


def test_the_journal_is_told_how_much_a_line_matters(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """sd-daemon(3): <4> is a warning, where standard error is the journal's socket (JOURNAL_STREAM)."""
    read = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{read.st_dev}:{read.st_ino}")
    log.configure(log.LogFormat.LOGFMT)
    log.warning("look")

    assert capfd.readouterr().err.startswith("<4>")
