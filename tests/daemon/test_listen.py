"""Listening: only those who may connect, never two at one address, and nothing left behind that is not ours."""

import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from filterd.daemon.listen import ListenError, listen


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.mark.parametrize("form", ["unix:{}", "local:{}", "{}"])
def test_a_unix_socket_has_the_mode_that_was_asked_for(tmp_path: Path, form: str) -> None:
    path = tmp_path / "milter"
    before = os.umask(0o777)
    try:
        listener = listen(form.format(path), None, 0o660)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert connects(path)
    assert not listener.socket.getblocking()


def test_a_unix_socket_has_the_group_that_was_asked_for(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getgroups()[-1] if os.getgroups() else os.getgid())
    listen(f"unix:{tmp_path}/milter", group.gr_name, 0o660)

    assert (tmp_path / "milter").stat().st_gid == group.gr_gid


def test_nobody_can_connect_before_mode_and_group_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, connected = tmp_path / "milter", []
    chmod = Path.chmod

    def trying(self: Path, mode: int) -> None:
        connected.append(connects(path))
        chmod(self, mode)

    monkeypatch.setattr(Path, "chmod", trying)
    listen(f"unix:{path}", None, 0o600)

    assert connected == [False]


def test_the_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "milter"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    listener = listen(f"unix:{path}", None, 0o660)

    assert connects(path)
    listener.close()


@pytest.mark.parametrize("backlog", [100, 0])
def test_the_socket_of_a_running_process_is_left_alone(tmp_path: Path, backlog: int) -> None:
    path = tmp_path / "milter"
    with socket.socket(socket.AF_UNIX) as alive, socket.socket(socket.AF_UNIX) as waiting:
        alive.bind(str(path))
        alive.listen(backlog)
        # With no backlog, this one fills the queue.
        waiting.connect(str(path))

        with pytest.raises(ListenError, match=f"unix:{path}: already in use by a running process"):
            listen(f"unix:{path}", None, 0o660)
        assert path.is_socket()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "milter"
    path.write_text("precious")

    with pytest.raises(ListenError, match="no socket"):
        listen(f"unix:{path}", None, 0o660)
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("address", "group", "words"),
    [
        ("unix:/nowhere/at/all/milter", None, "No such file or directory"),
        ("unix:" + "/x" * 100, None, "at most 107 bytes"),
        ("unix:{}/milter", "no-such-group", "there is no group no-such-group"),
        ("tcp:1@127.0.0.1", None, "reads unix:/PATH"),
        ("inet:25", None, "reads unix:/PATH"),
        ("inet:99999@127.0.0.1", None, "a port is a number up to 65535"),
        ("inet:1@192.0.2.1", None, "cannot listen"),
        ("inet:1@2001:db8::1", None, "cannot listen"),
    ],
)
def test_what_cannot_be_listened_on_is_named(tmp_path: Path, address: str, group: str | None, words: str) -> None:
    address = address.format(tmp_path)
    with pytest.raises(ListenError, match=words) as caught:
        listen(address, group, 0o660)

    assert str(caught.value).startswith(address)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("family", "host", "form"),
    [
        (socket.AF_INET, "127.0.0.1", "inet:{}@127.0.0.1"),
        (socket.AF_INET6, "::1", "inet6:{}@::1"),
        (socket.AF_INET6, "::1", "inet6:{}@[::1]"),
    ],
)
def test_a_port_in_use_is_named(family: socket.AddressFamily, host: str, form: str) -> None:
    first = listen(form.format(0), None, 0)
    port = first.socket.getsockname()[1]
    with socket.socket(family) as client:
        client.connect((host, port))

        with pytest.raises(ListenError, match=f"{port}@.*already in use by a running process"):
            listen(form.format(port), None, 0)
    first.close()
    listen(form.format(port), None, 0).close()


def test_closing_removes_our_socket(tmp_path: Path) -> None:
    listen(f"unix:{tmp_path}/milter", None, 0o660).close()

    assert list(tmp_path.iterdir()) == []


def test_closing_leaves_the_socket_of_who_came_after_us(tmp_path: Path) -> None:
    path = tmp_path / "milter"
    first = listen(f"unix:{path}", None, 0o660)
    path.unlink()
    second = listen(f"unix:{path}", None, 0o660)
    first.close()

    assert connects(path)
    second.close()
