"""The Received-SPF value: RFC 7208 9.1's grammar, whatever the client said."""

import re
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.mail.address import Mailbox
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason
from filterd.spf.check import SpfCode, SpfIdentity, SpfResult
from filterd.spf.received import received_spf

IP = ip_address("192.0.2.1")
DOMAIN = Domain("example.org")
SENDER = Mailbox("alice", DOMAIN)

# A continuation line: key, "=", dot-atom or quoted-string, ";".
_PAIR = re.compile(r'\n\t[a-z-]+=(?:[A-Za-z0-9!#$%&\'*+/=?^_`{|}~.-]+|"(?:[ !#-\[\]-~]|\\["\\])*");')


def test_a_pass() -> None:
    result = SpfResult(SpfCode.PASS, SpfIdentity.MAILFROM, DOMAIN, "ip4:192.0.2.0/24")
    assert received_spf(result, "mx.example.net", IP, SENDER, "mail.example.org").split("\n\t") == [
        "pass (192.0.2.1 may send for example.org)",
        "receiver=mx.example.net;",
        "identity=mailfrom;",
        "client-ip=192.0.2.1;",
        "helo=mail.example.org;",
        'envelope-from="alice@example.org";',
        'mechanism="ip4:192.0.2.0/24";',
    ]


def test_an_error_of_helo_names_the_problem_and_no_sender() -> None:
    result = SpfResult(SpfCode.PERMERROR, SpfIdentity.HELO, DOMAIN, reason=Reason.SPF_LIMIT)
    assert received_spf(result, "mx.example.net", ip_address("2001:db8::1"), SENDER, "example.org").split("\n\t") == [
        "permerror (the SPF record of example.org cannot be used)",
        "receiver=mx.example.net;",
        "identity=helo;",
        'client-ip="2001:db8::1";',
        "helo=example.org;",
        "problem=spf.limit;",
    ]


def test_the_null_path_is_postmaster_at_helo() -> None:
    result = SpfResult(SpfCode.NONE, SpfIdentity.MAILFROM, None, reason=Reason.SPF_NO_DOMAIN)
    value = received_spf(result, "mx.example.net", IP, None, "[192.0.2.1]")
    assert value.startswith("none (the name given has no SPF record)\n")
    assert '\n\tenvelope-from="postmaster@[192.0.2.1]";' in value


@pytest.mark.parametrize("code", SpfCode)
def test_every_code_has_words(code: SpfCode) -> None:
    assert received_spf(SpfResult(code, SpfIdentity.HELO, DOMAIN), "r.example", IP, None, "h").startswith(f"{code} (")


@given(st.text(max_size=2_000), st.text(max_size=2_000), st.text(max_size=200))
def test_nothing_that_a_client_says_gets_out_of_its_value(helo: str, local: str, mechanism: str) -> None:
    result = SpfResult(SpfCode.FAIL, SpfIdentity.MAILFROM, DOMAIN, mechanism)
    value = received_spf(result, "mx.example.net", IP, Mailbox(local, DOMAIN), helo)
    first = "fail (192.0.2.1 may not send for example.org)"
    assert value.startswith(first)
    pairs = value.removeprefix(first)
    assert _PAIR.sub("", pairs) == ""
    assert len(_PAIR.findall(pairs)) == 5 + bool(mechanism)
    assert max(map(len, value.split("\n"))) < 998
