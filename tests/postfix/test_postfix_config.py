"""Postfix's lists are read as Postfix reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.postfix.config import Milter, items, milters, policy_services, same

LISTS = {
    "": [],
    " , ,": [],
    "a, b c": ["a", "b", "c"],
    "$filterd_milter, ${other}": ["$filterd_milter", "${other}"],
    "{ inet:h:1, default_action=accept },unix:x": ["{ inet:h:1, default_action=accept }", "unix:x"],
    "${x?{a, b}:{c}} d": ["${x?{a, b}:{c}}", "d"],
    "{ a": ["{ a"],
    "a } b": ["a", "}", "b"],
}


@pytest.mark.parametrize("value", LISTS)
def test_braces_hold_together_what_they_enclose(value: str) -> None:
    assert items(value) == LISTS[value]


@given(st.text("ab,{} \t", max_size=40))
def test_what_was_read_is_read_so_again(value: str) -> None:
    assert items(", ".join(items(value))) == items(value)


def test_a_milter_has_an_address_and_settings() -> None:
    value = "inet:localhost:8891, { unix:a/b, default_action=accept, { connect_timeout = 5s } command_timeout=9s }"
    assert milters(value) == [
        Milter("inet:localhost:8891", {}),
        Milter("unix:a/b", {"default_action": "accept", "connect_timeout": "5s", "command_timeout": "9s"}),
    ]


def test_policy_services_are_what_follows_the_word() -> None:
    value = "permit_mynetworks, check_policy_service unix:a, check_policy_service { inet:h:1, timeout=3s }, permit"
    assert policy_services(value) == ["unix:a", "inet:h:1"]


SAME = [
    ("unix:filterd/m", "unix:/spool/filterd/m", True),
    ("local:filterd/m", "unix:filterd/m", True),
    ("unix:filterd/m", "unix:filterd/n", False),
    ("inet:localhost:8891", "inet:127.0.0.1:8891", True),
    ("inet:8891@127.0.0.1", "inet:127.0.0.1:8891", True),
    ("inet:[::1]:8891", "inet:[::1]:8891", True),
    ("inet:127.0.0.1:8892", "inet:127.0.0.1:8891", False),
    ("nonsense", "unix:m", False),
]


@pytest.mark.parametrize(("address", "ours", "expected"), SAME)
def test_one_socket_has_several_addresses(address: str, ours: str, expected: bool) -> None:
    assert same(address, ours, "/spool") is expected
