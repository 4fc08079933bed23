"""`dmarc.organizational_domain`: by the tree walk, by the public suffix list, or by the first compared with the second."""

import json
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
from dmarc_zone import Suffixes

from filterd.backend.policy_files import load_policy
from filterd.backend.zone import zone_resolver
from filterd.dmarc.org_domain import PublicSuffixes
from filterd.engine.replay import StoredMail, judge
from filterd.engine.runtime import Runtime
from filterd.mail.address import parse_path
from filterd.mail.domain import Domain
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.errors import PolicyErrors
from filterd.policy.explain import explain
from filterd.policy.load import load
from filterd.policy.transcript import Transcript

ZONE = """\
$TTL 300
@                         IN SOA ns.test. h.test. 1 2 3 4 5
bounce.bank.example.      IN TXT "v=spf1 ip4:192.0.2.10 -all"
_dmarc.bank.example.      IN TXT "v=DMARC1; p=reject"
_dmarc.half.shop.example. IN TXT "v=DMARC1; p=reject"
_dmarc.part.example.      IN TXT "v=DMARC1; p=reject; pct=50"
"""
POLICY = """\
version: 1
dmarc: {{ organizational_domain: {} }}
rules: [{{ name: forged, when: dmarc.result == "fail" && dmarc.policy == "reject", then: reject }}]
"""


def read() -> PublicSuffixes:
    return Suffixes()


def judged(mode: str, author: str) -> Transcript:
    """Mail that SPF passes for bounce.bank.example."""
    transcripts: list[Transcript] = []
    policy = load(POLICY.format(mode), "p.yaml", read_suffixes=read)
    resolver = zone_resolver(ZONE)
    sender = ReversePath("x@bounce.bank.example", parse_path("x@bounce.bank.example"))
    recipient = ForwardPath("anna@home.example", None)
    mail = StoredMail(
        f"From: a@{author}\n\ntext\n".encode(), Client(ip_address("192.0.2.10")), "h", sender, (recipient,)
    )
    judge(Runtime(policy, "mx.home.example", lambda _: resolver, transcripts.append), mail)
    return transcripts[-1]


def said(transcript: Transcript) -> tuple[str, str | None]:
    """What rules see, and what the log says of the other reading."""
    assert transcript.results.dmarc
    return transcript.results.dmarc.code.value, transcript.log_line().get("dmarc_psl")


@pytest.mark.parametrize(
    ("author", "by_walk", "by_list", "difference"),
    [
        ("bank.example", "pass", "pass", None),
        ("news.bank.example", "pass", "pass", None),
        ("evil.example", "none", "none", None),
        # neither finds a record: what the organization would be does not matter
        ("www.evil.example", "none", "none", None),
        # the list looks at the organization only, the walk everywhere
        ("a.half.shop.example", "fail", "none", "none:-:shop.example"),
        # the same result, for another organization
        ("half.shop.example", "fail", "fail", "fail:reject:shop.example"),
        # another request
        ("part.example", "fail", "fail", "fail:quarantine:part.example"),
    ],
)
def test_the_readings(author: str, by_walk: str, by_list: str, difference: str | None) -> None:
    assert (by_walk, None) == said(judged("treewalk", author))
    assert (by_list, None) == said(judged("psl", author))
    assert (by_walk, difference) == said(judged("compare", author))


def test_rules_see_the_reading_that_judges() -> None:
    assert [judged(mode, "part.example").verdict.rule for mode in ("treewalk", "psl", "compare")] == [
        "forged",
        None,
        "forged",
    ]


def test_the_transcript_has_both_and_explain_shows_them() -> None:
    transcript = judged("compare", "a.half.shop.example")

    mapping = json.loads(json.dumps(transcript.to_mapping()))["results"]
    assert (mapping["dmarc"]["code"], mapping["dmarc_psl"]["code"]) == ("fail", "none")
    page = explain(transcript).splitlines()
    assert [line.split(",")[:2] for line in page if ", organization" in line] == [
        ["  dmarc     fail       a.half.shop.example", " organization half.shop.example"],
        ["  dmarc psl none       a.half.shop.example", " organization shop.example"],
    ]
    assert "dmarc_psl" not in judged("compare", "bank.example").to_mapping()["results"]


def test_the_list_is_read_only_for_policies_that_need_it() -> None:
    """By default nothing asks for it: here nobody could."""
    assert load("version: 1\n", "p.yaml").suffixes is None
    for mode in ("psl", "compare"):
        with pytest.raises(PolicyErrors) as caught:
            load(POLICY.format(mode), "p.yaml")

        assert str(caught.value) == "p.yaml:2:10: dmarc.organizational_domain: the public suffix list is not read here"


def test_a_missing_library_is_an_error_of_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "publicsuffixlist", None)
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.format("psl"))

    with pytest.raises(PolicyErrors, match=r"policy.yaml:2:10: .* pip install 'filterd\[psl\]'"):
        load_policy(file)
    file.write_text(POLICY.format("treewalk"))
    assert load_policy(file).suffixes is None


def test_a_policy_file_gets_the_real_list(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.format("psl"))

    suffixes = load_policy(file).suffixes

    assert suffixes
    assert Domain("example.co.uk") == suffixes.organizational_domain(Domain("x.y.example.co.uk"))
