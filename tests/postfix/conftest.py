"""A Postfix that is configured and does not run, and filterd's commands beside it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.joint import Joint
from servers.postfix import Postfix, configured

from filterd.postfix.attached import FILES


@pytest.fixture
def joint() -> Iterator[Joint]:
    """Its smtpd and cleanup live in a chroot, as Debian's do."""
    with configured(chroot=True) as postfix:
        yield Joint(postfix)


@pytest.fixture(scope="module")
def plain() -> Iterator[Postfix]:
    """The same for all tests of a module, which change copies of its files."""
    with configured(chroot=True) as postfix:
        yield postfix


@pytest.fixture
def folder(plain: Postfix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files of a Postfix, without milters."""
    for name in ("PATH", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, plain.environment[name])
    for name in FILES:
        shutil.copy(plain.config / name, tmp_path)
    return tmp_path
