"""filterd.dmarc.discovery with a public suffix list, and what filterd.dmarc.evaluate makes of it: RFC 7489.

By the tree walk, test_evaluate has it.
"""

import pytest
from dmarc_zone import Suffixes, Zone

from filterd.dkim.verify import DkimCode, DkimResult
from filterd.dmarc.discovery import Discovery, discover, names_asked
from filterd.dmarc.evaluate import DmarcCode, DmarcResult, evaluate
from filterd.dmarc.record import Record, Request
from filterd.dmarc.tree_walk import Found
from filterd.mail.domain import Domain
from filterd.mail.message import Author
from filterd.mail.reason import Reason
from filterd.spf.check import SpfCode, SpfIdentity, SpfResult

LIST = Suffixes("co.uk", "bank.example")
NONE, QUARANTINE, REJECT = Request


def judge(author: str, zone: Zone, aligned: str = "evil.example") -> DmarcResult:
    spf = SpfResult(SpfCode.PASS, SpfIdentity.MAILFROM, Domain(aligned))
    return evaluate(Author(Domain(author)), spf, (), zone, LIST)


@pytest.mark.parametrize(
    ("author", "records", "expected"),
    [
        ("example.com", {"example.com": "p=reject"}, "example.com"),
        # the author domain's own record, then the organization's
        ("a.news.example.com", {"a.news.example.com": "p=none", "example.com": "p=reject"}, "a.news.example.com"),
        ("a.news.example.com", {"example.com": "p=reject"}, "example.com"),
        # nothing between them, and nothing above
        ("a.news.example.com", {"news.example.com": "p=reject"}, None),
        ("example.com", {"com": "p=reject; psd=y"}, None),
        ("a.giant.bank.example", {"bank.example": "p=reject; psd=y"}, None),
        ("example.co.uk", {"co.uk": "p=reject"}, None),
        # a public suffix may have one for mail of its own
        ("co.uk", {"co.uk": "p=reject", "uk": "p=none"}, "co.uk"),
    ],
)
def test_the_record_is_the_authors_or_the_organizations(
    author: str, records: dict[str, str], expected: str | None
) -> None:
    """RFC 7489 6.6.3."""
    zone = Zone({name: f"v=DMARC1; {tags}" for name, tags in records.items()})
    found = discover(Domain(author), zone, LIST).found

    assert expected == (found and found.domain.name)


def test_several_records_end_the_search() -> None:
    """RFC 7489 6.6.3, step 5; RFC 9989 4.10 walks on."""
    zone = Zone({"a.example.com": ["v=DMARC1; p=none"] * 2, "example.com": "v=DMARC1; p=reject"})

    assert Discovery(Domain("example.com"), None) == discover(Domain("a.example.com"), zone, LIST)
    assert Discovery(Domain("example.com"), Found(Domain("example.com"), Record(REJECT))) == discover(
        Domain("a.example.com"), zone, None
    )


def test_other_text_is_no_record() -> None:
    """RFC 7489 6.6.3, step 2."""
    zone = Zone({"a.example.com": ["v=spf1 -all", "v=DMARC2; p=none"], "example.com": "v=DMARC1; p=reject"})

    assert Domain("example.com") == judge("a.example.com", zone).policy_domain


@pytest.mark.parametrize("broken", ["_dmarc.a.example.com", "_dmarc.example.com"])
def test_failing_dns_leaves_it_open(broken: str) -> None:
    result = judge("a.example.com", Zone({}, broken=(broken,)), "a.example.com")

    assert (result.code, result.reason) == (DmarcCode.TEMPERROR, Reason.DNS_TIMEOUT)
    assert Domain("example.com") == result.organizational_domain


def test_the_organization_is_not_asked_where_the_author_answers() -> None:
    zone = Zone({"a.example.com": "v=DMARC1; p=reject"}, broken=("_dmarc.example.com",))

    assert DmarcCode.PASS is judge("a.example.com", zone, "b.example.com").code


@pytest.mark.parametrize(
    ("author", "expected"),
    [
        ("a.b.example.com", ("_dmarc.a.b.example.com", "_dmarc.example.com")),
        ("example.com", ("_dmarc.example.com",)),
        ("co.uk", ("_dmarc.co.uk",)),
    ],
)
def test_two_questions_at_most_both_at_once(author: str, expected: tuple[str, ...]) -> None:
    zone = Zone({})
    judge(author, zone, "c.example.com")

    assert expected == names_asked(Domain(author), LIST)
    assert [("prefetch", name) for name in expected] == zone.events[: len(expected)]
    assert list(expected) == zone.asked


@pytest.mark.parametrize(
    ("author", "identifier", "expected"),
    [
        ("news.example.com", "news.example.com", DmarcCode.PASS),
        ("news.example.com", "bounce.example.com", DmarcCode.PASS),
        ("news.example.com", "example.com", DmarcCode.PASS),
        ("example.com", "a.b.c.example.com", DmarcCode.PASS),
        ("example.com", "com", DmarcCode.FAIL),
        ("example.com", "badexample.com", DmarcCode.FAIL),
        ("example.com", "example.com.evil.example", DmarcCode.FAIL),
        ("example.co.uk", "mail.example.co.uk", DmarcCode.PASS),
        ("example.co.uk", "other.co.uk", DmarcCode.FAIL),
        ("example.co.uk", "co.uk", DmarcCode.FAIL),
        ("co.uk", "example.co.uk", DmarcCode.FAIL),
        ("co.uk", "co.uk", DmarcCode.PASS),
    ],
)
def test_organizations(author: str, identifier: str, expected: DmarcCode) -> None:
    """RFC 7489 3.1, 3.2, for either mechanism; psd=n and records half-way change nothing."""
    records = {
        author: "p=reject",
        identifier: "p=none; psd=n",
        LIST.organizational_domain(Domain(author)).name: "p=reject",
    }
    zone = Zone({name: f"v=DMARC1; {tags}" for name, tags in records.items()})
    signature = DkimResult(DkimCode.PASS, Domain(identifier))

    assert expected is judge(author, zone, identifier).code
    assert expected is evaluate(Author(Domain(author)), None, (signature,), zone, LIST).code


@pytest.mark.parametrize(
    ("author", "tags", "published", "policy"),
    [
        ("example.com", "p=reject; sp=none", REJECT, REJECT),
        ("a.example.com", "p=none; sp=reject", REJECT, REJECT),
        ("a.example.com", "p=reject", REJECT, REJECT),
        # what RFC 9989 added is not known: np=, t=
        ("ghost.example.com", "p=reject; np=none; t=y", REJECT, REJECT),
        ("ghost.example.com", "p=none; np=reject", NONE, NONE),
        # a sample counts as one level lower, whoever it would hit
        ("example.com", "p=reject; pct=100", REJECT, REJECT),
        ("example.com", "p=reject; pct=99", REJECT, QUARANTINE),
        ("example.com", "p=reject; pct=0", REJECT, QUARANTINE),
        ("a.example.com", "p=none; sp=quarantine; pct=50", QUARANTINE, NONE),
    ],
)
def test_which_request_applies(author: str, tags: str, published: Request, policy: Request) -> None:
    """RFC 7489 6.3, 6.6.4; nobody asks whether the author domain exists."""
    zone = Zone({"example.com": f"v=DMARC1; {tags}"})
    result = judge(author, zone)

    assert (DmarcCode.FAIL, published, policy) == (result.code, result.published, result.policy)
    assert (policy is not published) is result.testing
    assert all(name.startswith("_dmarc.") for name in zone.asked)


def test_a_sample_is_told() -> None:
    zone = Zone({"example.com": "v=DMARC1; p=reject; pct=5"})

    assert judge("example.com", zone).detail == "p=reject at _dmarc.example.com, tested only (pct=5)"


def test_a_record_that_cannot_be_used() -> None:
    """RFC 7489 6.6.3, step 6: without p= only reports are wanted, if they are."""
    useless = judge(
        "a.example.com", Zone({"a.example.com": "v=DMARC1; sp=reject", "example.com": "v=DMARC1; p=reject"})
    )
    watching = judge("example.com", Zone({"example.com": "v=DMARC1; rua=mailto:r@example.com"}))

    assert (useless.code, useless.reason) == (DmarcCode.PERMERROR, Reason.DMARC_RECORD)
    assert (watching.code, watching.policy) == (DmarcCode.FAIL, NONE)
