"""The other programs, once for all tests of a process."""

from collections.abc import Iterator

import pytest
from dkim_mail import DOMAIN
from interop.both_ways import RECORDS, zone
from servers import nsd, opendkim
from servers.perl_dkim import PerlDkim


@pytest.fixture(scope="session")
def opendkim_verifier() -> Iterator[opendkim.OpenDkim]:
    with opendkim.verifying(RECORDS) as verifier:
        yield verifier


@pytest.fixture(scope="session")
def perl() -> Iterator[PerlDkim]:
    with nsd.running({DOMAIN: zone(RECORDS)}) as nameserver:
        yield PerlDkim(nameserver)
