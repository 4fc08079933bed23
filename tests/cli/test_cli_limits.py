"""`filterd limits`: what was counted, who is nearest to a limit, and to begin anew."""

import json
import time
from pathlib import Path

import pytest
from command_line import filterd
from servers import redis

from filterd.backend.sqlite_store import SqliteStore
from filterd.limits.keys import BucketName, key_text
from filterd.limits.window import Charge
from filterd.policy.quantities import read_rate

POLICY = """\
version: 1
server: {{ state: "{state}" }}
limits:
  - {{ name: per-user, key: client.user, rate: [200 recipients per 1h, 2 networks per 10m], overrides: vip }}
  - {{ name: per-net, key: client.ip, rate: 50 messages per 1h }}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    policy = tmp_path / "p.yaml"
    policy.write_text(POLICY.format(state=f"sqlite:{tmp_path}/state.db"))
    (tmp_path / "vip").write_text("boss: 5000 per 1h\n")
    store = SqliteStore(tmp_path / "state.db")
    counted = [
        ("per-user", "200 recipients per 1h", "anna", 150),
        ("per-user", "200 recipients per 1h", "boss", 400),
        ("per-net", "50 messages per 1h", "192.0.2.0/24", 49),
        ("gone", "1 messages per 1h", "anna", 1),
    ]
    for limit, text, key, cost in counted:
        rate = read_rate(text)
        name = str(BucketName.of(limit, rate, key_text([key])))
        store.reserve([Charge(name, 10_000, rate.span, cost, "m")], int(time.time() * 1000))
    store.close()
    return policy


def test_show(file: Path) -> None:
    result = filterd("limits", "show", "-p", file)

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "limit     used  of                       key",
        "gone         1  no limit now (messages)  anna",
        "per-net     49  50 messages per 1h       192.0.2.0/24",
        "per-user   150  200 recipients per 1h    anna",
        "per-user   400  5000 recipients per 1h   boss",
    ]


def test_show_one(file: Path) -> None:
    result = filterd("limits", "show", "-p", file, "--json", "--limit", "per-user", "Anna")

    assert json.loads(result.stdout) == [
        {"limit": "per-user", "key": "anna", "rate": "200 recipients per 1h", "used": 150, "most": 200}
    ]
    assert filterd("limits", "show", "-p", file, "carl").exit_code == 1


def test_top(file: Path) -> None:
    lines = filterd("limits", "top", "-n", "3", "-p", file).stdout.splitlines()

    assert [line.split()[-1] for line in lines[1:]] == ["anna", "192.0.2.0/24", "anna"]


def test_reset(file: Path) -> None:
    assert filterd("limits", "reset", "-p", file, "anna", "--limit", "per-user").stdout == "1 count forgotten\n"
    assert filterd("limits", "show", "-p", file, "anna", "--limit", "per-user").exit_code == 1
    assert filterd("limits", "reset", "-p", file).exit_code == 2
    assert filterd("limits", "reset", "-p", file, "--all").stdout == "3 counts forgotten\n"


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ("", "the policy has no server.state"),
        ('server: { state: "sqlite:/nowhere/state.db" }', "/nowhere/state.db: nothing was counted yet"),
        ('server: { state: "unix:///nowhere/redis.sock" }', "No such file"),
        ('server: { state: "mysql://x" }', "state is kept in"),
    ],
)
def test_where_nobody_can_look(tmp_path: Path, state: str, problem: str) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text(f"version: 1\n{state}\n")

    for command in (["show"], ["top"], ["reset", "--all"]):
        result = filterd("limits", *command, "-p", policy)
        assert result.exit_code == 2
        assert problem in result.stderr


@pytest.mark.system
def test_what_somebody_else_wrote_into_redis_is_not_counted(tmp_path: Path) -> None:
    """Fields and types that are not ours, and names that mean no limit."""
    policy, ours = tmp_path / "p.yaml", "per-user recipients/3600000"
    minute = int(time.time()) // 60
    with redis.running() as server, server.client as client:
        policy.write_text(POLICY.format(state=f"redis://127.0.0.1:{server.port}"))
        (tmp_path / "vip").write_text("")
        fields = {"colour": "red", "hm": "1 2", b"c\xff": b"\xfe", f"c{minute}": 7}
        client.hset(f"{{filterd}}:bucket:{ours} anna", mapping=fields)
        client.set(f"{{filterd}}:bucket:{ours} text", "no hash")
        client.rpush(f"{{filterd}}:bucket:{ours} list", "no hash")
        for name in (b"per-user recipients/0 anna", b"per-user recipients/%s anna" % (b"9" * 5000), b"\xff"):
            client.hset(b"{filterd}:bucket:" + name, "c7", "1")

        shown = filterd("limits", "show", "-p", policy)
        reset = filterd("limits", "reset", "--all", "-p", policy)

    assert (shown.exit_code, [line.split()[:2] for line in shown.stdout.splitlines()[1:]]) == (0, [["per-user", "7"]])
    assert (reset.exit_code, reset.stdout) == (0, "3 counts forgotten\n")
