"""filterd.dmarc.evaluate: RFC 9989 5.3, each attack beside the honest mail that looks like it."""

import pytest
from dmarc_zone import Zone

from filterd.dkim.verify import DkimCode, DkimResult
from filterd.dmarc.evaluate import DmarcCode, DmarcResult, evaluate, names_to_prefetch
from filterd.dmarc.record import Request
from filterd.mail.domain import Domain
from filterd.mail.message import Author
from filterd.mail.reason import Reason
from filterd.spf.check import SpfCode, SpfIdentity, SpfResult

NONE, QUARANTINE, REJECT = Request
REJECTING = Zone({"example.com": "v=DMARC1; p=reject"})


def spf(domain: str | None, code: SpfCode = SpfCode.PASS, identity: SpfIdentity = SpfIdentity.MAILFROM) -> SpfResult:
    reason = Reason.DNS_SERVFAIL if code is SpfCode.TEMPERROR else None
    return SpfResult(code, identity, Domain(domain) if domain else None, reason=reason)


def dkim(domain: str | None, code: DkimCode = DkimCode.PASS) -> DkimResult:
    reason = Reason.DNS_SERVFAIL if code is DkimCode.TEMPERROR else None
    return DkimResult(code, Domain(domain) if domain else None, reason=reason)


def judge(
    author: str,
    zone: Zone,
    mail_from: SpfResult | None = None,
    *signatures: DkimResult,
) -> DmarcResult:
    return evaluate(Author(Domain(author)), mail_from, signatures, zone)


def test_pass_says_all() -> None:
    expected = DmarcResult(
        DmarcCode.PASS,
        Domain("news.example.com"),
        Domain("example.com"),
        Domain("example.com"),
        policy=QUARANTINE,
        published=QUARANTINE,
        aligned_spf=True,
        aligned_dkim=True,
        detail="sp=quarantine at _dmarc.example.com",
    )
    zone = Zone({"example.com": "v=DMARC1; p=reject; sp=quarantine"})

    assert expected == judge("news.example.com", zone, spf("bounce.example.com"), dkim("example.com"))


def test_fail_says_all() -> None:
    expected = DmarcResult(
        DmarcCode.FAIL,
        Domain("example.com"),
        Domain("example.com"),
        Domain("example.com"),
        policy=QUARANTINE,
        published=REJECT,
        testing=True,
        reason=Reason.DMARC_NOT_ALIGNED,
        detail="p=reject at _dmarc.example.com, tested only (t=y)",
    )
    zone = Zone({"example.com": "v=DMARC1; p=reject; t=y"})

    assert expected == judge("example.com", zone, spf("evil.example"), dkim("evil.example"))


@pytest.mark.parametrize(
    ("mail_from", "signatures", "expected"),
    [
        (None, (), DmarcCode.FAIL),
        # SPF
        (spf("example.com"), (), DmarcCode.PASS),
        (spf("bounce.example.com"), (), DmarcCode.PASS),
        (spf("com"), (), DmarcCode.FAIL),
        (spf("evil.example"), (), DmarcCode.FAIL),
        (spf("badexample.com"), (), DmarcCode.FAIL),
        (spf("example.com.evil.example"), (), DmarcCode.FAIL),
        (spf(None), (), DmarcCode.FAIL),
        (spf("example.com", identity=SpfIdentity.HELO), (), DmarcCode.FAIL),
        *((spf("example.com", code), (), DmarcCode.FAIL) for code in SpfCode if code not in ("pass", "temperror")),
        # DKIM
        (None, (dkim("example.com"),), DmarcCode.PASS),
        (None, (dkim("mail.example.com"),), DmarcCode.PASS),
        (
            None,
            (dkim("evil.example"), dkim(None), dkim("example.com", DkimCode.FAIL), dkim("example.com")),
            DmarcCode.PASS,
        ),
        (None, (dkim("com"),), DmarcCode.FAIL),
        (None, (dkim("evil.example"),), DmarcCode.FAIL),
        (None, (dkim(None),), DmarcCode.FAIL),
        *(
            (None, (dkim("example.com", code),), DmarcCode.FAIL)
            for code in DkimCode
            if code not in ("pass", "temperror")
        ),
        # one is enough
        (spf("evil.example"), (dkim("example.com"),), DmarcCode.PASS),
        (spf("example.com"), (dkim("evil.example"),), DmarcCode.PASS),
        (spf("example.com", SpfCode.FAIL), (dkim("example.com"),), DmarcCode.PASS),
    ],
)
def test_pass_takes_an_aligned_pass(
    mail_from: SpfResult | None, signatures: tuple[DkimResult, ...], expected: DmarcCode
) -> None:
    """RFC 9989 4.4.1, 4.4.2, 5.3.5; HELO never counts (CVE-2019-20790)."""
    assert expected is judge("example.com", REJECTING, mail_from, *signatures).code


@pytest.mark.parametrize(
    ("tags", "aligned_spf", "aligned_dkim"),
    [
        ("", True, True),
        ("; aspf=r; adkim=r", True, True),
        ("; aspf=s", False, True),
        ("; adkim=s", True, False),
        ("; aspf=s; adkim=s", False, False),
    ],
)
def test_strict_and_relaxed(tags: str, aligned_spf: bool, aligned_dkim: bool) -> None:
    zone = Zone({"example.com": "v=DMARC1; p=reject" + tags})

    related = judge("example.com", zone, spf("a.example.com"), dkim("b.example.com"))
    assert (aligned_spf, aligned_dkim) == (related.aligned_spf, related.aligned_dkim)
    same = judge("example.com", zone, spf("example.com"), dkim("example.com"))
    assert (same.aligned_spf, same.aligned_dkim) == (True, True)


@pytest.mark.parametrize(
    ("author", "identifier", "records", "expected"),
    [
        # siblings of one organization
        ("news.example.com", "bounce.example.com", {"example.com": ""}, DmarcCode.PASS),
        ("news.example.com", "bounce.example.com", {"example.com": "", "news.example.com": ""}, DmarcCode.PASS),
        ("news.example.com", "bounce.example.com", {"example.com": "", "bounce.example.com": ""}, DmarcCode.PASS),
        # siblings without a common record are strangers
        ("news.example.com", "bounce.example.com", {"news.example.com": ""}, DmarcCode.FAIL),
        # psd=n cuts an organization off, from either side
        ("news.example.com", "example.com", {"example.com": "", "news.example.com": "psd=n"}, DmarcCode.FAIL),
        ("example.com", "news.example.com", {"example.com": "", "news.example.com": "psd=n"}, DmarcCode.FAIL),
        ("a.news.example.com", "b.news.example.com", {"example.com": "", "news.example.com": "psd=n"}, DmarcCode.PASS),
        # below a public suffix everybody is a stranger (RFC 9989 B.3.3)
        (
            "giant.bank.example",
            "mail.giant.bank.example",
            {"giant.bank.example": "", "bank.example": "psd=y"},
            DmarcCode.PASS,
        ),
        (
            "giant.bank.example",
            "mail.mega.bank.example",
            {"giant.bank.example": "", "bank.example": "psd=y"},
            DmarcCode.FAIL,
        ),
        ("giant.bank.example", "bank.example", {"giant.bank.example": "", "bank.example": "psd=y"}, DmarcCode.FAIL),
        ("bank.example", "giant.bank.example", {"bank.example": "psd=y"}, DmarcCode.FAIL),
        ("bank.example", "bank.example", {"bank.example": "psd=y"}, DmarcCode.PASS),
        # deep names (RFC 9989 B.3.2)
        (
            "a.b.c.d.e.f.g.h.i.j.k.example.com",
            "signing.example.com",
            {"example.com": "", "signing.example.com": ""},
            DmarcCode.PASS,
        ),
        ("example.com", "a.b.c.d.e.f.g.h.i.j.k.example.com", {"example.com": ""}, DmarcCode.PASS),
    ],
)
def test_organizations(author: str, identifier: str, records: dict[str, str], expected: DmarcCode) -> None:
    """RFC 9989 4.10.2, for either mechanism."""
    zone = Zone({name: f"v=DMARC1; p=reject; {tags}" for name, tags in records.items()})

    assert expected is judge(author, zone, spf(identifier)).code
    assert expected is judge(author, zone, None, dkim(identifier)).code


@pytest.mark.parametrize(
    ("author", "records", "policy_domain", "published"),
    [
        ("example.com", {"example.com": "p=reject; sp=none; np=none"}, "example.com", REJECT),
        # a subdomain with a record of its own
        ("news.example.com", {"news.example.com": "p=quarantine; sp=none", "example.com": "p=reject"}, "news.example.com", QUARANTINE),
        # an existing subdomain: sp, else p
        ("news.example.com", {"example.com": "p=reject; sp=quarantine; np=none"}, "example.com", QUARANTINE),
        ("news.example.com", {"example.com": "p=reject; np=none"}, "example.com", REJECT),
        ("news.example.com", {"example.com": "sp=reject"}, "example.com", REJECT),
        # one that exists without an address of its own: only NXDOMAIN tells of none (RFC 9989 3.2.13)
        ("mail.example.com", {"example.com": "p=reject; sp=quarantine; np=none", "a.mail.example.com": "p=none"}, "example.com", QUARANTINE),
        # one that does not exist: np, else sp, else p
        ("ghost.example.com", {"example.com": "p=none; sp=quarantine; np=reject"}, "example.com", REJECT),
        ("ghost.example.com", {"example.com": "p=none; sp=quarantine"}, "example.com", QUARANTINE),
        ("ghost.example.com", {"example.com": "p=reject"}, "example.com", REJECT),
        # not the record half-way, but the organization's
        ("a.news.example.com", {"news.example.com": "p=none", "example.com": "p=reject"}, "example.com", REJECT),
        # psd=n half-way makes that the organization
        ("a.news.example.com", {"news.example.com": "p=none; sp=quarantine; psd=n", "example.com": "p=reject"}, "news.example.com", QUARANTINE),
        # the public suffix speaks for organizations without a record, and for those only
        ("quiet.bank.example", {"bank.example": "p=none; sp=reject; psd=y"}, "bank.example", REJECT),
        ("ghost.bank.example", {"bank.example": "p=none; np=reject; psd=y"}, "bank.example", REJECT),
        ("a.giant.bank.example", {"giant.bank.example": "p=none; sp=quarantine", "bank.example": "p=reject; psd=y"}, "giant.bank.example", QUARANTINE),
        ("bank.example", {"bank.example": "p=quarantine; sp=reject; psd=y"}, "bank.example", QUARANTINE),
        # a record at the top-level domain
        ("example.com", {"com": "p=none; sp=reject; psd=y"}, "com", REJECT),
        ("com", {"com": "p=quarantine; psd=y"}, "com", QUARANTINE),
    ],
)  # fmt: skip
def test_which_request_applies(author: str, records: dict[str, str], policy_domain: str, published: Request) -> None:
    """RFC 9989 4.7, 4.10.1."""
    zone = Zone(
        {name: f"v=DMARC1; {tags}" for name, tags in records.items()},
        hosts=("news.example.com", "a.news.example.com", "quiet.bank.example", "a.giant.bank.example"),
    )
    result = judge(author, zone)

    assert (DmarcCode.FAIL, Domain(policy_domain)) == (result.code, result.policy_domain)
    assert (published, published) == (result.published, result.policy)


@pytest.mark.parametrize(("published", "policy"), [(REJECT, QUARANTINE), (QUARANTINE, NONE), (NONE, NONE)])
def test_policy_that_is_only_tested(published: Request, policy: Request) -> None:
    """RFC 9989 4.7, t=."""
    zone = Zone({"example.com": f"v=DMARC1; p=none; sp={published}; t=y"})
    result = judge("news.example.com", zone)

    assert (published, policy, True) == (result.published, result.policy, result.testing)


@pytest.mark.parametrize(
    ("author", "tags", "expected"),
    [
        ("a.example.com", "p=none; np=reject", True),
        ("a.example.com", "p=none; sp=none; np=reject", True),
        ("a.example.com", "p=reject; np=reject", False),
        ("a.example.com", "p=none; sp=reject", False),
        ("example.com", "p=none; np=reject", False),
    ],
)
def test_existence_is_asked_only_where_it_matters(author: str, tags: str, expected: bool) -> None:
    zone = Zone({"example.com": f"v=DMARC1; {tags}"})
    judge(author, zone)

    assert expected is (author in zone.asked)


@pytest.mark.parametrize(
    "records",
    [
        {},
        {"example.com": "v=spf1 -all"},
        {"example.com": ["v=DMARC1; p=reject", "v=DMARC1; p=reject"]},
        {"other.com": "v=DMARC1; p=reject"},
    ],
)
def test_no_record(records: dict[str, str | list[str]]) -> None:
    expected = DmarcResult(
        DmarcCode.NONE,
        Domain("example.com"),
        organizational_domain=Domain("example.com"),
        reason=Reason.DMARC_NO_RECORD,
    )

    assert expected == judge("example.com", Zone(records), spf("example.com"), dkim("example.com"))


def test_two_records_at_the_author_domain_leave_the_organization_in_charge() -> None:
    zone = Zone({"a.example.com": ["v=DMARC1; p=none"] * 2, "example.com": "v=DMARC1; p=reject"})

    assert Domain("example.com") == judge("a.example.com", zone).policy_domain


def test_record_that_cannot_be_used() -> None:
    """RFC 9989 4.10.1: it is not replaced by the organization's."""
    zone = Zone({"a.example.com": "v=DMARC1; p=block", "example.com": "v=DMARC1; p=reject"})
    result = judge("a.example.com", zone, spf("a.example.com"))

    assert (result.code, result.reason) == (DmarcCode.PERMERROR, Reason.DMARC_RECORD)
    assert (Domain("a.example.com"), None) == (result.policy_domain, result.policy)


@pytest.mark.parametrize("reason", [Reason.AUTHOR_MISSING, Reason.AUTHOR_SEVERAL, Reason.AUTHOR_MALFORMED, None])
def test_without_author_domain_nothing_passes(reason: Reason | None) -> None:
    """RFC 9989 5.3.1, 11.5."""
    zone = Zone({"example.com": "v=DMARC1; p=reject"})
    result = evaluate(Author(None, reason=reason), spf("example.com"), (dkim("example.com"),), zone)

    assert DmarcResult(DmarcCode.PERMERROR, None, reason=reason or Reason.DMARC_NO_AUTHOR) == result
    assert zone.asked == []


class TestFailingDns:
    """RFC 9989 5.3.6: what could not be asked makes neither a pass nor a failure."""

    @pytest.mark.parametrize(
        ("author", "broken", "mail_from", "expected"),
        [
            # the author domain's own record: nothing can be said
            ("example.com", "_dmarc.example.com", "example.com", DmarcCode.TEMPERROR),
            ("example.com", "_dmarc.example.com", "evil.example", DmarcCode.TEMPERROR),
            # the record is known, and the same domain needs no walk
            ("example.com", "_dmarc.com", "example.com", DmarcCode.PASS),
            # whether it is the same organization cannot be said
            ("example.com", "_dmarc.com", "mail.example.com", DmarcCode.TEMPERROR),
            ("example.com", "_dmarc.mail.example.com", "mail.example.com", DmarcCode.TEMPERROR),
            # a stranger is one whatever is found
            ("example.com", "_dmarc.com", "evil.example", DmarcCode.FAIL),
            ("example.com", "_dmarc.evil.example", "evil.example", DmarcCode.FAIL),
            # the governing record is not known
            ("a.example.com", "_dmarc.a.example.com", "a.example.com", DmarcCode.TEMPERROR),
            ("a.example.com", "_dmarc.com", "a.example.com", DmarcCode.TEMPERROR),
        ],
    )
    def test_of_dmarc(self, author: str, broken: str, mail_from: str, expected: DmarcCode) -> None:
        result = judge(author, Zone({"example.com": "v=DMARC1; p=reject"}, broken=(broken,)), spf(mail_from))

        assert expected is result.code
        if expected is DmarcCode.TEMPERROR:
            assert Reason.DNS_TIMEOUT is result.reason

    def test_strict_alignment_needs_no_walk(self) -> None:
        zone = Zone({"example.com": "v=DMARC1; p=reject; aspf=s"}, broken=("_dmarc.com",))

        assert DmarcCode.FAIL is judge("example.com", zone, spf("mail.example.com")).code

    @pytest.mark.parametrize(
        ("domain", "expected"),
        [
            ("example.com", DmarcCode.TEMPERROR),
            ("mail.example.com", DmarcCode.TEMPERROR),
            ("evil.example", DmarcCode.FAIL),
        ],
    )
    def test_of_spf_or_dkim(self, domain: str, expected: DmarcCode) -> None:
        """They might have passed: that matters if they are aligned, and nothing else is."""
        for mail_from, signature in (
            (spf(domain, SpfCode.TEMPERROR), dkim("evil.example")),
            (spf("evil.example"), dkim(domain, DkimCode.TEMPERROR)),
        ):
            assert expected is judge("example.com", REJECTING, mail_from, signature).code
            assert DmarcCode.PASS is judge("example.com", REJECTING, mail_from, signature, dkim("example.com")).code

    def test_of_the_existence_test(self) -> None:
        """np or sp: only a failure needs to know."""
        zone = Zone({"example.com": "v=DMARC1; p=none; np=reject"}, broken=("a.example.com",))

        assert DmarcCode.TEMPERROR is judge("a.example.com", zone, spf("evil.example")).code
        assert DmarcCode.PASS is judge("a.example.com", zone, spf("a.example.com")).code


class TestQuestions:
    """What may be asked, and when."""

    def test_names_to_prefetch_are_those_of_the_walk(self) -> None:
        zone = Zone({})
        judge("a.example.com", zone)

        assert zone.asked == list(names_to_prefetch(Domain("a.example.com"), None, ()))

    def test_strangers_and_the_author_cost_nothing(self) -> None:
        """Ten signatures of ten strangers: no question beyond the author's walk."""
        zone = Zone({"example.com": "v=DMARC1; p=reject"})
        judge("example.com", zone, spf("example.com"), *(dkim(f"evil{number}.example") for number in range(10)))

        assert zone.asked == ["_dmarc.example.com", "_dmarc.com"]

    def test_an_identifier_costs_one_walk_however_often_it_comes(self) -> None:
        zone = Zone({"example.com": "v=DMARC1; p=reject", "a.example.com": "v=DMARC1; psd=n"})
        judge("example.com", zone, spf("a.example.com"), dkim("a.example.com"), dkim("a.example.com"))

        assert zone.asked == ["_dmarc.example.com", "_dmarc.com", "_dmarc.a.example.com"]

    def test_walks_of_identifiers_begin_together(self) -> None:
        zone = Zone({"example.com": "v=DMARC1; p=reject"})
        judge("example.com", zone, spf("x.evil.example"), dkim("a.example.com"), dkim("b.example.com"))

        first_walk = zone.events.index(("lookup", "_dmarc.a.example.com"))
        assert zone.events.index(("prefetch", "_dmarc.b.example.com")) < first_walk
        assert "_dmarc.x.evil.example" not in zone.prefetched
