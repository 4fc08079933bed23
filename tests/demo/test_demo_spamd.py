"""The demonstration's spamd: it answers, and a machine that has none, or a broken one, is told of in words."""

import socket
from pathlib import Path

import pytest
from servers.debian import unpacked

from filterd.demo.spamd import Installation, SpamdError, running


def test_it_listens_until_the_end(tmp_path: Path) -> None:
    place = Installation(unpacked("spamd"), unpacked("spamassassin"))
    with running(tmp_path, (place,)) as path, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(path))
        client.sendall(b"PING SPAMC/1.5\r\n\r\n")
        assert b"PONG" in client.recv(100)
    with socket.socket(socket.AF_UNIX) as client:
        assert client.connect_ex(str(path)) != 0


def test_a_machine_without_it_is_told_which_packages_have_it(tmp_path: Path) -> None:
    with pytest.raises(SpamdError, match="Debian's packages spamd and spamassassin"), running(tmp_path, ()):
        pass
    with pytest.raises(SpamdError), running(tmp_path, (Installation(tmp_path, tmp_path),)):
        pass


def test_one_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/spamd").write_text("die 'no rules were found';\n")
    (tmp_path / "usr/share/spamassassin").mkdir(parents=True)
    with (
        pytest.raises(SpamdError, match="no rules were found"),
        running(tmp_path, (Installation(tmp_path, tmp_path),)),
    ):
        pass
