"""A list file says what is in it, or the line that says nothing."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.policy.list_file import ListFile, ListFileError

TEXT = """\
# friends
192.0.2.0/24
198.51.100.7      # one of them
2001:db8::/32
example.org
*.example.net
.bücher.example

Anna@Example.com
@all.example
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.77", True),
        ("::ffff:192.0.2.77", True),
        ("192.0.3.1", False),
        ("198.51.100.7", True),
        ("198.51.100.8", False),
        ("2001:db8:1::1", True),
        ("2001:db9::1", False),
        ("example.org", True),
        ("Example.Org.", True),
        ("a.example.org", False),
        ("a.example.net", True),
        ("b.a.example.net", True),
        ("example.net", False),
        ("x.xn--bcher-kva.example", True),
        ("anna@example.com", True),
        ("ANNA@example.com", True),
        ("bob@example.com", False),
        ("anyone@all.example", True),
        ("all.example", False),
        ("a@example.org", False),
        ("", False),
        ("nonsense 1", False),
        ("1", False),
        ("@", False),
    ],
)
def test_what_is_in_it(text: str, expected: bool) -> None:
    assert expected == ListFile(TEXT).has(text)


def test_how_many_entries_it_has() -> None:
    assert len(ListFile(TEXT)) == 8


@pytest.mark.parametrize(
    "line",
    ["192.0.2.1/24", "192.0.2.0/33", "300.0.0.1", "2001:db8::1/32", "a..b", "a b", "a b@example.org", "a@", "*.", "http://a.example/"],
)  # fmt: skip
def test_a_line_that_is_none_is_named(line: str) -> None:
    with pytest.raises(ListFileError) as caught:
        ListFile(f"# first\nexample.org\n{line}\n")

    assert caught.value.line == 3


@given(st.text(max_size=80))
def test_whatever_is_written_is_a_list_or_an_error(text: str) -> None:
    try:
        ListFile(text).has(text)
    except ListFileError as error:
        assert error.line >= 1


@given(st.lists(st.ip_addresses(), max_size=5), st.integers(0, 32), st.ip_addresses())
def test_networks_are_those_of_the_module_for_them(bases: list[object], length: int, address: object) -> None:
    networks = [ip_network(f"{base}/{length}", strict=False) for base in bases]
    found = ListFile("".join(f"{network}\n" for network in networks))
    tried = ip_address(str(address))
    tried = getattr(tried, "ipv4_mapped", None) or tried

    assert any(tried in network for network in networks) == found.has(str(address))
