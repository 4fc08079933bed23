"""A Postfix that is configured and does not run, and filterd's commands beside it."""

from collections.abc import Iterator

import pytest
from servers.joint import Joint
from servers.postfix import configured


@pytest.fixture
def joint() -> Iterator[Joint]:
    """Its smtpd and cleanup live in a chroot, as Debian's do."""
    with configured(chroot=True) as postfix:
        yield Joint(postfix)
