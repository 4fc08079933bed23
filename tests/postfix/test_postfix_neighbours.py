"""Filters are known by where their packages put their sockets."""

import pytest

from filterd.postfix.neighbours import neighbour

PLACES = {
    "inet:localhost:8891": "OpenDKIM",
    "local:opendkim/opendkim.sock": "OpenDKIM",
    "unix:/var/spool/postfix/opendkim/opendkim.sock": "OpenDKIM",
    "inet:127.0.0.1:8893": "OpenDMARC",
    "local:opendmarc/opendmarc.sock": "OpenDMARC",
    "local:openarc/openarc.sock": "OpenARC",
    "inet:localhost:8892": "dkimpy-milter",
    "unix:private/policyd-spf": "policyd-spf",
    "unix:private/policy-spf": "policyd-spf",
    "inet:127.0.0.1:10023": "Postgrey",
    "unix:postgrey/socket": "Postgrey",
    "unix:ratelimit/policy": "policyd-rate-limit",
    "unix:spamass/spamass.sock": "spamass-milter",
    "inet:localhost:11332": "Rspamd",
    "unix:/clamav/clamav-milter.ctl": "ClamAV",
    "unix:filterd/milter.sock": None,
    "unix:/srv/opendkim-host/queue/filterd/milter.sock": None,
    "inet:127.0.0.1:12345": None,
    "nonsense": None,
}


@pytest.mark.parametrize("address", PLACES)
def test_who_is_at_an_address(address: str) -> None:
    found = neighbour(address)
    assert (found.name if found else None) == PLACES[address]
