"""Names in the store: short, one word a part, whatever a client says."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.limits.keys import BucketName, Fold, key_text, mail_member, network, readable_key
from filterd.limits.rate import Unit
from filterd.mail.transaction import Client, ReversePath


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_a_name_is_bounded_and_read_back(parts: list[str]) -> None:
    key = key_text(parts)
    name = BucketName("per-user", Unit.BYTES, 60_000, key)

    assert BucketName.parse(str(name)) == name
    assert len(key) <= 3 * 230
    assert key.isascii()
    assert key.isprintable()


@given(st.lists(st.text(max_size=20), min_size=2, max_size=2), st.lists(st.text(max_size=20), min_size=2, max_size=2))
def test_different_facts_have_different_keys(one: list[str], other: list[str]) -> None:
    same = [each.casefold() for each in one] == [each.casefold() for each in other]
    assert (key_text(one) == key_text(other)) is same


def test_long_facts_are_told_apart() -> None:
    assert key_text(["x" * 500 + "1"]) != key_text(["x" * 500 + "2"])


def test_a_key_is_shown_as_it_was_but_for_its_case() -> None:
    assert readable_key(key_text(["Änne Müller@example.org", "192.0.2.0/24"])) == "änne müller@example.org,192.0.2.0/24"


@pytest.mark.parametrize(
    ("address", "folded"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("mx.example", "mx.example"),
    ],
)
def test_neighbours_are_one_network(address: str, folded: str) -> None:
    assert network(address, Fold()) == folded


def test_a_fold_of_all_bits_is_the_address() -> None:
    assert network("192.0.2.77", Fold(32, 128)) == "192.0.2.77"


def test_both_sides_know_a_mail_by_the_same_name() -> None:
    client, sender = Client(ip_address("192.0.2.1"), port=1234), ReversePath("a@example.org", None)

    assert mail_member(client, sender, "milter") == mail_member(client, sender, "policy")
    assert mail_member(Client(client.ip, port=1235), sender, "milter") != mail_member(client, sender, "milter")
    # Without a port, two mails at once would be one.
    assert mail_member(Client(client.ip), sender, "c1.1") != mail_member(Client(client.ip), sender, "c1.2")


@pytest.mark.parametrize("text", ["", "a b", "a messages/x k", "a mails/1 k", "a messages/1 k k"])
def test_what_is_nothing_of_ours(text: str) -> None:
    assert BucketName.parse(text) is None
