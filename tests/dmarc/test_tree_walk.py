"""filterd.dmarc.tree_walk: RFC 9989 4.10, never more than eight questions."""

import pytest
from dmarc_zone import Zone
from hypothesis import given
from hypothesis import strategies as st

from filterd.dmarc.tree_walk import Walk, query_names, tree_walk
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason


def found(walk: Walk) -> list[str]:
    return [each.domain.name for each in walk.found]


def test_deep_name_is_shortened_to_seven_labels() -> None:
    """The example of RFC 9989 4.10."""
    expected = (
        "_dmarc.a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "_dmarc.g.h.i.j.mail.example.com",
        "_dmarc.h.i.j.mail.example.com",
        "_dmarc.i.j.mail.example.com",
        "_dmarc.j.mail.example.com",
        "_dmarc.mail.example.com",
        "_dmarc.example.com",
        "_dmarc.com",
    )

    assert expected == query_names(Domain("a.b.c.d.e.f.g.h.i.j.mail.example.com"))


@pytest.mark.parametrize(("labels", "expected"), [(1, 1), (2, 2), (7, 7), (8, 8), (9, 8), (100, 8)])
def test_at_most_eight_questions(labels: int, expected: int) -> None:
    zone = Zone({})
    start = Domain(".".join(["a"] * labels))

    assert Walk(start) == tree_walk(start, zone)
    assert expected == len(zone.asked)
    assert zone.asked == list(query_names(start))


@given(st.integers(1, 120))
def test_walk_asks_parents_only(labels: int) -> None:
    start = Domain(".".join(f"l{number}" for number in range(labels)))

    names = query_names(start)
    assert len(names) == len(set(names)) <= 8
    assert all(start.under(Domain(name.removeprefix("_dmarc."))) for name in names)


def test_all_is_asked_at_once() -> None:
    zone = Zone({})
    tree_walk(Domain("a.example.com"), zone)

    assert zone.prefetched == zone.asked


def test_goes_on_to_the_top_level_domain() -> None:
    zone = Zone({"mail.example.com": "v=DMARC1", "example.com": "v=DMARC1; p=reject", "com": "v=DMARC1"})

    assert found(tree_walk(Domain("a.mail.example.com"), zone)) == ["mail.example.com", "example.com", "com"]


@pytest.mark.parametrize("psd", ["y", "n"])
def test_stops_where_the_record_says_psd(psd: str) -> None:
    zone = Zone({"example.com": f"v=DMARC1; psd={psd}", "com": "v=DMARC1"})

    assert found(tree_walk(Domain("mail.example.com"), zone)) == ["example.com"]
    assert found(tree_walk(Domain("example.com"), zone)) == ["example.com"]


def test_psd_u_does_not_stop() -> None:
    zone = Zone({"example.com": "v=DMARC1; psd=u", "com": "v=DMARC1"})

    assert found(tree_walk(Domain("example.com"), zone)) == ["example.com", "com"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["v=DMARC1; p=reject"], ["example.com"]),
        (["v=spf1 -all", "v=DMARC1; p=reject", "hello"], ["example.com"]),
        (["v=DMARC1; p=reject", "v=DMARC1; p=none"], []),
        (["v=DMARC1; p=reject", "v=DMARC1; p=reject"], []),
        (["v=DMARC1; psd=n", "v=DMARC1; psd=y"], []),
        (["v=spf1 -all"], []),
    ],
)
def test_several_records_at_a_name_are_discarded(texts: list[str], expected: list[str]) -> None:
    """RFC 9989 4.10, steps 2 and 6; what is no DMARC record does not count."""
    zone = Zone({"example.com": texts, "com": "v=DMARC1"})

    assert [*expected, "com"] == found(tree_walk(Domain("example.com"), zone))


def test_failure_ends_the_walk_and_is_told() -> None:
    zone = Zone({"a.example.com": "v=DMARC1", "com": "v=DMARC1"}, broken=("_dmarc.example.com",))
    walk = tree_walk(Domain("a.example.com"), zone)

    assert found(walk) == ["a.example.com"]
    assert Reason.DNS_TIMEOUT is walk.failure


def test_failure_above_the_end_does_not_matter() -> None:
    zone = Zone({"example.com": "v=DMARC1; psd=n"}, broken=("_dmarc.com",))

    assert tree_walk(Domain("a.example.com"), zone).failure is None
