"""A Postfix and a name server for all tests of a module, and a daemon for each."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from example_org import ORG, policy
from servers import nsd
from servers.filterd import Filterd, Judging
from servers.postfix import Postfix, running

_numbers = itertools.count()


@pytest.fixture(scope="module")
def postfix() -> Iterator[Postfix]:
    """Its milter is the socket "milter" in its folder for milters."""
    with running(milters=["unix:milters/milter"]) as process:
        yield process


@pytest.fixture(scope="module")
def dns() -> Iterator[str]:
    """A server that knows example.org."""
    with nsd.running({"org": ORG}) as (host, port):
        yield f"{host}:{port}"


@pytest.fixture(params=["libmilter", "native"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What speaks the milter protocol: the same tests for both."""
    monkeypatch.setattr(Filterd, "engine", request.param)


@pytest.fixture
def judging(postfix: Postfix, dns: str) -> Judging:
    """Run filterd beside Postfix, by the `policy` of mx.example. It must neither report a fault of its own nor lose a worker."""

    @contextmanager
    def run(*more: str) -> Iterator[Filterd]:
        with Filterd(postfix.milters, policy(dns, *more)) as filterd:
            yield filterd
            assert filterd.events("fault") == []
            assert filterd.events("worker ended") == []

    return run


@pytest.fixture
def recipient() -> str:
    """Somebody who gets no other test's mail."""
    return f"b{next(_numbers)}@example.net"
