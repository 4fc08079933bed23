"""The units are what systemd reads, shut in what they start, and name what `make install-files` has put in place."""

import os
import subprocess
from pathlib import Path

import pytest
from servers.debian import unpacked

_HOUSE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is put under PREFIX, but for the program's library."""
    prefix = tmp_path_factory.mktemp("installed")
    made = subprocess.run(
        ["make", "-C", str(_HOUSE), "install-files", f"PREFIX={prefix}"], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return prefix


def analyzed(*words: str | Path) -> subprocess.CompletedProcess[str]:
    files = unpacked("systemd")
    program = files / "usr" / "bin" / "systemd-analyze"
    return subprocess.run(
        [str(program), *map(str, words)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{files}/lib/systemd/system:"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_systemd_finds_no_fault_in_the_units(installed: Path) -> None:
    units = installed / "lib" / "systemd" / "system"
    found = analyzed("verify", "--man=no", units / "filterd.service", units / "filterd.socket")

    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_what_is_started_is_shut_in(installed: Path) -> None:
    """The README quotes it: 1.5 of 10, where 10 is a process that may do anything."""
    service = installed / "lib" / "systemd" / "system" / "filterd.service"
    found = analyzed("security", "--offline=true", "--no-pager", "--threshold=15", service)

    assert found.returncode == 0, found.stdout
    assert "Overall exposure level for filterd.service: 1.5 OK" in found.stdout


def test_all_is_put_in_place(installed: Path) -> None:
    found = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}

    assert found >= {
        "bin/filterd",
        "lib/systemd/system/filterd.service",
        "lib/systemd/system/filterd.socket",
        "lib/sysusers.d/filterd.conf",
        "lib/tmpfiles.d/filterd.conf",
        "share/filterd/policies/default.yaml",
        "share/filterd/postfix/main.cf",
        "share/man/man1/filterd.1",
        "share/man/man5/filterd.yaml.5",
    }
    texts = [(installed / name).read_text() for name in ("bin/filterd", "lib/systemd/system/filterd.service")]
    assert [("@PREFIX@" in text, str(installed) in text) for text in texts] == [(False, True)] * 2
