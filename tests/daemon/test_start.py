"""What a daemon needs is looked at before it starts, and said in words."""

import resource

import pytest

from filterd.daemon import start
from filterd.daemon.control import control_address
from filterd.daemon.start import StartError, raise_file_limit
from filterd.policy.schema import Server

Limits = tuple[int, int]


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(start.log, "warning", lambda event, **facts: told.append(facts))
    return told


@pytest.mark.parametrize(
    ("limits", "raised", "warnings"),
    [
        ((1024, 1_000_000), [(2200, 1_000_000)], 0),
        ((1024, resource.RLIM_INFINITY), [(2200, resource.RLIM_INFINITY)], 0),
        ((20_000, 20_000), [], 0),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), [], 0),
        ((256, 256), [], 1),
        ((256, 1024), [(1024, 1024)], 1),
    ],
)
def test_the_limit_of_open_files_is_raised_or_warned_of(
    limits: Limits,
    raised: list[Limits],
    warnings: int,
    monkeypatch: pytest.MonkeyPatch,
    warned: list[dict[str, object]],
) -> None:
    set_to: list[Limits] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, to: set_to.append(to))
    raise_file_limit(Server(policy_service=("unix:/run/filterd/policy.sock",)))

    assert (set_to, len(warned)) == (raised, warnings)


def test_with_hardly_any_files_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (32, 32))

    with pytest.raises(StartError, match="only 32 files open, 64 is the least: raise LimitNOFILE="):
        raise_file_limit(Server())


@pytest.mark.parametrize(
    ("section", "address"),
    [
        ({}, "unix:/run/filterd/control.sock"),
        ({"milter": ["unix:/var/spool/postfix/filterd/milter.sock"]}, "unix:/var/spool/postfix/filterd/control.sock"),
        ({"milter": ["inet:8891@127.0.0.1"]}, "unix:/run/filterd/control.sock"),
        ({"control": "unix:/run/other.sock"}, "unix:/run/other.sock"),
    ],
)
def test_where_the_control_socket_is(section: dict[str, object], address: str) -> None:
    assert control_address(Server.model_validate(section)) == address
