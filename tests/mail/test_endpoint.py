"""Addresses of sockets, in the forms of Postfix, Sendmail and libmilter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.mail.endpoint import Endpoint, EndpointError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unix:/run/x", Endpoint(path="/run/x")),
        ("local:/run/x", Endpoint(path="/run/x")),
        ("unix:x", Endpoint(path="x")),
        ("/run/x y", Endpoint(path="/run/x y")),
        ("inet:8891@127.0.0.1", Endpoint(host="127.0.0.1", port=8891)),
        ("inet:8891@localhost", Endpoint(host="localhost", port=8891)),
        ("inet:127.0.0.1:8891", Endpoint(host="127.0.0.1", port=8891)),
        ("inet:[::1]:8891", Endpoint(host="::1", port=8891)),
        ("inet6:8891@::1", Endpoint(host="::1", port=8891, ipv6=True)),
        ("inet6:8891@[::1]", Endpoint(host="::1", port=8891, ipv6=True)),
        ("inet6:[::1]:8891", Endpoint(host="::1", port=8891, ipv6=True)),
    ],
)
def test_forms(text: str, expected: Endpoint) -> None:
    assert expected == Endpoint.parse(text)
    assert expected == Endpoint.parse(str(expected))


@pytest.mark.parametrize(
    "text",
    ["", "x", "unix:", "tcp:1@h", "inet:25", "inet:@h", "inet:1@", "inet:65536@h", "inet6:::1:25", "inet:1@a@b", "/\0",
     "unix:/" + "x" * 107, "inet:٣@h"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(EndpointError):
        Endpoint.parse(text)


@given(st.one_of(st.text(max_size=120), st.from_regex(r"(unix|inet6?|local):[0-9a-z:@/\[\].]*", fullmatch=True)))
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except EndpointError:
        return
    assert endpoint == Endpoint.parse(str(endpoint))
